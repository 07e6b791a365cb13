import numpy as np
import pytest

from tfopt.errors import DataError
from tfopt.runtimes.litert.tensors import TensorInfo, prepare_input, quantize, random_input

INT8 = TensorInfo("x", (None, 2), "int8", 0.5, 3)


def test_halves_round_away_from_zero_and_ends_saturate():
    values = np.array([0.25, -0.25, 0.75, 1e9, -1e9])
    np.testing.assert_array_equal(quantize(values, INT8), [4, 2, 5, 127, -128])


def test_infinity_is_refused():
    with pytest.raises(DataError, match="int8 lacks"):
        quantize(np.array([np.inf]), INT8)


def test_uint8_and_int16_ranges():
    values = np.array([-1.0, 300.0])
    uint8 = TensorInfo("x", (2,), "uint8", 1.0, 0)
    int16 = TensorInfo("x", (2,), "int16", 1.0, 0)
    np.testing.assert_array_equal(quantize(values, uint8), [0, 255])
    np.testing.assert_array_equal(quantize(values, int16), [-1, 300])


def test_integers_and_booleans_become_floats():
    info = TensorInfo("x", (None, 2), "float32")
    assert prepare_input(info, np.array([[1, 2]])).dtype == np.float32
    assert prepare_input(info, np.array([[True, False]])).dtype == np.float32


def test_free_axes_take_any_size():
    info = TensorInfo("x", (None, None, 3), "float32")
    assert prepare_input(info, np.zeros((2, 9, 3))).shape == (2, 9, 3)
    with pytest.raises(DataError, match=r"\(rows, any, 3\)"):
        prepare_input(info, np.zeros((2, 9, 4)))


def test_a_scalar_input_is_refused():
    with pytest.raises(DataError, match=r"Received: float64 of shape \(\)"):
        prepare_input(TensorInfo("x", (), "float32"), np.float64(1))


def test_random_integers_are_indices_unless_quantized():
    generator = np.random.default_rng(0)
    plain = random_input(TensorInfo("ids", (None, 50), "int32"), generator, (2, 1))
    quantized = random_input(TensorInfo("x", (None, 50), "int8", 0.1, 0), generator, (2, 1))
    assert plain.shape == (2, 50)
    assert not plain.any()
    assert len(np.unique(quantized)) > 10
