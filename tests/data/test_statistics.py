import numpy as np
import pytest

from tfopt.data.statistics import input_statistics
from tfopt.errors import DataError


def test_agrees_with_numpy_block_by_block(monkeypatch):
    monkeypatch.setattr("tfopt.data.statistics._BLOCK_ENTRIES", 10)
    array = np.random.default_rng(0).normal(3, 2, (37, 2, 2)).astype(np.float32)
    found = input_statistics(array)
    assert found.mean == pytest.approx(array.astype(np.float64).mean())
    assert found.std == pytest.approx(array.astype(np.float64).std())
    assert (found.min, found.max, found.rows) == (array.min(), array.max(), 37)


def test_large_values_of_small_spread_keep_their_precision():
    array = np.full(1000, 1e7, np.float32)
    array[::2] += 2
    assert input_statistics(array).std == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool])
def test_integers_and_booleans(dtype):
    found = input_statistics(np.array([[0], [1]], dtype))
    assert (found.mean, found.std, found.min, found.max) == (0.5, 0.5, 0.0, 1.0)


@pytest.mark.parametrize("array", [np.zeros((0, 3)), np.zeros((3, 0)), np.float32(1)])
def test_nothing_to_summarise(array):
    with pytest.raises(DataError, match="no entries"):
        input_statistics(np.asarray(array))
