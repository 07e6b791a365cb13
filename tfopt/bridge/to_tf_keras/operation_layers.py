"""Which call of a Keras 3 operation is a plain tf_keras layer, and which one.

Pruning, quantization and the exporters know plain layers by name. An operation becomes
one only where the maths, the types and the masks are the same as in Keras 3.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from tfopt.bridge.keras3 import keras as keras3
from tfopt.keras2.core import keras as keras2

_layers = keras2.layers
_Shape: TypeAlias = tuple[int | None, ...]
_LOW_PRECISION = ("float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class PlainCall:
    """A tf_keras layer to make, and what to call it on.

    Attributes:
        layer: Class of the layer.
        inputs: A tf_keras tensor, or a list of them.
        settings: Its constructor arguments, but for ``name`` and ``dtype``.
    """

    layer: Callable[..., Any]
    inputs: Any
    settings: Mapping[str, Any] = field(default_factory=dict)

    def run(self, name: str) -> Any:
        """Make the layer and call it.

        Args:
            name: Name of the layer.
        """
        first = tf.nest.flatten(self.inputs)[0]
        layer = self.layer(**self.settings, name=name, dtype=first.dtype.name)
        return layer(self.inputs)


def plain_call(op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> PlainCall | None:
    """Return the plain tf_keras layer that does what this call of an operation does.

    Args:
        op: A Keras 3 operation.
        args: Its positional arguments, with tf_keras symbolic tensors.
        kwargs: Its keyword arguments.

    Returns:
        The layer and its inputs; None if no layer does the same.
    """
    choose = _CHOICES.get(type(op).__name__)
    if choose is None or not type(op).__module__.startswith("keras.src.ops."):
        return None
    given = inspect.signature(op.call).bind(*args, **kwargs).arguments
    tensors = [value for value in tf.nest.flatten(list(given.values())) if _is_tensor(value)]
    if not tensors or not all(_is_plain(tensor, tensors[0]) for tensor in tensors):
        return None
    return choose(op, given)


_Choose: TypeAlias = Callable[[Any, Mapping[str, Any]], PlainCall | None]


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "_keras_history") and not isinstance(value, keras3.KerasTensor)


def _is_plain(tensor: Any, first: Any) -> bool:
    """Return whether a layer takes the tensor as it is, and has no mask to pass on.

    A tf_keras layer casts what is not of its own type, and an operation of Keras 3
    forgets masks, where most layers pass them on.
    """
    return (
        isinstance(tensor.type_spec, tf.TensorSpec)
        and tensor.shape.rank is not None
        and tensor.shape.rank >= 2
        and tensor.dtype.is_floating
        and tensor.dtype == first.dtype
        and getattr(tensor, "_keras_mask", None) is None
    )


def _shape(tensor: Any) -> _Shape:
    return tuple(tensor.shape.as_list())


def _scalar(value: Any, tensor: Any) -> float | None:
    """Return a constant as a number, if it is one that does not change the type of ``tensor``."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)) and not isinstance(value, np.generic):
        return float(value)
    if isinstance(value, (np.generic, np.ndarray)) and np.ndim(value) == 0:
        if tf.as_dtype(np.asarray(value).dtype) == tensor.dtype:
            return float(value)
    return None


def _two(op: Any, given: Mapping[str, Any], layer: Any) -> PlainCall | None:
    """Two tensors of one rank: tf_keras turns other ranks round before it broadcasts."""
    first, second = given["x1"], given["x2"]
    if not (_is_tensor(first) and _is_tensor(second)):
        return None
    shapes = _shape(first), _shape(second)
    if len(shapes[0]) != len(shapes[1]) or shapes[0][0] != shapes[1][0]:
        return None
    return PlainCall(layer, [first, second])


def _merged(layer: Any) -> _Choose:
    return lambda op, given: _two(op, given, layer)


def _affine(layer: Any, forward: Any, backward: Any) -> _Choose:
    """A binary operation: of two tensors, or of a tensor and a number.

    Args:
        layer: The merging layer for two tensors; None if there is none.
        forward: Scale and offset of ``tensor op number``, from the number.
        backward: The same of ``number op tensor``; None if it is not affine.
    """

    def choose(op: Any, given: Mapping[str, Any]) -> PlainCall | None:
        if layer is not None and (call := _two(op, given, layer)) is not None:
            return call
        first, second = given["x1"], given["x2"]
        if _is_tensor(first) and (number := _scalar(second, first)) is not None:
            return _rescaling(first, forward(number))
        if _is_tensor(second) and (number := _scalar(first, second)) is not None and backward:
            return _rescaling(second, backward(number))
        return None

    return choose


