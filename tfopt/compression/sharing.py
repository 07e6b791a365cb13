"""Share a kernel's entries among a few values: one-dimensional k-means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


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
    """Return at most ``count`` values: Lloyd's k-means from a linear start, sorted.

    A linear start keeps the large weights, which matter most, near a value of their
    own (Deep Compression, section 3.2).
    """
    distinct = np.unique(entries)
    if distinct.size <= count:
        return distinct
    if count == 1:
        return np.array([entries.mean()])
    values = np.linspace(distinct[0], distinct[-1], count)
    return _lloyd(np.sort(entries), values) if with_lloyd else values


def _lloyd(
    ordered: npt.NDArray[np.float64], values: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the values moved to the means of the entries they serve, until they rest."""
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    for _ in range(100):
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
