import numpy as np
import pytest
import tensorflow as tf

from tfopt.config.schema import Augment, Data
from tfopt.data import bundle
from tfopt.data.bundle import load_data
from tfopt.data.split import ArraySplit, StreamSplit
from tfopt.errors import DataError, ExitCode, InputError


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that makes a module of the user's and gives its dotted path."""
    monkeypatch.chdir(tmp_path)

    def make(body, function="load"):
        name = f"own_data_{len(list(tmp_path.iterdir()))}_{tmp_path.name.replace('-', '_')}"
        head = "import numpy as np\nimport tensorflow as tf\n"
        (tmp_path / f"{name}.py").write_text(head + body)
        return f"{name}:{function}"

    return make


def test_mnist5k_has_its_documented_split():
    data = load_data(Data(source="mnist5k"), seed=5)
    assert (data.train.examples, data.evaluation.examples) == (4000, 1000)
    assert data.validation is None
    assert data.input_shape == (28, 28, 1)
    assert data.classes == 10
    assert data.class_names == tuple("0123456789")
    assert np.bincount(data.train.labels).tolist() == [400] * 10
    assert np.bincount(data.evaluation.labels).tolist() == [100] * 10
    assert data.train.labels.dtype == np.int64
    assert data.train.inputs.dtype == np.float32
    (statistics,) = data.train.statistics()
    assert (statistics.min, statistics.max) == (0.0, 1.0)
    both = np.concatenate([data.train.inputs, data.evaluation.inputs]).reshape(5000, -1)
    assert len(np.unique(both, axis=0)) > 4990


def test_digits_split_does_not_depend_on_the_seed():
    first, second = (load_data(Data(source="digits"), seed=seed) for seed in (1, 2))
    assert np.array_equal(first.evaluation.inputs, second.evaluation.inputs)
    assert (first.train.examples, first.evaluation.examples) == (1438, 359)
    assert first.input_shape == (8, 8, 1)
    assert first.train.inputs.max() == 1.0
    assert np.bincount(first.evaluation.labels).min() >= 34


def test_validation_and_limit_are_seeded_stratified_and_disjoint():
    settings = Data(source="digits", limit=500, validation_fraction=0.2)
    data = load_data(settings, seed=1)
    assert (data.train.examples, data.validation.examples) == (400, 100)
    assert data.evaluation.examples == 359
    assert np.ptp(np.bincount(data.validation.labels)) <= 1
    rows = {row.tobytes() for row in data.train.inputs}
    assert not rows & {row.tobytes() for row in data.validation.inputs}
    again = load_data(settings, seed=1)
    assert np.array_equal(data.validation.inputs, again.validation.inputs)
    other = load_data(settings, seed=2)
    assert not np.array_equal(data.validation.inputs, other.validation.inputs)


def test_unknown_source_has_a_suggestion():
    with pytest.raises(InputError, match="No data source is named 'mnist'. Did you mean 'mnist5k'"):
        load_data(Data(source="mnist"), seed=0)


def test_arguments_of_a_built_in_source_are_refused():
    with pytest.raises(DataError, match="takes none. Remove: size"):
        load_data(Data(source="digits", arguments={"size": 3}), seed=0)


def test_augmentation_is_checked_before_training(own):
    path = own("def load():\n    return np.zeros((20, 3)), np.arange(20) % 2\n")
    with pytest.raises(DataError, match="exactly one image input"):
        load_data(Data(source=path, augment=Augment(shift=0.1)), seed=0)


def test_own_arrays_are_divided_in_proportion(own):
    path = own(
        "def load(rows, width=3):\n"
        "    return np.arange(rows * width).reshape(rows, width), np.sort(np.arange(rows) % 4)\n"
    )
    settings = Data(source=path, arguments={"rows": 40}, evaluation_fraction=0.25)
    data = load_data(settings, seed=0)
    assert data.evaluation.examples == 10
    assert np.ptp(np.bincount(data.evaluation.labels)) <= 1
    assert data.classes == 4
    assert data.input_shape == (3,)
    assert set(data.train.inputs[:, 0]) | set(data.evaluation.inputs[:, 0]) == set(range(0, 120, 3))


