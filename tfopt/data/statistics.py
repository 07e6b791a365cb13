"""Summaries of input arrays, to tell whether calibration data resembles training data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tfopt.errors import DataError

_BLOCK_ENTRIES = 8_000_000


@dataclass(frozen=True, slots=True)
class InputStatistics:
    """The spread of one model input.

    Attributes:
        mean: Mean of all entries.
        std: Standard deviation of all entries (population), ``>= 0``.
        min: Smallest entry.
        max: Largest entry.
        rows: Examples looked at.
    """

    mean: float
    std: float
    min: float
    max: float
    rows: int


def input_statistics(array: npt.NDArray[np.generic]) -> InputStatistics:
    """Return mean, standard deviation, minimum and maximum over all entries.

    Sums are taken in float64 and block by block, so that neither the size nor the
    dtype of the array matters. NaN entries give NaN.

    Args:
        array: One input, shape ``(rows, ...)``, numeric or boolean dtype.

    Returns:
        The summary.

    Raises:
        DataError: If the array has no entries.

    Example:
        >>> input_statistics(np.array([[0, 2], [2, 0]], np.uint8))
        InputStatistics(mean=1.0, std=1.0, min=0.0, max=2.0, rows=2)
    """
    if array.size == 0 or array.ndim == 0:
        raise DataError(f"There are no entries to summarise: shape {array.shape}.")
    rows = array.shape[0]
    step = max(1, _BLOCK_ENTRIES // max(1, array.size // rows))
    blocks = [slice(start, start + step) for start in range(0, rows, step)]
    mean, square = 0.0, 0.0
    for block in blocks:
        mean += float(np.sum(array[block], dtype=np.float64)) / array.size
    for block in blocks:
        numbers: npt.NDArray[np.float64] = np.asarray(array[block], np.float64)
        square += float(np.sum((numbers - mean) ** 2))
    return InputStatistics(
        mean=mean,
        std=float(np.sqrt(square / array.size)),
        min=float(array.min()),
        max=float(array.max()),
        rows=rows,
    )