def _rescaling(tensor: Any, affine: tuple[float, float] | None) -> PlainCall | None:
    if affine is None or not all(math.isfinite(number) for number in affine):
        return None
    scale, offset = affine
    return PlainCall(_layers.Rescaling, tensor, {"scale": scale, "offset": offset})


def _inverse(number: float) -> tuple[float, float] | None:
    """Return the scale that divides by a number: exact for powers of two only."""
    if number == 0 or abs(math.frexp(number)[0]) != 0.5:
        return None
    return 1.0 / number, 0.0


def _only_argument(given: Mapping[str, Any]) -> Any:
    (value,) = given.values()
    return value


def _unary(layer: Any, **settings: Any) -> _Choose:
    return lambda op, given: PlainCall(layer, _only_argument(given), settings)


def _activation(name: str) -> _Choose:
    return _unary(_layers.Activation, activation=name)


def _gelu(op: Any, given: Mapping[str, Any]) -> PlainCall | None:
    # The "gelu" of tf_keras is the exact one.
    return None if op.approximate else _activation("gelu")(op, given)


def _softmax(op: Any, given: Mapping[str, Any]) -> PlainCall | None:
    if not isinstance(op.axis, int):
        return None
    return PlainCall(_layers.Softmax, given["x"], {"axis": op.axis})


def _concatenate(op: Any, given: Mapping[str, Any]) -> PlainCall | None:
    tensors = given["xs"]
    if not isinstance(tensors, (list, tuple)) or len(tensors) < 2:
        return None
    if not all(_is_tensor(tensor) for tensor in tensors):
        return None
    rank = len(_shape(tensors[0]))
    if op.axis is None or op.axis % rank == 0:
        return None
    return PlainCall(_layers.Concatenate, list(tensors), {"axis": op.axis})


def _reshaped(tensor: Any, target: Sequence[int | None]) -> PlainCall | None:
    """Keep the batch and give the rest a static shape, if both sides allow that."""
    rest = _shape(tensor)[1:]
    if None in rest or any(not isinstance(size, int) or size < 0 for size in target):
        return None
    if math.prod(size or 0 for size in rest) != math.prod(size or 0 for size in target):
        return None
    return PlainCall(_layers.Reshape, tensor, {"target_shape": tuple(target)})


def _reshape(op: Any, given: Mapping[str, Any]) -> PlainCall | None:
    shape, batch = tuple(op.newshape), _shape(given["x"])[0]
    if not shape or not (shape[0] == -1 or (shape[0] is not None and shape[0] == batch)):
        return None
    rest = list(shape[1:])
    if rest.count(-1) == 1 and shape[0] != -1:
        known = math.prod(size for size in rest if size != -1)
        total = math.prod(size or 0 for size in _shape(given["x"])[1:])
        if not known or total % known:
            return None
        rest[rest.index(-1)] = total // known
    return _reshaped(given["x"], rest)


def _squeeze(op: Any, given: Mapping[str, Any]) -> PlainCall | None:
    shape = _shape(given["x"])
    if op.axis is None:
        return None
    axes = {axis % len(shape) for axis in _axes(op.axis)}
    if 0 in axes or any(shape[axis] != 1 for axis in axes):
        return None
    return _reshaped(given["x"], [n for axis, n in enumerate(shape) if axis and axis not in axes])


def _expand_dims(op: Any, given: Mapping[str, Any]) -> PlainCall | None:
    shape = _shape(given["x"])
    new = _axes(op.axis)
    rank = len(shape) + len(new)
    axes = {axis % rank for axis in new}
    if 0 in axes:
        return None
    rest = iter(shape[1:])
    return _reshaped(given["x"], [1 if axis in axes else next(rest) for axis in range(1, rank)])


def _axes(axis: Any) -> tuple[int, ...]:
    return (axis,) if isinstance(axis, int) else tuple(axis)