@pytest.mark.parametrize(
    "returned",
    [
        "((x, y), (x[:5], y[:5]))",
        "{'train': (x, y), 'evaluation': (x[:5], y[:5])}",
        "(dataset(x, y), dataset(x[:5], y[:5]))",
    ],
)
def test_own_function_may_return_its_evaluation(own, returned):
    path = own(
        "def dataset(*parts):\n"
        "    return tf.data.Dataset.from_tensor_slices(parts).batch(4)\n"
        "def load():\n"
        "    x, y = np.zeros((20, 3), np.float32), np.arange(20) % 2\n"
        f"    return {returned}\n"
    )
    data = load_data(Data(source=path), seed=0)
    assert (data.train.examples, data.evaluation.examples) == (20, 5)
    assert data.classes == 2
    assert isinstance(data.train, ArraySplit)


def test_own_dict_may_name_classes_and_validation(own):
    path = own(
        "def load():\n"
        "    x, y = np.arange(20.0)[:, None], np.array(['no', 'yes'] * 10)\n"
        "    return {'train': (x, y), 'validation': (x[:4], y[:4]), 'classes': ['yes', 'no']}\n"
    )
    data = load_data(Data(source=path), seed=0)
    assert data.class_names == ("yes", "no")
    assert np.array_equal(data.train.labels, (data.train.inputs[:, 0] + 1) % 2)
    assert data.validation.labels.tolist() == [1, 0, 1, 0]


def test_text_labels_keep_their_number_when_a_class_is_missing(own):
    path = own(
        "def load():\n"
        "    return ((np.zeros((6, 3)), ['a', 'b', 'c'] * 2), (np.zeros((2, 3)), ['c', 'b']))\n"
    )
    data = load_data(Data(source=path), seed=0)
    assert data.class_names == ("a", "b", "c")
    assert data.evaluation.labels.tolist() == [2, 1]
    assert data.classes == 3


OWN_FAILURES = {
    "raises": ("def load():\n    return {}['cat']\n", {}, "failed: KeyError: 'cat'"),
    "wrong argument": (
        "def load(rows):\n    return rows\n",
        {"row": 3},
        r"data.arguments \(row\): .*accepts \(rows\)",
    ),
    "missing argument": ("def load(rows):\n    return rows\n", {}, "missing a required argument"),
    "none": (
        "def load():\n    return None\n",
        {},
        "returned no training data",
    ),
    "no training": ("def load():\n    return {'train': None}\n", {}, "no training data"),
    "unknown key": (
        "def load():\n    return {'train': None, 'evalution': None}\n",
        {},
        "'evalution'. Did you mean 'evaluation'",
    ),
    "no labels": ("def load():\n    return np.zeros((20, 3))\n", {}, "train data has no labels"),
    "classes": (
        "def load():\n    return {'train': (np.zeros((9, 3)), np.arange(9)), 'classes': 5}\n",
        {},
        "A label is 8, but there are 5 classes",
    ),
    "classes kind": (
        "def load():\n    return {'train': (np.zeros((9, 3)), np.arange(9)), 'classes': 'x'}\n",
        {},
        "number or a list of names",
    ),
    "shapes differ": (
        "def load():\n    y = np.arange(4) % 2\n"
        "    return ((np.zeros((4, 3)), y), (np.zeros((4, 2)), y))\n",
        {},
        r"training example has shape \(3,\), one evaluation example \(2,\)",
    ),
    "mixed labels": (
        "def load():\n    x = np.zeros((2, 3))\n    return ((x, ['a', 'b']), (x, [0, 1]))\n",
        {},
        "train: text, evaluation: numbers",
    ),
    "kinds differ": (
        "def load():\n    x = np.zeros((2, 3))\n    return ((x, [0, 1]), (x, [0.5, 1.5]))\n",
        {},
        "train: 2 classes, evaluation: numbers",
    ),
    "negative": (
        "def load():\n    return np.zeros((4, 3)), np.array([-1, 1, -1, 1])\n",
        {},
        "whole numbers from 0.*values such as -1, 1",
    ),
    "unclear": (
        "def load():\n    return np.zeros((4, 3)), np.array([25000, 31000, 47000, 52000])\n",
        {},
        "Set data.task",
    ),
    "multi-label": (
        "def load():\n    return np.zeros((4, 3)), np.array([[1, 1], [0, 0], [1, 0], [0, 1]])\n",
        {},
        "Set data.task",
    ),
    "one row": (
        "def load():\n    return np.zeros((1, 3)), [0]\n",
        {},
        "1 example cannot be divided",
    ),
    "unknown class": (
        "def load():\n"
        "    return {'train': (np.zeros((2, 3)), ['cat', 'dogg']), 'classes': ['cat', 'dog']}\n",
        {},
        "'dogg' is not a class. Did you mean 'dog'",
    ),
}


