"""Turn what users pass into arrays, and refuse what no model can learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Number
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfopt.errors import DataError

Array = npt.NDArray[Any]
Nested = Any
"""One array, or a tuple or dict of arrays (one for each model input)."""

_BLOCK_ENTRIES = 16_000_000


def as_input_arrays(value: Any, what: str) -> Nested:
    """Return inputs as one array, a tuple of arrays or a dict of arrays.

    Floats become float32; integers and booleans keep their type.

    Args:
        value: An array, numbers in lists, or a tuple, list or dict of arrays.
        what: How messages name it.

    Returns:
        The same structure with NumPy arrays ``(rows, ...)``; lists become tuples.

    Raises:
        DataError: If an array is not numeric, has no row axis, or holds NaN or infinity.
    """
    return _nested(value, what, _numeric)


def as_label_arrays(value: Any, what: str) -> tuple[Nested, tuple[str, ...] | None]:
    """Return labels as arrays, and the class names if they were text.

    Integers and booleans become int64, floats float32. Text becomes the number of its
    place among the sorted distinct names.

    Args:
        value: As for inputs, or text: one name a row.
        what: How messages name it.

    Returns:
        The labels, and the sorted class names or None.

    Raises:
        DataError: If an array is neither numeric nor text, has no row axis, or holds NaN
            or infinity.
    """
    single = _single_array(value, what)
    if single is not None and single.dtype.kind in "USO" and _is_text(single):
        return _numbers_of_names(single, what)
    return _nested(value, what, _label), None


def check_lengths(parts: Mapping[str, Nested]) -> int:
    """Return the common number of rows.

    Args:
        parts: Nested arrays by name.

    Returns:
        The number of rows, ``>= 1``.

    Raises:
        DataError: If the numbers differ, or there are no rows.
    """
    rows = {
        name: len(array)
        for part, nested in parts.items()
        for name, array in named_leaves(nested, part)
    }
    if len(set(rows.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise DataError(f"The numbers of rows differ: {listed}. Give one row per example in each.")
    count = next(iter(rows.values()), 0)
    if count == 0:
        raise DataError(f"{next(iter(rows), 'The data')}: there are no examples (0 rows).")
    return count


def check_finite(array: Array, what: str) -> None:
    """Raise if an array holds NaN or infinity.

    Args:
        array: Shape ``(rows, ...)``; only floats are looked at.
        what: How the message names it.

    Raises:
        DataError: With the number of such entries and the first row that has one.
    """
    if array.dtype.kind != "f" or array.size == 0:
        return
    rows = array.shape[0]
    step = max(1, _BLOCK_ENTRIES // max(1, array.size // rows))
    count, first = 0, -1
    for start in range(0, rows, step):
        bad = ~np.isfinite(array[start : start + step].reshape(-1, array.size // rows))
        here = int(np.count_nonzero(bad))
        if here and not count:
            first = start + int(np.argmax(bad.any(axis=1)))
        count += here
    if count:
        raise DataError(
            f"{what}: {count} of {array.size} entries are NaN, infinite or too large for float32, "
            f"first in row {first}. Remove or repair these rows."
        )


def named_leaves(nested: Nested, name: str) -> list[tuple[str, Any]]:
    """Return the entries of a nested structure with names such as ``inputs['a']``."""
    if isinstance(nested, Mapping):
        keys = sorted(nested)
        return [pair for key in keys for pair in named_leaves(nested[key], f"{name}[{key!r}]")]
    if isinstance(nested, tuple):
        return [
            pair
            for index, entry in enumerate(nested)
            for pair in named_leaves(entry, f"{name}[{index}]")
        ]
    return [(name, nested)]


def _nested(value: Any, what: str, convert: Callable[[Array, str], Array]) -> Nested:
    if isinstance(value, Mapping):
        if not value:
            raise DataError(f"{what}: the dict of arrays is empty.")
        return {key: _nested(value[key], f"{what}[{key!r}]", convert) for key in sorted(value)}
    single = _single_array(value, what)
    if single is not None:
        return convert(single, what)
    if not value:
        raise DataError(f"{what}: there are no examples (an empty {type(value).__name__}).")
    return tuple(_nested(entry, f"{what}[{index}]", convert) for index, entry in enumerate(value))


def _single_array(value: Any, what: str) -> Array | None:
    """Return ``value`` as one array, or None if it is a collection of arrays."""
    if isinstance(value, Mapping):
        return None
    if isinstance(value, list | tuple):
        if not value or any(hasattr(entry, "shape") and np.ndim(entry) for entry in value):
            return None
        if any(isinstance(entry, Mapping) for entry in value):
            return None
    elif isinstance(value, str | bytes | Number) or not hasattr(value, "__array__"):
        raise DataError(
            f"{what}: expected an array. Received: {type(value).__module__}."
            f"{type(value).__qualname__}. Give NumPy arrays, (x, y), or a batched tf.data.Dataset."
        )
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{what}: cannot be made one array: {error}. Give every row the same shape."
        ) from error


def _numeric(array: Array, what: str) -> Array:
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind not in "biuf":
        kind = "objects" if array.dtype.kind == "O" else "text" if array.dtype.kind in "US" else ""
        raise DataError(
            f"{what}: must hold numbers of one type. Received: dtype {array.dtype}"
            f"{f' ({kind})' if kind else ''}, shape {array.shape}. Rows of different shapes, "
            "missing values and mixed columns end so; convert them first."
        )
    if array.ndim == 0:
        raise DataError(f"{what}: a single number has no rows. Give an array (rows, ...).")
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # a value that overflows is reported just below
            array = array.astype(np.float32, copy=False)
        check_finite(array, what)
    return array


def _label(array: Array, what: str) -> Array:
    array = _numeric(array, what)
    return array.astype(np.int64, copy=False) if array.dtype.kind in "biu" else array


def _is_text(array: Array) -> bool:
    return array.dtype.kind in "US" or (
        array.size > 0 and all(isinstance(entry, str | bytes) for entry in array.ravel())
    )


def _numbers_of_names(array: Array, what: str) -> tuple[Array, tuple[str, ...]]:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(f"{what}: text labels must be one a row. Received: shape {array.shape}.")
    texts = [entry.decode() if isinstance(entry, bytes) else str(entry) for entry in array]
    names, numbers = np.unique(np.array(texts, dtype=str), return_inverse=True)
    return numbers.astype(np.int64), tuple(str(name) for name in names)


def spec_of(nested: Nested) -> Nested:
    """Return the ``tf.TensorSpec`` of one row, in the same structure."""
    return tf.nest.map_structure(
        lambda array: tf.TensorSpec(array.shape[1:], tf.as_dtype(array.dtype)), nested
    )


def bytes_per_example(spec: Nested) -> int:
    """Return the size of one row in bytes; axes of unknown length count as one."""
    return sum(
        int(np.prod([side or 1 for side in leaf.shape.as_list()], dtype=np.int64)) * leaf.dtype.size
        for leaf in tf.nest.flatten(spec)
    )
