import numpy as np
import pytest

from tfopt.config.schema import Data
from tfopt.data.load import load_data
from tfopt.data.split import ArraySplit, StreamSplit
from tfopt.errors import DataError


def test_text_labels_keep_their_number_when_a_class_is_missing(own):
    path = own(
        "def load():\n"
        "    return ((np.zeros((6, 3)), ['a', 'b', 'c'] * 2), (np.zeros((2, 3)), ['c', 'b']))\n"
    )
    data = load_data(Data(source=path), seed=0)
    assert data.class_names == ("a", "b", "c")
    assert data.evaluation.labels.tolist() == [2, 1]
    assert data.classes == 3


LABELS = {
    "one-hot": ("np.eye(3)[np.arange(30) % 3]", "auto", 3),
    "column": ("(np.arange(30) % 3)[:, None]", "auto", 3),
    "booleans": ("np.arange(30) % 2 == 0", "auto", 2),
    "floats as classes": ("(np.arange(30) % 3).astype('f4')", "classification", 3),
    "amounts as classes": ("np.arange(30) % 2 * 5000", "classification", 5001),
    "one class": ("np.zeros(30, int)", "auto", 1),
    "floats": ("np.arange(30) / 7", "auto", None),
    "whole floats": ("np.arange(30.0)", "auto", None),
    "float column": ("np.arange(30.0)[:, None]", "auto", None),
    "integers as numbers": ("np.arange(30) - 10", "regression", None),
}


@pytest.mark.parametrize("kind", ["arrays", "stream"])
@pytest.mark.parametrize("name", LABELS)
def test_labels_come_in_one_form(own, name, kind):
    expression, task, classes = LABELS[name]
    data = f"np.arange(30, dtype='f4')[:, None], {expression}"
    if kind == "stream":
        data = f"tf.data.Dataset.from_tensor_slices(({data})).batch(4)"
    path = own(f"def load():\n    return {data}\n")
    settings = Data(source=path, task=task, cache="never", evaluation_fraction=0.3)
    loaded = load_data(settings, seed=0)
    assert loaded.classes == classes
    assert isinstance(loaded.train, StreamSplit if kind == "stream" else ArraySplit)
    wanted = eval(expression)
    wanted = wanted.argmax(1) if name == "one-hot" else wanted
    for split in (loaded.train, loaded.evaluation):
        for inputs, labels in split.numpy_batches(100):
            assert labels.dtype == (np.float32 if classes is None else np.int64)
            truth = wanted[inputs[:, 0].astype(int)]
            assert np.allclose(labels.ravel(), truth.ravel().astype(float))
            assert classes is None or labels.ndim == 1


def test_regression_of_classes_is_refused(own):
    with pytest.raises(DataError, match="data.task is regression, but 'digits' has classes"):
        load_data(Data(source="digits", task="regression"), seed=0)
    path = own("def load():\n    return np.zeros((4, 3)), ['a', 'b', 'a', 'b']\n")
    with pytest.raises(DataError, match="task is regression, but the labels are text"):
        load_data(Data(source=path, task="regression"), seed=0)
    path = own("def load():\n    return np.zeros((4, 3)), [0.5, 1.5, 2.5, 3.5]\n")
    message = r"whole numbers from 0.* such as 0\.5, 1\.5.* to predict, set data\.task: regression"
    with pytest.raises(DataError, match=message):
        load_data(Data(source=path, task="classification"), seed=0)