@pytest.mark.parametrize("name", OWN_FAILURES)
def test_failures_of_an_own_function_are_named(own, name):
    body, arguments, message = OWN_FAILURES[name]
    with pytest.raises(DataError, match=message) as caught:
        load_data(Data(source=own(body), arguments=arguments), seed=0)
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    assert "\n" not in str(caught.value)


def test_own_object_that_is_no_function(own):
    with pytest.raises(DataError, match="is not a function. Received: int"):
        load_data(Data(source=own("load = 3\n")), seed=0)
    with pytest.raises(InputError, match="has no 'laod'. Did you mean 'load'"):
        load_data(Data(source=own("load = 3\n", function="laod")), seed=0)


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
    with pytest.raises(DataError, match="whole numbers from 0"):
        load_data(Data(source=path, task="classification"), seed=0)


SHUFFLED = (
    "def load():\n"
    "    rows = np.arange(200, dtype='f4')[:, None], np.arange(200) % 2\n"
    "    return tf.data.Dataset.from_tensor_slices(rows).shuffle(200).batch(10)\n"
)


def test_rows_held_out_of_a_shuffling_pipeline_are_never_trained_on(own):
    data = load_data(Data(source=own(SHUFFLED), validation_fraction=0.2), seed=0)
    seen = [
        {float(value) for inputs, _ in split.numpy_batches(50) for value in inputs[:, 0]}
        for split in (data.train, data.evaluation, data.validation)
    ]
    assert [len(rows) for rows in seen] == [128, 40, 32]
    assert seen[0] | seen[1] | seen[2] == set(range(200))
    with pytest.raises(DataError, match="rows cannot be held out of it"):
        load_data(Data(source=own(SHUFFLED), cache="never"), seed=0)


def test_cache_policy(own, monkeypatch):
    stable = own(SHUFFLED.replace(".shuffle(200)", ""))
    assert isinstance(load_data(Data(source=stable), seed=0).train, ArraySplit)
    assert isinstance(load_data(Data(source=stable, cache="never"), seed=0).train, StreamSplit)
    monkeypatch.setattr(bundle, "CACHE_LIMIT_BYTES", 100)
    assert isinstance(load_data(Data(source=stable), seed=0).train, StreamSplit)
    assert isinstance(load_data(Data(source=stable, cache="always"), seed=0).train, ArraySplit)


def test_a_pipeline_that_augments_is_not_frozen_but_evaluation_is(own):
    path = own(SHUFFLED.replace("return ", "data = ") + "    return data, data\n")
    data = load_data(Data(source=path), seed=0)
    assert isinstance(data.train, StreamSplit)
    assert isinstance(data.evaluation, ArraySplit)


def test_endless_own_dataset_is_refused(own):
    path = own(SHUFFLED.replace(".batch(10)", ".batch(10).repeat()"))
    with pytest.raises(DataError, match="never ends"):
        load_data(Data(source=path), seed=0)


def test_several_inputs_have_nested_shapes(own):
    path = own(
        "def load():\n"
        "    return {'a': np.zeros((20, 3)), 'b': np.zeros((20, 2, 2))}, np.arange(20) % 2\n"
    )
    data = load_data(Data(source=path), seed=0)
    assert data.input_shape == {"a": (3,), "b": (2, 2)}
    assert tf.nest.flatten(data.train.input_spec)[1].shape == (2, 2)
