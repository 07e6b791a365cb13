"""The arguments of one Keras 3 call as text: where the tensors stand, and every constant.

tf_keras saves the arguments of a call beside the graph, but not all of them: an array
comes back as a list, a tuple as a list, a slice not at all. The bridge therefore calls
its own layers on a flat list of tensors, and keeps the rest here, in the layer's config.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from tfopt.bridge.keras3 import keras as keras3
from tfopt.errors import ModelError

Pattern: TypeAlias = dict[str, Any]
"""JSON: ``args`` and ``kwargs`` (each value as [kind, content]), ``dtypes`` of the tensors."""


def encode(owner: str, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Pattern, list[Any]]:
    """Take the tensors out of the arguments of a call.

    Args:
        owner: How an error names what is called.
        args: Positional arguments: tf_keras symbolic tensors, constants, and lists,
            tuples and dicts of them.
        kwargs: Keyword arguments of the same kinds.

    Returns:
        The pattern, and the tensors it refers to by position, each once.

    Raises:
        ModelError: If an argument is a variable (tied weights), a function, or anything
            else that a saved model cannot hold.
    """
    tensors: list[Any] = []
    pattern = {
        "args": [_encode(owner, value, tensors) for value in args],
        "kwargs": [[key, _encode(owner, value, tensors)] for key, value in kwargs.items()],
    }
    return {**pattern, "dtypes": [tf.as_dtype(tensor.dtype).name for tensor in tensors]}, tensors


def decode(pattern: Pattern, tensors: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call, with ``tensors`` where the symbolic ones were.

    Args:
        pattern: What ``encode`` returned, perhaps after a way through JSON.
        tensors: As many as the pattern refers to.
    """
    args = [_decode(value, tensors) for value in pattern["args"]]
    return args, {key: _decode(value, tensors) for key, value in pattern["kwargs"]}


def _encode(owner: str, value: Any, tensors: list[Any]) -> list[Any]:
    _refuse_variable(owner, value)
    if hasattr(value, "_keras_history") and not isinstance(value, keras3.KerasTensor):
        return ["tensor", _position(value, tensors)]
    if value is None or isinstance(value, (bool, int, float, str)) and not _is_numpy(value):
        return ["constant", value]
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, [_encode(owner, item, tensors) for item in value]]
    if isinstance(value, dict):
        pairs = [[key, _encode(owner, item, tensors)] for key, item in value.items()]
        return ["dict", pairs]
    if isinstance(value, slice):
        ends = (value.start, value.stop, value.step)
        return ["slice", [_encode(owner, end, tensors) for end in ends]]
    if value is Ellipsis:
        return ["ellipsis", None]
    if isinstance(value, (np.dtype, tf.DType)):
        return ["constant", tf.as_dtype(value).name]
    return _encode_array(owner, value)


def _position(tensor: Any, tensors: list[Any]) -> int:
    """Return where a tensor stands in the list; it is added if it is new."""
    for position, known in enumerate(tensors):
        if known is tensor:
            return position
    tensors.append(tensor)
    return len(tensors) - 1


def _is_numpy(value: Any) -> bool:
    """Return whether a value is a NumPy scalar: np.float64 is a Python float as well."""
    return isinstance(value, np.generic)


def _refuse_variable(owner: str, value: Any) -> None:
    if isinstance(value, (keras3.Variable, tf.Variable)):
        name = getattr(value, "path", value.name)
        raise ModelError(
            f"{owner} is called on the variable {name!r} of another layer (tied weights), which "
            "its tf_keras twin cannot share. Put both uses of the weight into one registered "
            "Keras 3 layer."
        )


