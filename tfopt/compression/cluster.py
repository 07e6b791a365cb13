"""Weight clustering: every kernel is gathered from a few values, which are then trained.

The method is that of Deep Compression (Han, Mao and Dally, 2016, arXiv:1510.00149,
section 3): one-dimensional k-means, a fixed assignment, and gradients summed over the
weights that share a value. See docs/decisions for why tfmot's wrapper is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tfopt.compression import graph
from tfopt.compression.base import Measurement, StepContext, by_pattern
from tfopt.compression.measure import layer_kernels, unique_values, zero_fraction
from tfopt.compression.quantizers import CUSTOM_OBJECTS, KernelScheme, SchemedLayer
from tfopt.config.schema import ClusterStep
from tfopt.errors import InputError, VerificationError
from tfopt.legacy_keras import Layer, Model, keras
from tfopt.results import LayerDecision

_PRUNED = 0.05
"""Share of exact zeros above which a kernel counts as pruned; training leaves none."""

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_CLUSTERED = (
    keras.layers.Dense,
    *_CONVOLUTIONS,
    keras.layers.DepthwiseConv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
    keras.layers.Embedding,
)


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
    values = np.linspace(distinct[0], distinct[-1], count)
    if not with_lloyd:
        return values
    ordered = np.sort(entries)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    for _ in range(100):
        cuts = np.searchsorted(ordered, (values[1:] + values[:-1]) / 2)
        edges = np.concatenate([[0], cuts, [ordered.size]])
        counts = np.diff(edges)
        means = np.diff(sums[edges]) / np.maximum(counts, 1)
        moved = np.where(counts > 0, means, values)
        if not counts.all():
            # A value that nobody takes goes to the entry that is served worst.
            errors = np.abs(ordered - moved[np.repeat(np.arange(count), counts)])
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


class Cluster:
    """The ``cluster`` step; see ``CompressionPass`` for the contract."""

    name = "cluster"

    def __init__(self, settings: ClusterStep) -> None:
        self.settings = settings

    def decide(self, model: Model) -> list[LayerDecision]:
        """Return the number of values of each layer, and why the others are skipped."""
        layers = [layer for layer in graph.layers_of(graph.copy(model)) if layer.weights]
        reasons = {layer.name: _reason_to_skip(layer) for layer in layers}
        able = [name for name, reason in reasons.items() if not reason]
        numbers = by_pattern(
            self.settings.layers, able, self.settings.clusters, setting="cluster.layers"
        )
        decisions = [self._decision(layer, reasons[layer.name], numbers) for layer in layers]
        if not any(decision.done for decision in decisions):
            why = "; ".join(f"{entry.layer}: {entry.reason}" for entry in decisions)
            raise InputError(f"cluster: no layer of {model.name!r} can be clustered ({why}).")
        return decisions

    def wrap(self, model: Model, context: StepContext) -> Model:
        """Return a copy whose kernels are gathered from their shared values."""
        numbers = {
            entry.layer: int(entry.values["clusters"]) for entry in self.decide(model) if entry.done
        }
        shared = {
            layer.name: {
                name: self._share(layer, values, numbers[layer.name])
                for name, values in layer_kernels(layer).items()
            }
            for layer in graph.layers_of(graph.copy(model))
            if layer.name in numbers
        }

        def replace(layer: Layer) -> Layer:
            if layer.name not in shared:
                return layer
            scheme = {
                name: {
                    "bits": None,
                    "shared": int(part.values.size),
                    "masked": self._keeps_zeros(part.values[part.indices]),
                }
                for name, part in shared[layer.name].items()
            }
            return SchemedLayer(layer, KernelScheme(scheme), name_prefix="cluster_")

        def move(original: Layer, replacement: Layer) -> None:
            if not isinstance(replacement, SchemedLayer):
                graph.same_weights(original, replacement)
                return
            replacement.take_weights(original)
            for name, part in shared[replacement.layer.name].items():
                replacement.share(name, part.values, part.indices)

        return graph.rebuild(model, replace, move_weights=move)

    def callbacks(self) -> list[Any]:
        """Return none: the shared values train like any weight."""
        return []

    def at_target(self, wrapped: Model) -> bool:
        """Return True: kernels are clustered from the first step on."""
        return True

    def unwrap(self, wrapped: Model) -> Model:
        """Return the plain model with the shared values written into its kernels."""
        with keras.utils.custom_object_scope(dict(CUSTOM_OBJECTS)):
            return graph.rebuild(wrapped, plain_layer, move_weights=settled_weights)

    def measure(self, before: Model, after: Model, context: StepContext) -> Measurement:
        """Return the distinct values of every kernel; too many, or lost zeros, is an error."""
        old = {layer.name: layer for layer in graph.layers_of(graph.copy(before))}
        new = {layer.name: layer for layer in graph.layers_of(after)}
        measured = []
        for entry in self.decide(before):
            kernels = layer_kernels(new[entry.layer])
            if not kernels:
                measured.append(entry)
                continue
            most = max(unique_values(values) for values in kernels.values())
            values = {
                **entry.values,
                "unique_values": most,
                "zero_fraction": zero_fraction(kernels),
            }
            if entry.done:
                self._require(entry, kernels, layer_kernels(old[entry.layer]))
            measured.append(
                LayerDecision(entry.layer, entry.kind, entry.done, entry.reason, values)
            )
        done = [entry for entry in measured if entry.done]
        return Measurement(
            evidence={
                "unique_values_max": max(entry.values["unique_values"] for entry in done),
                "layers_clustered": len(done),
                "layers_skipped": len(measured) - len(done),
            },
            layers=measured,
        )

    def _require(
        self,
        entry: LayerDecision,
        kernels: Mapping[str, np.ndarray],
        before: Mapping[str, np.ndarray],
    ) -> None:
        limit = int(entry.values["clusters"])
        for name, values in kernels.items():
            parts = [values]
            if self._is_per_channel(entry.kind):
                parts = [values[..., channel] for channel in range(values.shape[-1])]
            most = max(unique_values(part) for part in parts)
            if most > limit:
                raise VerificationError(
                    f"cluster: layer {entry.layer!r} holds {most} distinct values; {limit} were "
                    "asked for."
                )
            if self._keeps_zeros(before[name]) and np.any(values[before[name] == 0]):
                raise VerificationError(
                    f"cluster: layer {entry.layer!r} lost zeros: "
                    f"{zero_fraction({name: before[name]}):.4f} before, "
                    f"{zero_fraction({name: values}):.4f} after."
                )

    def _share(self, layer: Layer, values: np.ndarray, clusters: int) -> SharedKernel:
        share = share_channels if self._is_per_channel(type(layer).__name__) else share_kernel
        return share(
            values,
            clusters,
            keep_zeros=self._keeps_zeros(values),
            initialization=self.settings.initialization,
        )

    def _is_per_channel(self, kind: str) -> bool:
        return self.settings.per_channel and kind in {c.__name__ for c in _CONVOLUTIONS}

    def _keeps_zeros(self, values: np.ndarray) -> bool:
        if self.settings.preserve_sparsity == "auto":
            return is_pruned(values)
        return bool(self.settings.preserve_sparsity) and bool(np.any(values == 0))

    def _decision(self, layer: Layer, reason: str, numbers: Mapping[str, int]) -> LayerDecision:
        kind = type(layer).__name__
        if reason:
            return LayerDecision(layer.name, kind, done=False, reason=reason)
        clusters = numbers[layer.name]
        if clusters == 0:
            return LayerDecision(
                layer.name, kind, done=False, reason="left alone by cluster.layers"
            )
        if clusters == 1:
            raise InputError(
                f"cluster.layers: layer {layer.name!r} needs at least 2 values (or 0 to leave it "
                "alone). Received: 1."
            )
        kernels = layer_kernels(layer)
        zeros = any(self._keeps_zeros(values) for values in kernels.values())
        words = f"at most {clusters} distinct values" + (", zeros kept" if zeros else "")
        if self._is_per_channel(kind):
            words += ", for each channel"
        weights = sum(values.size for values in kernels.values())
        present = max(unique_values(values) for values in kernels.values())
        return LayerDecision(
            layer.name,
            kind,
            done=True,
            reason=words,
            values={"clusters": clusters, "present": present, "weights": weights},
        )


def is_pruned(kernel: npt.NDArray[np.floating]) -> bool:
    """Return whether so many entries are exactly zero that a step must have put them there."""
    return zero_fraction({"": kernel}) > _PRUNED


def plain_layer(layer: Layer) -> Layer:
    """Return the layer inside a scheme, or the layer itself."""
    return layer.layer if isinstance(layer, SchemedLayer) else layer


def settled_weights(original: Layer, replacement: Layer) -> None:
    """Copy weights out of a scheme, kernels as they are computed with."""
    if isinstance(original, SchemedLayer):
        original.give_weights(replacement)
    else:
        graph.same_weights(original, replacement)


def _reason_to_skip(layer: Layer) -> str:
    if type(layer) not in _CLUSTERED:
        if not layer_kernels(layer) and not isinstance(layer, keras.layers.RNN):
            return "has no kernel; biases and norms are never clustered"
        return f"no rule to cluster the layer type {type(layer).__name__}"
    return "" if layer.trainable else "frozen"
