"""Measure on a model's own weights what a compression step achieved."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tfopt.compression import graph
from tfopt.legacy_keras import Layer, Model
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
        if name not in after or before[name].size != after[name].size:
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