def _encode_array(owner: str, value: Any) -> list[Any]:
    if isinstance(value, tf.Tensor) and hasattr(value, "numpy"):
        kind, array = "eager_tensor", value.numpy()
    elif isinstance(value, (np.ndarray, np.generic)):
        kind, array = ("scalar" if _is_numpy(value) else "array"), value
    else:
        raise ModelError(
            f"{owner} is called on {_described(value)}, which a saved tf_keras model cannot hold. "
            "Only tensors, numbers, text, arrays, slices, and lists, tuples and dicts of them can "
            "be kept; put this call into a registered Keras 3 layer."
        )
    array = np.asarray(array)
    if array.dtype.hasobject or array.dtype.kind in "SU":
        raise ModelError(
            f"{owner} is called on an array of {array.dtype}, which a saved tf_keras model cannot "
            "hold. Use an array of numbers."
        )
    text = base64.b64encode(array.tobytes()).decode("ascii")
    return [kind, [tf.as_dtype(array.dtype).name, list(array.shape), text]]


def _described(value: Any) -> str:
    if callable(value):
        return f"the Python function {getattr(value, '__name__', value)!r}"
    return f"a {type(value).__module__}.{type(value).__qualname__}"


def _decode_array(content: Sequence[Any]) -> Any:
    dtype, shape, text = content
    flat = np.frombuffer(base64.b64decode(text), dtype=tf.as_dtype(dtype).as_numpy_dtype)
    return flat.reshape(shape).copy()


_CONSTANTS: dict[str, Callable[[Any], Any]] = {
    "constant": lambda content: content,
    "ellipsis": lambda content: Ellipsis,
    "array": _decode_array,
    "scalar": lambda content: _decode_array(content)[()],
    "eager_tensor": lambda content: tf.constant(_decode_array(content)),
}
_NESTS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "slice": lambda ends: slice(*ends),
}


def _decode(coded: Sequence[Any], tensors: Sequence[Any]) -> Any:
    kind, content = coded
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _decode(item, tensors) for key, item in content}
    if kind in _NESTS:
        return _NESTS[kind]([_decode(item, tensors) for item in content])
    return _CONSTANTS[kind](content)


def as_shapes(input_shape: Any, count: int) -> list[tuple[int | None, ...]]:
    """Return the shapes of the inputs of a layer as a list of tuples.

    Args:
        input_shape: What tf_keras passes to ``build``: the shape of one tensor, or a
            list of shapes.
        count: Number of tensors.
    """
    if count == 1 and not _is_list_of_shapes(input_shape):
        input_shape = [input_shape]
    return [tuple(tf.TensorShape(shape).as_list()) for shape in input_shape]


def _is_list_of_shapes(shape: Any) -> bool:
    if isinstance(shape, tf.TensorShape):
        return False
    return bool(shape) and isinstance(shape[0], (list, tuple, tf.TensorShape))


def symbolic(pattern: Pattern, input_shape: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call with Keras 3 symbolic tensors in them.

    Args:
        pattern: What ``encode`` returned.
        input_shape: Shape, or list of shapes, of the tensors.
    """
    dtypes = pattern["dtypes"]
    shapes = as_shapes(input_shape, len(dtypes))
    tensors = [
        keras3.KerasTensor(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True)
    ]
    return decode(pattern, tensors)


def with_static_shapes(outputs: Any, specification: Callable[[], Any]) -> Any:
    """Give outputs the static sizes that Keras 3 knows and TensorFlow lost.

    Args:
        outputs: Nest of tensors that Keras 3 code returned; numbers become tensors.
        specification: Returns the Keras 3 symbolic outputs; called only in need.

    Returns:
        The same nest of tensors.
    """
    outputs = tf.nest.map_structure(_as_tensor, outputs)
    flat = [tensor for tensor in tf.nest.flatten(outputs) if isinstance(tensor, tf.Tensor)]
    if all(
        tensor.shape.rank is not None and tensor.shape[1:].is_fully_defined() for tensor in flat
    ):
        return outputs
    known = tf.nest.flatten(specification())
    for tensor, spec in zip(tf.nest.flatten(outputs), known, strict=False):
        shape = tf.TensorShape(spec.shape)
        if isinstance(tensor, tf.Tensor) and tensor.shape.is_compatible_with(shape):
            tensor.set_shape(shape)
    return outputs


def _as_tensor(value: Any) -> Any:
    """Return a value as a tensor; sparse and ragged tensors stay what they are."""
    if isinstance(value, tf.__internal__.CompositeTensor):
        return value
    return tf.convert_to_tensor(value)
