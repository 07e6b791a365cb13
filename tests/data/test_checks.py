import numpy as np
import pytest

from tfopt.data.checks import as_input_arrays, as_label_arrays, check_lengths, named_leaves
from tfopt.data.split import split_from
from tfopt.errors import DataError


def test_lists_of_numbers_and_of_arrays_are_told_apart():
    assert as_input_arrays([[1, 2], [3, 4]], "x").shape == (2, 2)
    pair = as_input_arrays([np.zeros((2, 3)), np.zeros((2, 1))], "x")
    assert [array.shape for array in pair] == [(2, 3), (2, 1)]
    rows = as_input_arrays({"b": [1.0, 2.0], "a": (3, 4)}, "x")
    assert list(rows) == ["a", "b"]
    assert rows["b"].dtype == np.float32


def test_labels_of_several_outputs_stay_nested():
    labels, names = as_label_arrays({"kind": np.zeros(3, np.uint8), "size": np.ones(3)}, "y")
    assert names is None
    assert (labels["kind"].dtype, labels["size"].dtype) == (np.int64, np.float32)


def test_text_of_several_columns_is_refused():
    with pytest.raises(DataError, match=r"one a row. Received: shape \(1, 2\)"):
        as_label_arrays([["a", "b"]], "y")


def test_bytes_and_text_name_the_same_class():
    labels, names = as_label_arrays(np.array([b"b", b"a"]), "y")
    assert (labels.tolist(), names) == ([1, 0], ("a", "b"))


def test_lengths_name_the_part():
    nested = {"b": (np.zeros(2), np.zeros(3)), "a": np.zeros(2)}
    with pytest.raises(DataError, match=r"x\['a'\] 2, x\['b'\]\[0\] 2, x\['b'\]\[1\] 3"):
        check_lengths({"x": nested})
    assert [name for name, _ in named_leaves((1, {"k": 2}), "x")] == ["x[0]", "x[1]['k']"]


def test_nan_is_counted_far_into_a_large_array(monkeypatch):
    monkeypatch.setattr("tfopt.data.checks._BLOCK_ENTRIES", 10)
    data = np.zeros((100, 3), np.float32)
    data[57, 1] = data[80] = np.nan
    with pytest.raises(DataError, match="4 of 300 entries .* first in row 57"):
        split_from(data)
