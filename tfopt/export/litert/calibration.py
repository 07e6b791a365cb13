"""Check calibration rows before they set the integer ranges of an exported file.

Bad rows do not make the converter fail. None leave the model in floating point (footgun
F33); all-zero or wrongly scaled ones give integers without meaning (F34).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tfopt.data.statistics import InputStatistics, input_statistics
from tfopt.errors import DataError
from tfopt.registry import did_you_mean
from tfopt.runtimes.litert.tensors import is_convertible

Array = npt.NDArray[Any]

FEW_ROWS = 32
"""Below this many rows the ranges are shaky, and a note says so."""

_LARGEST_SHIFT = 1.0
_LARGEST_STD_RATIO = 3.0
_ENOUGH_ROWS = 16
# A training spread below this share of its range is made by rare outliers or a long tail, which
# a fair sample may well lack; a normal distribution stays above it for 1e8 entries.
_OUTLIER_SHARE = 0.06


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a model.

    Attributes:
        name: Name in the model.
        shape: Sizes without the batch axis; None where any size is accepted.
        dtype: NumPy name of the type.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


def check_calibration(
    inputs: Any,
    *,
    expected: Sequence[InputSpec],
    statistics: InputStatistics | Sequence[InputStatistics] | None = None,
) -> tuple[str, ...]:
    """Raise unless the rows can set integer ranges for a model.

    Args:
        inputs: One array of shape ``(rows, ...)``, a list or tuple of them in the
            model's input order, or a mapping by input name.
        expected: The model's inputs.
        statistics: Summary of the training data for each input, in the model's order;
            None skips the comparison with it.

    Returns:
        Notes for the user.

    Raises:
        DataError: If there are no rows, they do not fit the model, are not finite, do not
            vary, or are far from the training data.
    """
    arrays = calibration_arrays(inputs, expected=expected)
    summaries = _per_input(statistics, expected)
    for spec, array, training in zip(expected, arrays, summaries, strict=True):
        _check_fit(spec, array)
        _check_values(spec, array)
        if training is not None and not _is_index(spec):
            _check_distance(spec, input_statistics(array), training)
    _check_spread(expected, arrays, summaries)
    rows = len(arrays[0])
    if rows < FEW_ROWS:
        return (f"only {rows} calibration row(s); {FEW_ROWS} to 512 give steadier ranges",)
    return ()


def calibration_arrays(inputs: Any, *, expected: Sequence[InputSpec]) -> list[Array]:
    """Return the rows as one array for each model input, in the model's order.

    Raises:
        DataError: If there are none, names or counts differ, or the row counts differ.
    """
    try:
        arrays = [np.asarray(array) for array in _in_order(inputs, expected)]
    except ValueError as error:  # rows of different lengths
        raise DataError(f"The calibration rows are not a regular array: {error}") from error
    if any(array.ndim == 0 or array.shape[0] == 0 for array in arrays):
        raise _no_rows()
    rows = {spec.name: array.shape[0] for spec, array in zip(expected, arrays, strict=True)}
    if len(set(rows.values())) > 1:
        raise DataError(f"The calibration inputs differ in their number of rows: {rows}.")
    return arrays


def _in_order(inputs: Any, expected: Sequence[InputSpec]) -> list[Any]:
    names = [spec.name for spec in expected]
    if inputs is None:
        raise _no_rows()
    if isinstance(inputs, Mapping):
        if set(inputs) != set(names):
            odd = sorted(set(map(str, inputs)) - set(names))
            near = did_you_mean(odd[0], names) if odd else ""
            raise DataError(
                f"The model has the inputs {names}. The calibration rows have: "
                f"{sorted(map(str, inputs))}.{near}"
            )
        return [inputs[name] for name in names]
    if isinstance(inputs, list | tuple):
        if not inputs:
            raise _no_rows()
        if len(inputs) == len(names):
            return list(inputs)
        if len(names) > 1:
            raise DataError(
                f"The model has {len(names)} inputs {names}. The calibration rows have: "
                f"{len(inputs)} arrays."
            )
    elif len(names) > 1:
        raise DataError(
            f"The model has {len(names)} inputs {names}, but the calibration rows are one "
            "array. Give a tuple in this order, or a mapping by name."
        )
    return [inputs]


def _no_rows() -> DataError:
    return DataError(
        "Static quantization needs calibration rows to set the integer ranges, and received "
        "none; without them the file would silently stay in floating point. Give some hundred "
        "rows of training inputs as calibration."
    )


def _check_fit(spec: InputSpec, array: Array) -> None:
    wanted = f"{spec.dtype} of shape {_shape_text(spec)}"
    fits = array.ndim == 1 + len(spec.shape) and all(
        size is None or size == got for size, got in zip(spec.shape, array.shape[1:], strict=True)
    )
    is_number = np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_
    if not fits or not is_number or not is_convertible(array.dtype, spec.dtype):
        raise DataError(
            f"Calibration input {spec.name!r} must be {wanted}. "
            f"Received: {array.dtype} of shape {array.shape}."
        )


def _check_values(spec: InputSpec, array: Array) -> None:
    if array.size == 0:
        raise DataError(f"Calibration input {spec.name!r} has no entries: shape {array.shape}.")
    if not np.isfinite(array).all():
        rows = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
        raise DataError(
            f"Calibration input {spec.name!r} holds NaN or infinity in {rows.size} of "
            f"{len(array)} rows, the first being row {rows[0]}."
        )
    if _is_integer(spec) and not np.array_equal(array.astype(spec.dtype), array):
        raise DataError(
            f"Calibration input {spec.name!r} holds numbers outside the range of {spec.dtype}: "
            f"{array.min()} to {array.max()}."
        )


def _check_spread(
    expected: Sequence[InputSpec],
    arrays: Sequence[Array],
    training: Sequence[InputStatistics | None],
) -> None:
    rows = len(arrays[0])
    if rows > 1 and all(bool((array == array[:1]).all()) for array in arrays):
        raise DataError(
            f"All {rows} calibration rows are equal, so the ranges they set mean nothing. Give "
            "different rows of training inputs."
        )
    for spec, array, summary in zip(expected, arrays, training, strict=True):
        is_constant = array.size > 1 and bool((array == array.flat[0]).all())
        trained_constant = summary is not None and summary.std == 0
        if is_constant and not _is_index(spec) and not trained_constant:
            raise DataError(
                f"Calibration input {spec.name!r} is {float(array.flat[0]):g} everywhere, so the "
                "range it sets means nothing. Give rows of training inputs."
            )


def _check_distance(spec: InputSpec, found: InputStatistics, training: InputStatistics) -> None:
    if not _is_far(found, training):
        return
    raise DataError(
        f"Calibration input {spec.name!r} is far from the training data: mean {found.mean:.4g} "
        f"against {training.mean:.4g}, standard deviation {found.std:.4g} against "
        f"{training.std:.4g}, range {found.min:.4g} to {found.max:.4g} against "
        f"{training.min:.4g} to {training.max:.4g}. The likely cause is a wrong scale: "
        "preprocess the calibration rows as the training rows."
    )


def _is_far(found: InputStatistics, training: InputStatistics) -> bool:
    """Return whether rows cannot be a fair sample of the training data.

    Values far outside the training range are enough. Within it, the mean may be off by one
    training standard deviation and three standard errors, and the spread may be a third;
    but that says nothing where rare outliers make the training spread. A wider spread
    counts only together with values outside the range.
    """
    width = training.max - training.min
    outside = max(found.max - training.max, training.min - found.min)
    if outside > width or (outside > 0 and found.std > _LARGEST_STD_RATIO * training.std):
        return True
    if training.std <= _OUTLIER_SHARE * width:
        return False
    allowed_shift = _LARGEST_SHIFT + 3 / math.sqrt(found.rows)
    if abs(found.mean - training.mean) > allowed_shift * training.std:
        return True
    # A handful of rows can lie close together by chance.
    ratio = _LARGEST_STD_RATIO * (1 if found.rows >= _ENOUGH_ROWS else 10)
    return found.rows > 1 and found.std * ratio < training.std


def _is_integer(spec: InputSpec) -> bool:
    return not np.issubdtype(np.dtype(spec.dtype), np.floating)


def _is_index(spec: InputSpec) -> bool:
    """Return whether the input counts or points: such integers get no range."""
    return _is_integer(spec) and spec.dtype != "uint8"


def _per_input(
    statistics: InputStatistics | Sequence[InputStatistics] | None,
    expected: Sequence[InputSpec],
) -> Sequence[InputStatistics | None]:
    if statistics is None:
        return [None] * len(expected)
    given = [statistics] if isinstance(statistics, InputStatistics) else list(statistics)
    if len(given) != len(expected):
        raise DataError(
            f"The model has {len(expected)} inputs, but training statistics were given for "
            f"{len(given)}."
        )
    return given


def _shape_text(spec: InputSpec) -> str:
    sizes = ["rows", *("any" if size is None else str(size) for size in spec.shape)]
    return "(" + ", ".join(sizes) + ("," if len(sizes) == 1 else "") + ")"
