"""TensorFlow operators of a tf_keras graph (``x + 1``, ``x[:, 0]``) as ``keras.ops``.

tf_keras wraps each operator in a ``TFOpLambda`` layer, which names a TensorFlow symbol.
Each function below has the argument names of that symbol, so that a call binds to it
by name whatever the user wrote by position; an argument that it lacks is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.bridge.keras3 import keras as keras3
from tfopt.errors import ModelError
from tfopt.keras2.core import Layer
from tfopt.registry import did_you_mean

ops = keras3.ops

Operation = Callable[..., Any]


def operation_for(layer: Layer) -> Operation:
    """Return a function that does in Keras 3 what an operator layer does.

    Args:
        layer: A ``TFOpLambda`` or ``SlicingOpLambda`` layer of tf_keras.

    Returns:
        A function of the layer's own call arguments, Keras 3 tensors in place of those
        of tf_keras.

    Raises:
        ModelError: If ``keras.ops`` has no operation of the same meaning here.
    """
    symbol = str(layer.symbol).removeprefix("compat.v1.")
    operation = OPERATIONS.get(symbol)
    if operation is None:
        raise ModelError(
            f"Layer {layer.name!r} calls tf.{layer.symbol}, which has no twin among keras.ops that "
            f"tfopt knows.{did_you_mean(symbol, OPERATIONS)} Replace the call by a layer or by one "
            "of the usual TensorFlow functions (arithmetic, shapes, reductions, activations)."
        )

    def call(*args: Any, **kwargs: Any) -> Any:
        return operation(**_bound(layer, operation, args, kwargs))

    return call


def _bound(
    layer: Layer, operation: Operation, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the call arguments under the names of the TensorFlow symbol.

    Raises:
        ModelError: Naming the first argument that is set and that the twin lacks.
    """
    signature = inspect.signature(layer.function)
    given = signature.bind(*args, **kwargs).arguments
    known = inspect.signature(operation).parameters
    bound: dict[str, Any] = {}
    for name, value in given.items():
        if name in known:
            bound[name] = _plain(value)
        elif name != "name" and not _is_default(value, signature.parameters[name].default):
            raise ModelError(
                f"Layer {layer.name!r} calls tf.{layer.symbol} with {name}={value!r}, which "
                "keras.ops cannot say. Leave that argument out."
            )
    return bound


def _is_default(value: Any, default: Any) -> bool:
    return value is None or value is False or value is default or bool(value == default)


def _plain(value: Any) -> Any:
    """Return constants as numbers or NumPy arrays, which a ``.keras`` file can hold.

    A number takes the type of the tensor beside it in Keras 3, as TensorFlow's own
    constant did: both sides of an operator have one type there.
    """
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, (tf.Tensor, np.ndarray, np.generic)):
        array = np.asarray(value)
        return array.item() if array.ndim == 0 else array
    return value


def _unary(function: Operation, name: str = "x") -> Operation:
    """Return ``function`` with TensorFlow's name for its one argument."""

    def call(**given: Any) -> Any:
        return function(given[name])

    return _with_names(call, name)


def _binary(function: Operation, names: tuple[str, str] = ("x", "y")) -> Operation:
    def call(**given: Any) -> Any:
        return function(*(given[name] for name in names))

    return _with_names(call, *names)


def _with_names(call: Operation, *names: str) -> Operation:
    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # any function has it
    return call


def _reduction(function: Operation) -> Operation:
    def call(*, input_tensor: Any, axis: Any = None, keepdims: bool | None = False) -> Any:
        return function(input_tensor, axis=_axes(axis), keepdims=bool(keepdims))

    return call


def _axes(axis: Any) -> Any:
    axis = axis.tolist() if isinstance(axis, np.ndarray) else axis
    return tuple(int(entry) for entry in axis) if isinstance(axis, list) else axis


def _integers(values: Any) -> tuple[Any, ...]:
    """Return a shape or a permutation as Python integers.

    Raises:
        ModelError: If a part of it is computed from a tensor.
    """
    entries = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if any(keras3.backend.is_keras_tensor(entry) for entry in entries):
        raise ModelError(
            "A shape is computed from a tensor (tf.shape), which a Keras 3 graph cannot hold. Use "
            "-1 for the batch axis, or a Reshape layer."
        )
    return tuple(int(entry) for entry in entries)


def _reshape(tensor: Any, shape: Any) -> Any:
    return ops.reshape(tensor, _integers(shape))


def _transpose(a: Any, perm: Any = None) -> Any:
    return ops.transpose(a, axes=None if perm is None else _integers(perm))


