"""What goes into a file and comes out: types, checks, quantization."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tfopt.errors import DataError

Array = npt.NDArray[Any]

FLOAT_TYPES = frozenset({"float16", "bfloat16", "float32", "float64", "complex64", "complex128"})


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output of a file.

    Attributes:
        name: Name in the file's signature, else the tensor's own name.
        shape: Sizes; None where any size is accepted. The first axis is the batch.
        dtype: NumPy name of the type: ``float32``, ``int8``.
        scale: Real units per step of an integer tensor; 0.0 if it is not quantized.
        zero_point: The integer that stands for 0.0.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0


def signature_name(name: str) -> str:
    """Return a Keras input name as it is written in a file's signature.

    Example:
        >>> signature_name("block/input-1")
        'block_input_1'
    """
    return re.sub(r"\W", "_", name)


def quantize(values: Array, info: TensorInfo) -> Array:
    """Return real values as the integers of a quantized tensor, saturating at its range.

    Halves round away from zero, as ``tflite::reference_ops::AffineQuantize`` does.

    Args:
        values: Finite numbers, any shape.
        info: The tensor's type, scale and zero point.

    Returns:
        Integers, same shape.

    Raises:
        DataError: If a value is not finite, since integers have no word for it.

    Example:
        >>> quantize(np.array([0.25, -99.0]), TensorInfo("x", (2,), "int8", 0.5, 1))
        array([   2, -128], dtype=int8)
    """
    if not np.isfinite(values).all():
        raise DataError(f"Input {info.name!r} holds NaN or infinity, which {info.dtype} lacks.")
    scaled = np.asarray(values, np.float32) / np.float32(info.scale)
    rounded = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)) + info.zero_point
    limits = np.iinfo(info.dtype)
    return np.asarray(np.clip(rounded, limits.min, limits.max).astype(info.dtype))


def prepare_input(info: TensorInfo, array: Array) -> Array:
    """Return ``array`` in the file's type, or raise with what was expected."""
    wanted = "(" + ", ".join("any" if s is None else str(s) for s in ("rows", *info.shape[1:]))
    wanted += ",)" if len(info.shape) == 1 else ")"
    fits = array.ndim == len(info.shape) > 0 and all(
        size is None or size == got
        for size, got in zip(info.shape[1:], array.shape[1:], strict=False)
    )
    if not fits or not np.issubdtype(array.dtype, np.number) and array.dtype != np.bool_:
        raise DataError(
            f"Input {info.name!r} must be {info.dtype} of shape {wanted}. "
            f"Received: {array.dtype} of shape {array.shape}."
        )
    if info.scale and array.dtype != info.dtype:
        return quantize(array, info)
    if not is_convertible(array.dtype, info.dtype):
        raise DataError(
            f"Input {info.name!r} must be {info.dtype} of shape {wanted}. Received: "
            f"{array.dtype}, which cannot be turned into it without loss."
        )
    prepared = np.ascontiguousarray(array, info.dtype)
    if info.dtype not in FLOAT_TYPES and not np.array_equal(prepared, array):
        raise DataError(f"Input {info.name!r} holds numbers outside the range of {info.dtype}.")
    return prepared


def is_convertible(given: npt.DTypeLike, wanted: npt.DTypeLike) -> bool:
    """Return whether numbers of one type can be meant as another, range aside.

    Integers may become any type; floats never become integers, nor complex numbers floats.

    Example:
        >>> is_convertible("int64", "uint8"), is_convertible("float32", "uint8")
        (True, False)
    """
    both_integers = np.issubdtype(given, np.integer) and np.issubdtype(wanted, np.integer)
    return bool(both_integers or np.can_cast(given, wanted, "same_kind"))


def random_input(
    info: TensorInfo, generator: np.random.Generator | None, sizes: tuple[int, int]
) -> Array:
    """Return zeros, or values the tensor can hold; plain integers are indices: 0 only."""
    rows, free = sizes
    shape = tuple(
        (rows if axis == 0 else free) if size is None else size
        for axis, size in enumerate(info.shape)
    )
    if generator is None or (not info.scale and info.dtype not in FLOAT_TYPES):
        return np.zeros(shape, info.dtype)
    if info.dtype in FLOAT_TYPES:
        return generator.random(shape, np.float32).astype(info.dtype)
    limits = np.iinfo(info.dtype)
    return generator.integers(limits.min, limits.max, shape, info.dtype, endpoint=True)
