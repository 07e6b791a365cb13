"""Arguments of a call keep their kinds and types through JSON."""

from __future__ import annotations

import json
from typing import Any

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf

from tfopt.bridge.to_tf_keras.call_arguments import (
    as_shapes,
    decode,
    encode,
    symbolic,
    with_static_shapes,
)
from tfopt.errors import ModelError
from tfopt.keras2.core import keras as keras2


def _through_json(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    pattern, tensors = encode("Layer 'x'", args, kwargs)
    return decode(json.loads(json.dumps(pattern)), tensors)


def test_every_kind_comes_back() -> None:
    tensor = keras2.Input((3,))
    given = [tensor, None, True, 2, 0.1, "same", (1, [2]), {"a": tensor, 3: 4}, Ellipsis]
    args, kwargs = _through_json(*given, key=(slice(None), slice(1, None, -1)))
    assert args[1:7] == given[1:7]
    assert isinstance(args[6], tuple)
    assert args[0] is tensor
    assert args[7]["a"] is tensor
    assert args[7][3] == 4
    assert args[8] is Ellipsis
    assert kwargs == {"key": (slice(None), slice(1, None, -1))}


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "bool", "bfloat16", "complex64"])
@pytest.mark.parametrize("shape", [(), (2, 3), (0, 2)])
def test_arrays_keep_type_and_shape(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.ones(shape, tf.as_dtype(dtype).as_numpy_dtype)
    (got, tensor), _ = _through_json(array, tf.constant(array))
    assert isinstance(got, np.ndarray)
    assert (got.dtype, got.shape) == (array.dtype, array.shape)
    assert isinstance(tensor, tf.Tensor)
    np.testing.assert_array_equal(got, array)


def test_numpy_scalars_are_no_python_numbers() -> None:
    (half, double), _ = _through_json(np.float16(0.1), np.float64(0.1))
    assert type(half) is np.float16
    assert type(double) is np.float64


def test_a_tensor_given_twice_is_passed_once() -> None:
    tensor, other = keras2.Input((3,)), keras2.Input((2,), dtype="int32")
    pattern, tensors = encode("Layer 'x'", [[tensor, other, tensor]], {})
    assert len(tensors) == 2
    assert pattern["dtypes"] == ["float32", "int32"]


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (keras3.Variable([1.0], name="kernel"), r"Layer 'x'.*'kernel'.*tied weights"),
        (tf.Variable([1.0], name="bias"), r"'bias:0'.*tied weights"),
        (len, r"Layer 'x' is called on the Python function 'len'"),
        (object(), r"a builtins\.object"),
        (np.array(["a"]), r"array of <U1.*numbers"),
        (keras3.KerasTensor((2,)), r"KerasTensor"),
    ],
)
def test_what_cannot_be_saved_is_refused(value: Any, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        encode("Layer 'x'", [[value]], {})


def test_shapes_of_one_or_several_tensors() -> None:
    assert as_shapes((None, 3), 1) == [(None, 3)]
    assert as_shapes(tf.TensorShape([None, 3]), 1) == [(None, 3)]
    assert as_shapes([[None, 3]], 1) == [(None, 3)]
    assert as_shapes([tf.TensorShape([2]), tf.TensorShape([])], 2) == [(2,), ()]
    assert as_shapes((), 1) == [()]


def test_symbolic_arguments_have_shape_and_type() -> None:
    pattern, _ = encode("Layer 'x'", [keras2.Input((3,), dtype="int32")], {"n": 2})
    (tensor,), kwargs = symbolic(pattern, (None, 3))
    assert (tensor.shape, tensor.dtype, kwargs) == ((None, 3), "int32", {"n": 2})


def test_static_shapes_are_added_only_where_they_fit() -> None:
    @tf.function(input_signature=[tf.TensorSpec(None)])
    def traced(x: Any) -> Any:
        fitting = with_static_shapes(tf.identity(x), lambda: keras3.KerasTensor((None, 3)))
        assert fitting.shape.as_list() == [None, 3]
        kept = with_static_shapes(fitting * 1, lambda: keras3.KerasTensor((None, 3)))
        return kept

    assert traced(np.ones((2, 3), "float32")).shape == (2, 3)
    wrong = with_static_shapes([np.ones((2, 3))], lambda: pytest.fail("not needed"))
    assert wrong[0].shape == (2, 3)