def _matmul(*, a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    left = ops.swapaxes(a, -1, -2) if transpose_a else a
    right = ops.swapaxes(b, -1, -2) if transpose_b else b
    return ops.matmul(left, right)


def _einsum(equation: str, inputs: Sequence[Any]) -> Any:
    return ops.einsum(equation, *inputs)


def _concat(values: Any, axis: int) -> Any:
    return ops.concatenate(values, axis=axis)


def _stack(values: Any, axis: int = 0) -> Any:
    return ops.stack(values, axis=axis)


def _unstack(value: Any, num: int | None = None, axis: int = 0) -> Any:
    return ops.unstack(value, num=num, axis=axis)


def _split(value: Any, num_or_size_splits: Any, axis: int = 0) -> Any:
    if isinstance(num_or_size_splits, int):
        return ops.split(value, num_or_size_splits, axis=axis)
    ends = np.cumsum(_integers(num_or_size_splits))[:-1]
    return ops.split(value, tuple(int(end) for end in ends), axis=axis)


def _expand_dims(input: Any, axis: Any) -> Any:
    return ops.expand_dims(input, _axes(axis))


def _squeeze(input: Any, axis: Any = None) -> Any:
    return ops.squeeze(input, axis=_axes(axis))


def _tile(input: Any, multiples: Any) -> Any:
    return ops.tile(input, _integers(multiples))


def _repeat(input: Any, repeats: Any, axis: int | None = None) -> Any:
    return ops.repeat(input, repeats, axis=axis)


def _pad(tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0) -> Any:
    widths = [list(_integers(pair)) for pair in paddings]
    mode = mode.lower()
    if mode == "constant":
        return ops.pad(tensor, widths, mode=mode, constant_values=constant_values)
    return ops.pad(tensor, widths, mode=mode)


def _cast(x: Any, dtype: Any) -> Any:
    return ops.cast(x, tf.as_dtype(dtype).name)


def _clip(t: Any, clip_value_min: Any, clip_value_max: Any) -> Any:
    return ops.minimum(ops.maximum(t, clip_value_min), clip_value_max)


def _where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None or y is None:
        raise ModelError(
            "tf.where with a condition alone has an output of unknown shape. Give it x and y."
        )
    return ops.where(condition, x, y)


def _gather(params: Any, indices: Any, axis: int | None = None) -> Any:
    return ops.take(params, indices, axis=0 if axis is None else axis)


def _getitem(tensor: Any, slice_spec: Any) -> Any:
    entries = slice_spec if isinstance(slice_spec, (list, tuple)) else (slice_spec,)
    return tensor[tuple(_slice(entry) for entry in entries)]


def _slice(entry: Any) -> Any:
    """Return one entry of an index; tf_keras writes slices as dictionaries when it copies."""
    if isinstance(entry, dict):
        return slice(entry["start"], entry["stop"], entry["step"])
    return entry


def _softmax(logits: Any, axis: int | None = None) -> Any:
    return ops.softmax(logits, axis=-1 if axis is None else axis)


def _log_softmax(logits: Any, axis: int | None = None) -> Any:
    return ops.log_softmax(logits, axis=-1 if axis is None else axis)


def _leaky_relu(features: Any, alpha: float = 0.2) -> Any:
    return ops.leaky_relu(features, negative_slope=alpha)


def _gelu(*, features: Any, approximate: bool = False) -> Any:
    return ops.gelu(features, approximate=approximate)


def _silu(features: Any, beta: float = 1.0) -> Any:
    if beta == 1.0:
        return ops.silu(features)
    return features * ops.sigmoid(features * beta)


def _argmax(input: Any, axis: int | None = None, output_type: Any = tf.int64) -> Any:
    del output_type  # the type of the result follows tf_keras anyway
    return ops.argmax(input, axis=0 if axis is None else axis)


def _argmin(input: Any, axis: int | None = None, output_type: Any = tf.int64) -> Any:
    del output_type
    return ops.argmin(input, axis=0 if axis is None else axis)


def _one_hot(indices: Any, depth: int, axis: int | None = None, dtype: Any = None) -> Any:
    name = "float32" if dtype is None else tf.as_dtype(dtype).name
    return ops.one_hot(indices, depth, axis=-1 if axis is None else axis, dtype=name)


def _l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12) -> Any:
    squares = ops.sum(ops.square(x), axis=_axes(axis), keepdims=True)
    return x * ops.rsqrt(ops.maximum(squares, epsilon))


def _bias_add(value: Any, bias: Any) -> Any:
    return ops.add(value, bias)


