"""Weight clustering: every kernel is gathered from a few values, which are then trained.

The method is that of Deep Compression (Han, Mao and Dally, 2016, arXiv:1510.00149,
section 3): one-dimensional k-means, a fixed assignment, and gradients summed over the
weights that share a value. See docs/decisions for why tfmot's wrapper is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfopt.compression.base import Measurement, StepContext, by_pattern
from tfopt.compression.kmeans import SharedKernel, share_channels, share_kernel
from tfopt.compression.layers.quantized import KernelScheme, SchemedLayer
from tfopt.compression.preserve import (
    CUSTOM_OBJECTS,
    SCHEMED_TYPES,
    flat_copy,
    give_weights,
    holding,
    require_kept,
    unwrapped,
)
from tfopt.compression.tfmot import UpdatePruningStep
from tfopt.compression.weight_statistics import (
    is_pruned,
    layer_kernels,
    require_finite,
    unique_values,
    zero_fraction,
)
from tfopt.config.schema import ClusterStep
from tfopt.errors import InputError, VerificationError
from tfopt.keras2 import graph
from tfopt.keras2.core import Layer, Model, keras
from tfopt.results import LayerDecision

__all__ = ["CUSTOM_OBJECTS", "Cluster"]

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


class Cluster:
    """The ``cluster`` step; see ``CompressionPass`` for the contract."""

    name = "cluster"

    def __init__(self, settings: ClusterStep) -> None:
        self.settings = settings

    def decide(self, model: Model) -> list[LayerDecision]:
        """Return the number of values of each layer, and why the others are skipped."""
        return self._decide(flat_copy(model, step="cluster"))

    def wrap(self, model: Model, context: StepContext) -> Model:
        """Return a copy whose kernels are gathered from their shared values."""
        flat = flat_copy(model, step="cluster")
        require_finite(flat)
        numbers = {
            entry.layer: int(entry.values["clusters"]) for entry in self._decide(flat) if entry.done
        }
        kernels = {layer.name: layer_kernels(layer) for layer in graph.layers_of(flat)}
        shared = {
            layer.name: {
                name: self._share(layer, values, numbers[layer.name])
                for name, values in kernels[layer.name].items()
            }
            for layer in graph.layers_of(flat)
            if layer.name in numbers
        }

        def replace(layer: Layer) -> Layer:
            if layer.name not in shared:
                return holding(layer, kernels[layer.name])
            scheme = {
                name: {
                    "bits": None,
                    "shared": int(part.values.size),
                    "masked": self._keeps_zeros(kernels[layer.name][name]),
                }
                for name, part in shared[layer.name].items()
            }
            return SchemedLayer(layer, KernelScheme(scheme), name_prefix="cluster_")

        def move(original: Layer, replacement: Any) -> None:
            if original.name not in shared:
                give_weights(original, replacement)
                return
            replacement.take_weights(original)
            for name, part in shared[original.name].items():
                replacement.share(name, part.values, part.indices)

        return graph.rebuild(flat, replace, move_weights=move)

    def callbacks(self) -> list[Any]:
        """Return tfmot's callback, for pruned layers that are kept as they are."""
        return [UpdatePruningStep()]

    def at_target(self, wrapped: Model) -> bool:
        """Return True: kernels are clustered from the first step on."""
        return True

    def unwrap(self, wrapped: Model) -> Model:
        """Return the plain model with the shared values written into its kernels."""
        return unwrapped(wrapped)

    def measure(self, before: Model, after: Model, context: StepContext) -> Measurement:
        """Return the distinct values of every kernel; too many, or lost zeros, is an error."""
        flat = flat_copy(before, step="cluster")
        old = {layer.name: layer_kernels(layer) for layer in graph.layers_of(flat)}
        new = {layer.name: layer_kernels(layer) for layer in graph.layers_of(after)}
        decisions = self._decide(flat)
        for entry in decisions:
            if entry.done:
                self._require(entry, new[entry.layer], old[entry.layer])
        left = {entry.layer: old[entry.layer] for entry in decisions if not entry.done}
        require_kept(left, new, step="cluster")
        measured = [_measured(entry, new[entry.layer]) for entry in decisions]
        done = [entry for entry in measured if entry.done]
        return Measurement(
            evidence={
                "unique_values_max": max(entry.values["unique_values"] for entry in done),
                "layers_clustered": len(done),
                "layers_skipped": len(measured) - len(done),
            },
            layers=measured,
        )

    def _decide(self, flat: Model) -> list[LayerDecision]:
        layers = [layer for layer in graph.layers_of(flat) if layer.weights]
        reasons = {layer.name: _reason_to_skip(layer) for layer in layers}
        numbers = by_pattern(
            self.settings.layers, reasons, self.settings.clusters, setting="cluster.layers"
        )
        decisions = [self._decision(layer, reasons[layer.name], numbers) for layer in layers]
        if not any(decision.done for decision in decisions):
            why = "; ".join(f"{entry.layer}: {entry.reason}" for entry in decisions)
            why = why or "it has no weights"
            raise InputError(f"cluster: no layer of {flat.name!r} can be clustered ({why}).")
        return decisions

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
            if np.any(before[name]) and not np.any(values):
                raise VerificationError(
                    f"cluster: every weight of layer {entry.layer!r} became zero. Ask for more "
                    "values."
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


def _measured(entry: LayerDecision, kernels: Mapping[str, np.ndarray]) -> LayerDecision:
    if not kernels:
        return entry
    values = {
        **entry.values,
        "unique_values": max(unique_values(kernel) for kernel in kernels.values()),
        "zero_fraction": zero_fraction(kernels),
    }
    return LayerDecision(entry.layer, entry.kind, entry.done, entry.reason, values)


def _reason_to_skip(layer: Layer) -> str:
    if type(layer) not in SCHEMED_TYPES:
        if not layer_kernels(layer):
            return "has no kernel; biases and norms are never clustered"
        return f"no rule to cluster the layer type {type(layer).__name__}"
    return "" if layer.trainable else "frozen"
