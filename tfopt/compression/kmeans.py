"""Share a kernel's entries among a few values: one-dimensional k-means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_MOST_ROUNDS = 1000
"""Lloyd's algorithm rests after 20 to 400 rounds on kernels of up to 400,000 weights."""


_SPLIT_POINTS = 256
_MOST_SPLIT = 64
"""The best split costs their product times the points once more: 5 ms for 16 values."""


@dataclass(frozen=True, slots=True)
class SharedKernel:
    """A kernel as a short list of values and an index for every entry.

    Attributes:
        values: The distinct values, shape ``(count,)``, float32.
        indices: Which value each entry takes, shape of the kernel, int32.
    """

    values: npt.NDArray[np.float32]
    indices: npt.NDArray[np.int32]


def exact_sharing(kernel: npt.NDArray[np.floating]) -> SharedKernel:
    """Return a kernel's own distinct values and where each stands."""
    values, indices = np.unique(kernel, return_inverse=True)
    return SharedKernel(values.astype(np.float32), indices.reshape(kernel.shape).astype(np.int32))


def share_kernel(
    kernel: npt.NDArray[np.floating],
    clusters: int,
    *,
    keep_zeros: bool,
    initialization: str = "kmeans",
) -> SharedKernel:
    """Return the kernel with at most ``clusters`` distinct values.

    Args:
        kernel: Any shape.
        clusters: Most distinct values, ``>= 2``; zero is one of them if kept.
        keep_zeros: Zero entries stay zero and other entries do not become zero.
        initialization: ``kmeans`` or ``linear``.

    Returns:
        Values and indices.
    """
    flat = np.asarray(kernel, np.float64).ravel()
    moving = flat != 0 if keep_zeros else np.ones(flat.shape, bool)
    values = _centroids(
        flat[moving], clusters - int(keep_zeros), with_lloyd=initialization == "kmeans"
    )
    indices = np.zeros(flat.shape, np.int32)
    indices[moving] = _nearest(flat[moving], values)
    if keep_zeros:
        values = np.append(values, 0.0)
        indices[~moving] = values.size - 1
    return SharedKernel(values.astype(np.float32), indices.reshape(kernel.shape))


def share_channels(
    kernel: npt.NDArray[np.floating],
    clusters: int,
    *,
    keep_zeros: bool,
    initialization: str = "kmeans",
) -> SharedKernel:
    """Return the kernel with its own values for each entry of the last axis."""
    indices = np.zeros(kernel.shape, np.int32)
    values: list[npt.NDArray[np.float32]] = []
    start = 0
    for channel in range(kernel.shape[-1]):
        part = share_kernel(
            kernel[..., channel], clusters, keep_zeros=keep_zeros, initialization=initialization
        )
        indices[..., channel] = part.indices + start
        values.append(part.values)
        start += part.values.size
    return SharedKernel(np.concatenate(values), indices)


def _centroids(
    entries: npt.NDArray[np.float64], count: int, *, with_lloyd: bool
) -> npt.NDArray[np.float64]:
    """Return at most ``count`` values, sorted: nearly the best, or evenly spread."""
    distinct = np.unique(entries)
    if distinct.size <= count:
        return distinct
    if count == 1:
        return np.array([entries.mean()])
    if not with_lloyd:
        return np.linspace(distinct[0], distinct[-1], count)
    ordered = np.sort(entries)
    start = _by_density(ordered, count)
    return _lloyd(ordered, _best_split(ordered, start) if count <= _MOST_SPLIT else start)


def _by_density(ordered: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Return values spread by the cube root of the density of the entries.

    That is the best spread of many values (Panter and Dite, 1951, "Quantization
    distortion in pulse-count modulation with nonuniform spacing of levels").
    """
    counts, edges = np.histogram(ordered, bins=min(256, ordered.size))
    total = np.concatenate([[0.0], np.cumsum(np.cbrt(counts))])
    return np.interp((np.arange(count) + 0.5) / count * total[-1], total, edges)


def _best_split(
    ordered: npt.NDArray[np.float64], start: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the means of the best split into as many runs as ``start`` has values.

    One-dimensional k-means is a shortest path over the sorted entries (Wang and Song,
    2011, "Ckmeans.1d.dp"); Lloyd's rounds alone end up to 1.7 times as far from small
    kernels. More than ``_SPLIT_POINTS`` entries are taken in small runs.
    """
    size, count = ordered.size, start.size
    cuts = np.arange(size + 1)
    if size > _SPLIT_POINTS:
        inner = np.searchsorted(ordered, _by_density(ordered, _SPLIT_POINTS))
        cuts = np.unique(np.concatenate([[0], inner, [size]]))
    if cuts.size <= count:
        return start
    centred = ordered - ordered.mean()
    sums, squares = (
        np.concatenate([[0.0], np.cumsum(values)])[cuts] for values in (centred, centred**2)
    )
    counts = np.maximum(cuts[None, :] - cuts[:, None], 1)
    error = (squares[None, :] - squares[:, None]) - (sums[None, :] - sums[:, None]) ** 2 / counts
    error = np.where(cuts[None, :] > cuts[:, None], error, np.inf)
    best, previous = error[0], []
    for _ in range(count - 1):
        total = best[:, None] + error
        previous.append(np.argmin(total, axis=0))
        best = total[previous[-1], np.arange(cuts.size)]
    path = [cuts.size - 1]
    for choices in reversed(previous):
        path.append(choices[path[-1]])
    ends = cuts[[0, *reversed(path)]]
    return np.add.reduceat(ordered, ends[:-1]) / np.diff(ends)


def _lloyd(
    ordered: npt.NDArray[np.float64], values: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the values moved to the means of the entries they serve, until they rest."""
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    for _ in range(_MOST_ROUNDS):
        cuts = np.searchsorted(ordered, (values[1:] + values[:-1]) / 2)
        edges = np.concatenate([[0], cuts, [ordered.size]])
        counts = np.diff(edges)
        means = np.diff(sums[edges]) / np.maximum(counts, 1)
        moved = np.where(counts > 0, means, values)
        if not counts.all():
            # A value that nobody takes goes to the entry that is served worst.
            errors = np.abs(ordered - moved[np.repeat(np.arange(values.size), counts)])
            moved[np.argmin(counts)] = ordered[np.argmax(errors)]
        moved = np.sort(moved)
        if np.array_equal(moved, values):
            break
        values = moved
    return values


def _nearest(
    entries: npt.NDArray[np.float64], values: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    return np.searchsorted((values[1:] + values[:-1]) / 2, entries)