def _add_n(inputs: Sequence[Any]) -> Any:
    total = inputs[0]
    for value in inputs[1:]:
        total = ops.add(total, value)
    return total


def _identity(input: Any) -> Any:
    return input


def _zeros_like(input: Any, dtype: Any = None) -> Any:
    return ops.zeros_like(input, dtype=None if dtype is None else tf.as_dtype(dtype).name)


def _ones_like(input: Any, dtype: Any = None) -> Any:
    return ops.ones_like(input, dtype=None if dtype is None else tf.as_dtype(dtype).name)


def _cumsum(x: Any, axis: int = 0) -> Any:
    return ops.cumsum(x, axis=axis)


def _squared_difference(x: Any, y: Any) -> Any:
    return ops.square(ops.subtract(x, y))


def _roll(input: Any, shift: Any, axis: Any) -> Any:
    return ops.roll(input, shift, axis=axis)


def _reverse(tensor: Any, axis: Any) -> Any:
    return ops.flip(tensor, axis=_axes(axis))


_UNARY = {
    "math": (
        *("negative", "abs", "exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "square", "sign"),
        *("sin", "cos", "tan", "tanh", "sigmoid", "floor", "ceil", "round", "erf", "reciprocal"),
        *("logical_not", "is_nan", "is_inf", "is_finite", "softplus"),
    ),
    "nn": ("relu", "relu6", "elu", "selu", "softplus", "softsign", "tanh", "sigmoid"),
}
_BINARY = (
    *("add", "subtract", "multiply", "pow", "maximum", "minimum", "equal", "not_equal", "greater"),
    *("greater_equal", "less", "less_equal", "logical_and", "logical_or", "logical_xor"),
)
_NAMES = {
    **{"is_nan": "isnan", "is_inf": "isinf", "is_finite": "isfinite", "abs": "absolute"},
    "pow": "power",
}
_ARGUMENT = {
    **{f"nn.{name}": "features" for name in ("relu", "relu6", "elu", "selu", "softplus")},
    **{"nn.softsign": "features", "math.softplus": "features"},
}


def _op(name: str) -> Operation:
    function: Operation = getattr(ops, _NAMES.get(name, name))
    return function


OPERATIONS: Mapping[str, Operation] = {
    **{
        f"{module}.{name}": _unary(_op(name), _ARGUMENT.get(f"{module}.{name}", "x"))
        for module, names in _UNARY.items()
        for name in names
    },
    **{f"math.{name}": _binary(_op(name)) for name in _BINARY},
    **{f"math.reduce_{name}": _reduction(_op(name)) for name in ("mean", "sum", "max", "min")},
    **{f"math.reduce_{name}": _reduction(_op(name)) for name in ("prod", "any", "all", "std")},
    "math.reduce_variance": _reduction(ops.var),
    "__operators__.add": _binary(ops.add),
    "__operators__.eq": _binary(ops.equal, ("self", "other")),
    "__operators__.ne": _binary(ops.not_equal, ("self", "other")),
    "__operators__.getitem": _getitem,
    "math.truediv": _binary(ops.true_divide),
    "math.divide": _binary(ops.true_divide),
    "RealDiv": _binary(ops.true_divide),
    "realdiv": _binary(ops.true_divide),
    "floor_div": _binary(ops.floor_divide),
    "math.floordiv": _binary(ops.floor_divide),
    "math.floormod": _binary(ops.mod),
    "math.squared_difference": _squared_difference,
    "math.add_n": _add_n,
    "math.argmax": _argmax,
    "math.argmin": _argmin,
    "math.cumsum": _cumsum,
    "math.l2_normalize": _l2_normalize,
    "linalg.l2_normalize": _l2_normalize,
    "linalg.matmul": _matmul,
    "nn.softmax": _softmax,
    "nn.log_softmax": _log_softmax,
    "nn.leaky_relu": _leaky_relu,
    "nn.gelu": _gelu,
    "nn.silu": _silu,
    "nn.swish": _silu,
    "nn.bias_add": _bias_add,
    "cast": _cast,
    "clip_by_value": _clip,
    "concat": _concat,
    "einsum": _einsum,
    "expand_dims": _expand_dims,
    "gather": _gather,
    "identity": _identity,
    "one_hot": _one_hot,
    "ones_like": _ones_like,
    "pad": _pad,
    "repeat": _repeat,
    "reshape": _reshape,
    "reverse": _reverse,
    "roll": _roll,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
    "unstack": _unstack,
    "where": _where,
    "zeros_like": _zeros_like,
}
"""TensorFlow symbol, without ``tf.`` and ``compat.v1.``, to the same in ``keras.ops``."""
