"""Quantization-aware training that starts from calibrated ranges and keeps what came before.

With zero epochs the result is post-training quantization. A pruned model keeps its zeros
(PQAT), a clustered one its shared values (CQAT), both together (PCQAT); which of them
applies is read off each kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.compression.base import Measurement, StepContext, require_matches
from tfopt.compression.layers.masked import CUSTOM_OBJECTS as PRUNED_OBJECTS
from tfopt.compression.layers.masked import PrunedLayer
from tfopt.compression.layers.quantized import CUSTOM_OBJECTS as QUANTIZER_OBJECTS
from tfopt.compression.layers.quantized import KernelScheme, RangeLayer, SchemedLayer
from tfopt.compression.preserve import (
    give_weights,
    holding,
    kept_in,
    plain_layer,
    require_kept,
    require_unwrapped,
    settle_weights,
)
from tfopt.compression.quantization.decompose import CUSTOM_OBJECTS as CANONICAL_OBJECTS
from tfopt.compression.quantization.decompose import canonical
from tfopt.compression.quantization.fold_batch_norm import in_place_of_normalizations
from tfopt.compression.quantization.placement import Placement, Role, place
from tfopt.compression.quantization.ranges import (
    calibrate,
    open_empty_ranges,
    range_gaps,
    range_name,
)
from tfopt.compression.tfmot import UpdatePruningStep
from tfopt.compression.weight_statistics import (
    layer_kernels,
    require_finite,
    unique_values,
    zero_fraction,
)
from tfopt.config.schema import QuantizeStep
from tfopt.errors import InputError, VerificationError
from tfopt.keras2 import graph
from tfopt.keras2.core import Layer, Model, keras
from tfopt.keras2.layer_copy import same_weights
from tfopt.results import LayerDecision

_CHANNELS = {
    keras.layers.Dense: "none",
    keras.layers.Conv2D: "last",
    keras.layers.DepthwiseConv2D: "depthwise",
    keras.layers.Conv2DTranspose: "none",
}

CUSTOM_OBJECTS: Mapping[str, Any] = {
    **QUANTIZER_OBJECTS,
    **CANONICAL_OBJECTS,
    **PRUNED_OBJECTS,
}


class Quantize:
    """The ``quantize`` step; see ``CompressionPass`` for the contract."""

    name = "quantize"

    def __init__(self, settings: QuantizeStep) -> None:
        self.settings = settings

    def decide(self, model: Model) -> list[LayerDecision]:
        """Return which layers will work on 8 bits, and why the others stay float."""
        plain = _plain(model)
        return self._decide(plain, self._place(plain))

    def wrap(self, model: Model, context: StepContext) -> Model:
        """Return a copy that emulates 8-bit arithmetic, with calibrated ranges."""
        plain = _plain(model)
        require_finite(plain)
        placement = self._place(plain)
        self._decide(plain, placement)
        kernels = {layer.name: layer_kernels(layer) for layer in graph.layers_of(plain)}
        names: set[str] = set()

        def replace(layer: Layer) -> Layer:
            if layer.name in placement.kernels:
                scheme = self._scheme(layer, kernels[layer.name])
                return SchemedLayer(layer, KernelScheme(scheme), name_prefix="quant_")
            keeps = self.settings.preserve == "auto"
            return holding(layer, kernels[layer.name]) if keeps else layer

        def rounded(layer: Layer, tensor: Any) -> Any:
            if not tensor.dtype.is_floating:
                return tensor
            # A layer that is called twice makes two tensors, each with its own range.
            wanted, number = range_name(layer.name), 0
            name = wanted
            while name in names:
                number += 1
                name = f"{wanted}_{number}"
            names.add(name)
            return RangeLayer(name=name)(tensor)

        def after(layer: Layer, outputs: Any) -> Any:
            if layer.name not in placement.outputs:
                return outputs
            return tf.nest.map_structure(lambda tensor: rounded(layer, tensor), outputs)

        wrapped = graph.rebuild(plain, replace, after=after, move_weights=give_weights)
        calibrate(wrapped, context.calibration())
        return wrapped

    def callbacks(self) -> list[Any]:
        """Return tfmot's callback, for pruned layers that are kept as they are."""
        return [UpdatePruningStep()]

    def at_target(self, wrapped: Model) -> bool:
        """Return True: every epoch trains the quantized model."""
        return True

    def unwrap(self, wrapped: Model) -> Model:
        """Return the model with its trained ranges, which are what the export needs."""
        open_empty_ranges(wrapped)
        baked = in_place_of_normalizations(wrapped)
        if not baked and not any(_is_holder(layer) for layer in wrapped.layers):
            return wrapped

        def plain(layer: Layer) -> Any:
            if layer.name in baked:
                return baked[layer.name]
            return plain_layer(layer) if _is_holder(layer) else layer

        def move(original: Layer, replacement: Any) -> None:
            if original.name not in baked:
                (settle_weights if _is_holder(original) else same_weights)(original, replacement)

        with keras.utils.custom_object_scope(dict(CUSTOM_OBJECTS)):
            return graph.rebuild(wrapped, plain, move_weights=move)

    def measure(self, before: Model, after: Model, context: StepContext) -> Measurement:
        """Return ranges, zeros and shared values; empty or stale ranges are an error."""
        plain = _plain(before)
        decisions = self._decide(plain, self._place(plain))
        gaps = range_gaps(after, context.calibration())
        schemed = {
            layer.layer.name: layer for layer in after.layers if isinstance(layer, SchemedLayer)
        }
        _require_alive(schemed.values())
        if self.settings.preserve == "auto":
            old = {layer.name: layer_kernels(layer) for layer in graph.layers_of(plain)}
            require_kept(old, _settled(after), step="quantize")
        measured = [
            _with_values(entry, after, schemed.get(entry.layer), gaps) for entry in decisions
        ]
        floating = [entry for entry in measured if not entry.done]
        return Measurement(
            evidence={
                "scheme": _scheme_name(schemed.values()),
                "layers_quantized": len(measured) - len(floating),
                "layers_float": len(floating),
                "ranges": len(gaps),
                "range_gap_max": max(gaps.values(), default=0.0),
            },
            layers=measured,
            notes=[f"{entry.layer} stays float: {entry.reason}" for entry in floating],
        )

    def _decide(self, plain: Model, placement: Placement) -> list[LayerDecision]:
        decisions = [
            self._decision(layer, placement)
            for layer in graph.layers_of(plain)
            if placement.roles[layer.name] not in (Role.INPUT, Role.INDICES, Role.SAME_RANGE)
        ]
        if not any(decision.done for decision in decisions):
            why = "; ".join(f"{entry.layer}: {entry.reason}" for entry in decisions)
            why = why or "it has nothing to compute"
            raise InputError(f"quantize: no layer of {plain.name!r} can be quantized ({why}).")
        return decisions

    def _place(self, plain: Model) -> Placement:
        require_matches(
            self.settings.skip,
            [layer.name for layer in graph.layers_of(plain)],
            setting="quantize.skip",
        )
        return place(plain, skip=self.settings.skip)

    def _scheme(self, layer: Layer, kernels: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
        keeps = self.settings.preserve == "auto"
        return {
            name: {**(kept_in(values) if keeps else {}), "bits": 8, "channels": _channels(layer)}
            for name, values in kernels.items()
        }

    def _decision(self, layer: Layer, placement: Placement) -> LayerDecision:
        role = placement.roles[layer.name]
        kind = type(layer).__name__
        if role is Role.FLOAT:
            reason = placement.reasons[layer.name]
            return LayerDecision(layer.name, kind, done=False, reason=reason)
        if role is not Role.KERNEL:
            words = {
                Role.FOLDED: "folded into the layer before it",
                Role.INTEGER: "8-bit input and output",
                Role.FIXED: "8-bit, with a fixed output range",
            }[role]
            return LayerDecision(layer.name, kind, done=True, reason=words)
        kernels = layer_kernels(layer)
        scheme = next(iter(self._scheme(layer, kernels).values()))
        words = "8-bit kernel, " + (
            "one range" if scheme["channels"] == "none" else "a range for each channel"
        )
        if scheme.get("masked"):
            words += ", zeros kept"
        if scheme.get("shared"):
            words += f", {scheme['shared']} shared values kept"
        weights = sum(values.size for values in kernels.values())
        return LayerDecision(layer.name, kind, done=True, reason=words, values={"weights": weights})


def _plain(model: Model) -> Model:
    require_unwrapped(model, step="quantize")
    return canonical(model)


def _channels(layer: Layer) -> str:
    return _CHANNELS[type(layer)]


def _is_holder(layer: Layer) -> bool:
    """Return whether a layer only keeps zeros and values, and rounds nothing."""
    if isinstance(layer, SchemedLayer):
        quantizers = layer.quantize_config.quantizers.values()
        return all(quantizer.bits is None for quantizer in quantizers)
    return isinstance(layer, PrunedLayer)


def _settled(after: Model) -> dict[str, Mapping[str, np.ndarray]]:
    """Return the kernels that a finished model computes with, by the plain layers' names."""
    return {
        **{layer.name: layer_kernels(layer) for layer in graph.layers_of(after)},
        **{
            layer.layer.name: layer.settled_kernels()
            for layer in after.layers
            if isinstance(layer, SchemedLayer)
        },
    }


def _require_alive(layers: Iterable[SchemedLayer]) -> None:
    """Raise if rounding leaves nothing of a kernel (tfmot issue #979)."""
    for layer in layers:
        settled = layer.settled_kernels()
        for name, rounded in layer.rounded_kernels().items():
            if np.any(settled[name]) and not np.any(rounded):
                raise VerificationError(
                    f"quantize: every weight of layer {layer.layer.name!r} became zero."
                )


def _with_values(
    entry: LayerDecision,
    model: Model,
    layer: SchemedLayer | None,
    gaps: Mapping[str, float],
) -> LayerDecision:
    values = dict(entry.values)
    name = range_name(entry.layer)
    if name in gaps:
        state = model.get_layer(name).quantizer_vars
        values["range_min"] = float(state["min_var"])
        values["range_max"] = float(state["max_var"])
        values["range_gap"] = gaps[name]
    if layer is not None:
        kernels = layer.settled_kernels()
        values["zero_fraction"] = zero_fraction(kernels)
        values["unique_values"] = max(unique_values(kernel) for kernel in kernels.values())
    return LayerDecision(entry.layer, entry.kind, entry.done, entry.reason, values)


def _scheme_name(layers: Iterable[SchemedLayer]) -> str:
    """Return QAT, PQAT (zeros kept), CQAT (shared values kept) or PCQAT (both)."""
    quantizers = [entry[1] for layer in layers for entry in layer.kernels().values()]
    pruned = "P" if any(quantizer.masked for quantizer in quantizers) else ""
    clustered = "C" if any(quantizer.shared for quantizer in quantizers) else ""
    return f"{pruned}{clustered}QAT"
