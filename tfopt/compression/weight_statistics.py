"""Measure on a model's own weights what a compression step achieved."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tfopt.errors import ModelError
from tfopt.keras2 import graph
from tfopt.keras2.core import Layer, Model
from tfopt.results import WeightHistogram

Kernels = Mapping[str, npt.NDArray[np.floating]]


def zero_fraction(kernels: Kernels) -> float:
    """Return the fraction of kernel entries that are exactly zero, in ``[0, 1]``.

    Biases and batch-norm statistics are never pruned, so callers pass kernels only;
    counting the rest would understate the result.

    Args:
        kernels: Weight name to array, any shape, floating dtype.

    Returns:
        Zero entries over all entries; 0 without entries.

    Example:
        >>> zero_fraction({"dense/kernel": np.array([[0.0, 2.0], [0.0, -1.0]])})
        0.5
    """
    entries = sum(values.size for values in kernels.values())
    zeros = sum(int(np.count_nonzero(values == 0)) for values in kernels.values())
    return zeros / entries if entries else 0.0


def unique_values(values: npt.NDArray[np.floating]) -> int:
    """Return how many distinct values an array holds, zero included.

    Example:
        >>> unique_values(np.array([0.5, 0.0, 0.5, -0.5]))
        3
    """
    return int(np.unique(values).size)


_PRUNED = 0.05
"""Share of exact zeros above which a kernel counts as pruned; training leaves none."""

_CLUSTERED = 0.75
"""Distinct values over weights below which a kernel counts as clustered."""

_MOST_CLUSTERS = 1024
"""Most values that a cluster step leaves in a kernel, or in each of its channels."""

_FEW_VALUES = 64


def is_pruned(kernel: npt.NDArray[np.floating]) -> bool:
    """Return whether so many entries are exactly zero that a step must have put them there.

    Kernels that are all zero (a common start of a last layer), identity kernels, and
    whole rows of zeros (words without a vector in an embedding) are no pruning.

    Example:
        >>> is_pruned(np.array([[0.0, 2.0], [0.5, 0.0]])), is_pruned(np.zeros((2, 2)))
        (True, False)
    """
    rows = kernel.reshape(-1, kernel.shape[-1]) if kernel.ndim > 1 else kernel.reshape(1, -1)
    if rows.shape[-1] > 1:
        rows = rows[np.any(rows != 0, axis=1)]
    kept = rows[rows != 0]
    return bool(kept.size and zero_fraction({"": rows}) > _PRUNED and np.any(kept != 1))


def is_clustered(kernel: npt.NDArray[np.floating]) -> bool:
    """Return whether a kernel holds so few distinct values that a step must have made them.

    Zeros do not count, since a pruned kernel repeats nothing else. Constant and identity
    kernels, and kernels read from a float16 or bfloat16 file, repeat values too, and are
    not clustered.

    Example:
        >>> is_clustered(np.array([0.1, 0.7, 0.1, 0.7])), is_clustered(np.array([0.0, 0.1, 0.0]))
        (True, False)
    """
    kept = kernel[kernel != 0]
    count = unique_values(kept)
    if count + (kept.size < kernel.size) < 2 or np.all(kept == 1):
        return False
    if count > _CLUSTERED * kept.size:
        return False
    # Large tables that were rounded once repeat values too, but hardly within a channel.
    if count > _MOST_CLUSTERS and _values_of_channels(kernel) > _CLUSTERED * kept.size:
        return False
    return count <= _FEW_VALUES or not _is_short(kept.astype(np.float32))


def _values_of_channels(kernel: npt.NDArray[np.floating]) -> int:
    """Return the sum of distinct values beside zero in each entry of the last axis."""
    columns = np.sort(kernel.reshape(-1, kernel.shape[-1]), axis=0)
    is_new = np.ones(columns.shape, bool)
    is_new[1:] = columns[1:] != columns[:-1]
    return int(np.count_nonzero(is_new & (columns != 0)))


def _is_short(values: npt.NDArray[np.float32]) -> bool:
    """Return whether all values fit float16 or bfloat16 exactly."""
    with np.errstate(over="ignore"):
        as_float16 = values.astype(np.float16).astype(np.float32)
    if np.array_equal(as_float16, values):
        return True
    return not np.any(values.view(np.uint32) & 0xFFFF)  # bfloat16 is the upper half


def require_finite(model: Model) -> None:
    """Raise if a kernel of a flat model holds NaN or an infinity.

    Raises:
        ModelError: With the layer's name.
    """
    for name, values in model_kernels(model).items():
        if not np.all(np.isfinite(values)):
            raise ModelError(
                f"The weights {name!r} of model {model.name!r} are not finite. Train it again with "
                "a lower learning rate, or load an earlier file."
            )


def layer_kernels(layer: Layer) -> dict[str, npt.NDArray[np.floating]]:
    """Return a layer's kernels as arrays, attribute name to values."""
    return {name: np.asarray(variable) for name, variable in graph.kernels_of(layer).items()}


def model_kernels(model: Model) -> dict[str, npt.NDArray[np.floating]]:
    """Return all kernels of a flat model, ``layer/attribute`` to values."""
    return {
        f"{layer.name}/{name}": values
        for layer in graph.layers_of(model)
        for name, values in layer_kernels(layer).items()
    }


def weight_histograms(before: Kernels, after: Kernels, *, bins: int = 40) -> list[WeightHistogram]:
    """Return, for each kernel in both models, how its values were and are spread.

    Args:
        before: Kernels of the trained float model.
        after: Kernels of the final model, same names.
        bins: Number of equal bins between the extremes of both.
    """
    histograms = []
    for name in before:
        if name not in after or before[name].size != after[name].size or not before[name].size:
            continue
        both = np.concatenate([before[name].ravel(), after[name].ravel()])
        edges = np.histogram_bin_edges(both, bins=bins)
        histograms.append(
            WeightHistogram(
                layer=name,
                edges=edges.tolist(),
                before=np.histogram(before[name], edges)[0].tolist(),
                after=np.histogram(after[name], edges)[0].tolist(),
                zero_fraction_before=zero_fraction({name: before[name]}),
                zero_fraction_after=zero_fraction({name: after[name]}),
                unique_before=unique_values(before[name]),
                unique_after=unique_values(after[name]),
            )
        )
    return histograms
