"""Compare two models' outputs and scores on the same rows, as evidence and not as a boolean."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tfopt.errors import VerificationError

FloatArray = npt.NDArray[np.floating]

_Z95 = 1.959963984540054
_RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class OutputComparison:
    """How far an artefact's outputs are from the source model's.

    Attributes:
        max_abs_error: Largest absolute difference, in output units.
        mean_abs_error: Mean absolute difference, in output units.
        relative_error: Euclidean norm of the difference over the norm of the
            reference; 1.0 is as bad as an output of zeros.
        top1_agreement: Fraction of rows whose argmax agrees, in ``[0, 1]``.
        rows: Number of rows compared.
    """

    max_abs_error: float
    mean_abs_error: float
    relative_error: float
    top1_agreement: float
    rows: int

    def require(self, *, max_relative_error: float) -> None:
        """Raise unless the outputs agree.

        Raises:
            VerificationError: If ``relative_error`` is above the limit or not a number.
        """
        if not self.relative_error <= max_relative_error:
            raise VerificationError(
                f"Outputs differ by {self.relative_error:.3g} of their size (at most "
                f"{self.max_abs_error:.3g} in one entry); the limit is {max_relative_error:.3g} "
                f"over {self.rows} rows (top-1 agreement {self.top1_agreement:.1%})."
            )


def compare_outputs(reference: FloatArray, candidate: FloatArray) -> OutputComparison:
    """Compare two arrays of outputs, row by row.

    Args:
        reference: Outputs of the source model, shape ``(rows, ...)``.
        candidate: Outputs of the artefact, same shape. Shapes are never broadcast.

    Returns:
        The differences.

    Raises:
        VerificationError: If the shapes differ or there are no rows.

    Example:
        >>> compare_outputs(np.array([[0.0, 1.0]]), np.array([[0.0, 1.5]])).max_abs_error
        0.5
    """
    if reference.shape != candidate.shape:
        raise VerificationError(
            f"Output shapes differ: the source model gives {reference.shape}, the artefact "
            f"{candidate.shape}."
        )
    if reference.size == 0 or reference.ndim == 0:
        raise VerificationError(f"There are no rows of outputs to compare: {reference.shape}.")
    rows = reference.shape[0]
    first = reference.reshape(rows, -1).astype(np.float64)
    second = candidate.reshape(rows, -1).astype(np.float64)
    difference = np.abs(first - second)
    norm = float(np.linalg.norm(first))
    distance = float(np.linalg.norm(difference))
    return OutputComparison(
        max_abs_error=float(difference.max()),
        mean_abs_error=float(difference.mean()),
        relative_error=distance / norm if norm > 0 else (0.0 if distance == 0 else math.inf),
        top1_agreement=float(np.mean(first.argmax(axis=1) == second.argmax(axis=1))),
        rows=rows,
    )


@dataclass(frozen=True, slots=True)
class Drop:
    """How much worse a candidate scores than its reference, on the same rows.

    Attributes:
        value: Reference metric less candidate metric, signed so that positive is worse.
        low: Lower end of the 95% paired interval.
        high: Upper end of the 95% paired interval.
    """

    value: float
    low: float
    high: float


def paired_drop(
    reference: FloatArray,
    candidate: FloatArray,
    *,
    higher_is_better: bool = True,
    of_sums: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]] | None = None,
) -> Drop:
    """Return the drop of a metric, with a 95% interval for paired rows.

    For right-or-wrong scores the interval is the adjusted Wald interval of Bonett and
    Price (2012, "Adjusted Wald confidence interval for a difference of binomial
    proportions based on paired data", J. Educ. Behav. Stat. 37(4)), which stays honest
    when few rows differ. Other scores, and metrics of sums over rows, use a percentile
    bootstrap over rows, the same rows of both sides, with 10,000 resamples and a fixed
    seed.

    Args:
        reference: Score of each row through the reference, shape ``(rows,)``, or what each
            row adds to sums, shape ``(rows, sums)``.
        candidate: The same through the candidate.
        higher_is_better: Direction of the metric.
        of_sums: From sums of shape ``(..., sums)`` to the metric, shape ``(...)``; needed
            where rows add to sums.

    Returns:
        The drop and its interval.

    Raises:
        VerificationError: If the shapes differ, there are no rows, or a score is not finite.

    Example:
        >>> paired_drop(np.array([1.0, 1.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0, 0.0])).value
        0.25
    """
    dimensions = 1 if of_sums is None else 2
    if (
        reference.shape != candidate.shape
        or reference.size == 0
        or reference.ndim not in (1, dimensions)
    ):
        raise VerificationError(
            "A paired comparison needs one score a row from both sides. Received: "
            f"{reference.shape} and {candidate.shape}."
        )
    for side, scores in (("reference", reference), ("candidate", candidate)):
        if not np.isfinite(scores).all():
            bad = int(np.count_nonzero(~np.isfinite(scores)))
            raise VerificationError(
                f"{bad} of {scores.size} scores of the {side} are NaN or infinite, so there is no "
                "drop to speak of."
            )
    sign = 1.0 if higher_is_better else -1.0
    if reference.ndim == 2 and of_sums is not None:
        return _drop_of_sums(reference, candidate, sign, of_sums)
    worse = sign * (reference - candidate).astype(np.float64)
    value = float(worse.mean())
    binary = set(np.unique(reference)) | set(np.unique(candidate)) <= {0.0, 1.0}
    low, high = _bonett_price(worse) if binary else _bootstrap(worse)
    return Drop(value=value, low=low, high=high)


def _drop_of_sums(
    reference: FloatArray,
    candidate: FloatArray,
    sign: float,
    of_sums: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
) -> Drop:
    """Return the drop of a metric of sums; resamples in which nothing counts are left out."""
    both = np.concatenate([reference, candidate], axis=1).astype(np.float64)
    half = reference.shape[1]

    def drop(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(sign * (of_sums(sums[..., :half]) - of_sums(sums[..., half:])))

    generator = np.random.default_rng(0)
    rows = len(both)
    block = max(1, 4_000_000 // rows)
    drops = []
    for start in range(0, _RESAMPLES, block):
        size = min(block, _RESAMPLES - start)
        drawn = generator.integers(0, rows, size=(size, rows)) + rows * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows)
        drops.append(drop(times.astype(np.float64) @ both))
    low, high = np.nanquantile(np.concatenate(drops), [0.025, 0.975])
    return Drop(value=float(drop(both.sum(axis=0))), low=float(low), high=float(high))


def _bonett_price(worse: npt.NDArray[np.float64]) -> tuple[float, float]:
    rows = worse.size
    lost = (float(np.sum(worse > 0)) + 1) / (rows + 2)
    won = (float(np.sum(worse < 0)) + 1) / (rows + 2)
    half_width = _Z95 * math.sqrt((lost + won - (lost - won) ** 2) / (rows + 2))
    return max(-1.0, lost - won - half_width), min(1.0, lost - won + half_width)


def _bootstrap(worse: npt.NDArray[np.float64]) -> tuple[float, float]:
    generator = np.random.default_rng(0)
    rows = worse.size
    block = max(1, 4_000_000 // rows)
    means = [
        worse[generator.integers(0, rows, size=(min(block, _RESAMPLES - start), rows))].mean(axis=1)
        for start in range(0, _RESAMPLES, block)
    ]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)