def _permuted(tensor: Any, order: Sequence[int]) -> PlainCall | None:
    if len(order) != len(_shape(tensor)) or order[0] != 0:
        return None
    return PlainCall(_layers.Permute, tensor, {"dims": tuple(order[1:])})


def _transpose(op: Any, given: Mapping[str, Any]) -> PlainCall | None:
    if op.axes is None:
        return None
    rank = len(_shape(given["x"]))
    return _permuted(given["x"], [axis % rank for axis in op.axes])


def _swap(op: Any, given: Mapping[str, Any]) -> PlainCall | None:
    order = list(range(len(_shape(given["x"]))))
    one, two = op.axis1 % len(order), op.axis2 % len(order)
    order[one], order[two] = order[two], order[one]
    return _permuted(given["x"], order)


def _pooled(kind: str) -> _Choose:
    """A reduction over all axes between batch and channels."""

    def choose(op: Any, given: Mapping[str, Any]) -> PlainCall | None:
        tensor = given["x"]
        rank = len(_shape(tensor))
        if op.axis is None or getattr(op, "initial", None) is not None or rank not in (3, 4, 5):
            return None
        if sorted(axis % rank for axis in _axes(op.axis)) != list(range(1, rank - 1)):
            return None
        if kind == "Average" and tensor.dtype.name in _LOW_PRECISION:
            return None  # Keras 3 adds up in float32, tf_keras in the type of the tensor
        layer = getattr(_layers, f"Global{kind}Pooling{rank - 2}D")
        settings = {"keepdims": bool(op.keepdims), "data_format": "channels_last"}
        return PlainCall(layer, tensor, settings)

    return choose


def _pad(op: Any, given: Mapping[str, Any]) -> PlainCall | None:
    tensor, widths = given["x"], [tuple(width) for width in op.pad_width]
    rank = len(_shape(tensor))
    value = given.get("constant_values")
    if op.mode != "constant" or (value is not None and _scalar(value, tensor) != 0.0):
        return None
    if rank not in (3, 4, 5) or len(widths) != rank or any(widths[0]) or any(widths[-1]):
        return None
    padding = widths[1] if rank == 3 else tuple(widths[1:-1])
    settings: dict[str, Any] = {"padding": padding}
    if rank > 3:
        settings["data_format"] = "channels_last"
    return PlainCall(getattr(_layers, f"ZeroPadding{rank - 2}D"), tensor, settings)


# By class name, because Keras 3 does not export the classes of its operations. Not here:
# HardSigmoid, which is another function in tf_keras.
_CHOICES: Mapping[str, _Choose] = {
    "Add": _affine(_layers.Add, lambda n: (1.0, n), lambda n: (1.0, n)),
    "Subtract": _affine(_layers.Subtract, lambda n: (1.0, -n), lambda n: (-1.0, n)),
    "Multiply": _affine(_layers.Multiply, lambda n: (n, 0.0), lambda n: (n, 0.0)),
    "Divide": _affine(None, _inverse, None),
    "TrueDivide": _affine(None, _inverse, None),
    "Negative": _unary(_layers.Rescaling, scale=-1.0, offset=0.0),
    "Maximum": _merged(_layers.Maximum),
    "Minimum": _merged(_layers.Minimum),
    "Relu": _unary(_layers.ReLU),
    "Relu6": _unary(_layers.ReLU, max_value=6.0),
    "LeakyRelu": lambda op, given: PlainCall(
        _layers.LeakyReLU, given["x"], {"alpha": op.negative_slope}
    ),
    "Elu": lambda op, given: PlainCall(_layers.ELU, given["x"], {"alpha": op.alpha}),
    "Selu": _activation("selu"),
    "Sigmoid": _activation("sigmoid"),
    "Tanh": _activation("tanh"),
    "Silu": _activation("swish"),
    "Gelu": _gelu,
    "Softplus": _activation("softplus"),
    "Softsign": _activation("softsign"),
    "Exp": _activation("exponential"),
    "Softmax": _softmax,
    "Concatenate": _concatenate,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "ExpandDims": _expand_dims,
    "Transpose": _transpose,
    "Swapaxes": _swap,
    "Mean": _pooled("Average"),
    "Max": _pooled("Max"),
    "Amax": _pooled("Max"),
    "Pad": _pad,
}
