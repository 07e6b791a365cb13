import numpy as np

from tfopt.config.schema import Data
from tfopt.data.load import load_data


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
