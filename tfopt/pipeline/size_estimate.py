"""Foresee what steps will make of a model's kernels, and how large its file will be.

Each step is imitated on the untrained weights: which entries become zero and which values
are shared is wrong, but how many is right, and that is what sizes depend on.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tfopt.compression.weight_statistics import layer_kernels
from tfopt.config.schema import ClusterStep, Step
from tfopt.keras2 import graph
from tfopt.keras2.core import Model
from tfopt.results import LayerDecision

Kernel = npt.NDArray[np.floating]

_INTEGER = ("int8", "int8_io", "int16x8", "dynamic")
_CONVOLUTION_RANK = 4
_SAMPLE_ENTRIES = 4_000_000

# Beside its weights a .tflite holds tensors, operators and names. Fitted to the files of
# lenet5, lenet300 and small dense and convolutional models with 3 or 4 kernels each.
_FILE_BYTES, _KERNEL_BYTES = 1_000, 800
_FILE_GZIP_BYTES, _KERNEL_GZIP_BYTES = 600, 450


@dataclass(frozen=True, slots=True)
class SizeForecast:
    """How large an exported file will be, about.

    Attributes:
        precision: Precision of the export.
        bytes: Size of the file.
        gzip_bytes: Size after gzip.
    """

    precision: str
    bytes: int
    gzip_bytes: int


def imitate_step(model: Model, step: Step, decisions: Sequence[LayerDecision]) -> None:
    """Give the kernels of a flat model as many zeros and shared values as a step will.

    Args:
        model: The model; changed in place.
        step: The step; ``quantize`` changes nothing here.
        decisions: What the step decided on this model.
    """
    wanted = {entry.layer: entry.values for entry in decisions if entry.done}
    for layer in graph.layers_of(model):
        values = wanted.get(layer.name, {})
        for variable in graph.kernels_of(layer).values():
            kernel = np.asarray(variable)
            if step.prune is not None and "target" in values:
                variable.assign(_with_zeros(kernel, values["target"]))
            elif step.cluster is not None and "clusters" in values:
                variable.assign(_clustered(kernel, int(values["clusters"]), step.cluster))


def forecast_size(model: Model, precision: str, *, floating: Collection[str] = ()) -> SizeForecast:
    """Return how large a model's file will be.

    Args:
        model: A flat model with as many zeros and shared values as in the end.
        precision: Precision of the export.
        floating: Names of layers that stay float32 whatever the precision.
    """
    stored = packed = 0.0
    count = 0
    for layer in graph.layers_of(model):
        kernels = layer_kernels(layer)
        count += len(kernels)
        for kernel in kernels.values():
            content = _content(kernel, "float32" if layer.name in floating else precision)
            stored += content.nbytes
            packed += _packed_bytes(content)
        rest = layer.count_params() - sum(kernel.size for kernel in kernels.values())
        stored += rest * 4
        packed += rest * 4
    return SizeForecast(
        precision=precision,
        bytes=round(stored + _FILE_BYTES + count * _KERNEL_BYTES),
        gzip_bytes=round(packed + _FILE_GZIP_BYTES + count * _KERNEL_GZIP_BYTES),
    )


def _with_zeros(kernel: Kernel, share: float) -> Kernel:
    """Return a kernel whose smallest entries are zero."""
    count = round(share * kernel.size)
    order = np.argsort(np.abs(kernel), axis=None, kind="stable")
    flat = kernel.ravel().copy()
    flat[order[:count]] = 0.0
    return flat.reshape(kernel.shape)


def _clustered(kernel: Kernel, clusters: int, settings: ClusterStep) -> Kernel:
    keep_zeros = settings.preserve_sparsity is not False
    if not settings.per_channel or kernel.ndim != _CONVOLUTION_RANK:
        return _with_shared_values(kernel, clusters, keep_zeros=keep_zeros)
    channels = np.moveaxis(kernel, -1, 0)
    shared = [_with_shared_values(part, clusters, keep_zeros=keep_zeros) for part in channels]
    return np.moveaxis(np.stack(shared), 0, -1)


def _with_shared_values(kernel: Kernel, clusters: int, *, keep_zeros: bool) -> Kernel:
    """Return a kernel whose entries are moved to values that equally many share."""
    flat = kernel.ravel().copy()
    kept = np.flatnonzero(flat) if keep_zeros else np.arange(flat.size)
    values = min(clusters - (kept.size < kernel.size), kept.size)
    if values < 1:
        return kernel
    order = kept[np.argsort(flat[kept], kind="stable")]
    for group in np.array_split(order, values):
        flat[group] = flat[group].mean()
    return flat.reshape(kernel.shape)


def _content(kernel: Kernel, precision: str) -> npt.NDArray[Any]:
    """Return a kernel in the number format of an export."""
    if precision in _INTEGER:
        largest = float(np.abs(kernel).max(initial=0.0)) or 1.0
        return np.round(kernel / largest * 127).astype(np.int8)
    return kernel.astype(np.float16 if precision == "float16" else np.float32)


def _packed_bytes(content: npt.NDArray[Any]) -> float:
    """Return the size after gzip; of large kernels, a part speaks for the whole."""
    part = content.ravel()[:_SAMPLE_ENTRIES]
    if part.size == 0:
        return 0.0
    return len(zlib.compress(part.tobytes(), 9)) * content.size / part.size
