"""Divide the rows of a split, each class in proportion where labels are classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tfopt.data.split import Split
from tfopt.errors import DataError

Rows = npt.NDArray[np.int64]


def hold_out(split: Split, *, fraction: float, seed: int, stratify: bool) -> tuple[Split, Split]:
    """Divide a split into the rows that are kept and the rows held out.

    Args:
        split: At least two rows.
        fraction: Share of rows held out, in ``(0, 1)``.
        seed: Seed of the draw.
        stratify: Hold out this share of each class; needs ``split.class_numbers``.

    Returns:
        The kept rows and the held-out rows, both in the split's order.

    Raises:
        DataError: If there is only one row.
    """
    rows = split.examples
    if rows < 2:
        raise DataError(f"{rows} example cannot be divided in two. Give more data.")
    count = min(rows - 1, max(1, round(rows * fraction)))
    held = draw_rows(rows, count=count, seed=seed, labels=_labels(split, stratify))
    kept = np.setdiff1d(np.arange(rows), held, assume_unique=True)
    return split.select(kept), split.select(held)


def limited(split: Split, limit: int | None, *, seed: int, stratify: bool) -> Split:
    """Return at most ``limit`` rows, drawn over the whole split; all if ``limit`` is None."""
    if limit is None or limit >= split.examples:
        return split
    rows = draw_rows(split.examples, count=limit, seed=seed, labels=_labels(split, stratify))
    return split.select(rows)


def draw_rows(rows: int, *, count: int, seed: int, labels: npt.NDArray[np.int64] | None) -> Rows:
    """Return ``count`` different row numbers, ascending.

    Args:
        rows: Number of rows to draw from.
        count: How many to draw, ``0 <= count <= rows``.
        seed: Seed of the draw.
        labels: Class number of each row, to draw from each class in proportion (largest
            remainders get the last places); None draws from all rows alike.

    Returns:
        Row numbers.

    Example:
        >>> drawn = draw_rows(6, count=2, seed=0, labels=np.array([0, 0, 0, 1, 1, 1]))
        >>> [int(row) // 3 for row in drawn]
        [0, 1]
    """
    generator = np.random.default_rng(seed)
    if labels is None:
        return np.sort(generator.permutation(rows)[:count])
    _, groups, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    exact = sizes * (count / rows)
    places = np.floor(exact).astype(np.int64)
    remainders = np.argsort(places - exact, kind="stable")
    places[remainders[: count - int(places.sum())]] += 1
    order = generator.permutation(rows)
    grouped = order[np.argsort(groups[order], kind="stable")]
    starts = np.cumsum(sizes) - sizes
    chosen = [grouped[start : start + n] for start, n in zip(starts, places, strict=True)]
    return np.sort(np.concatenate(chosen))


def _labels(split: Split, stratify: bool) -> npt.NDArray[np.int64] | None:  # noqa: FBT001  # private
    labels = split.class_numbers
    return labels if stratify and labels is not None and labels.ndim == 1 else None
