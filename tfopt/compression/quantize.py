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

from tfopt.compression import graph
from tfopt.compression.base import Measurement, StepContext, require_matches
from tfopt.compression.canonical import CUSTOM_OBJECTS as CANONICAL_OBJECTS
from tfopt.compression.canonical import canonical
from tfopt.compression.cluster import exact_sharing, is_pruned
from tfopt.compression.measure import unique_values, zero_fraction
from tfopt.compression.placement import Placement, Role, place
from tfopt.compression.quantizers import CUSTOM_OBJECTS as QUANTIZER_OBJECTS
from tfopt.compression.quantizers import (
    ActivationQuantizer,
    KernelScheme,
    RangeLayer,
    SchemedLayer,
)
from tfopt.config.schema import QuantizeStep
from tfopt.errors import DataError, InputError, VerificationError
from tfopt.legacy_keras import Layer, Model, keras
from tfopt.results import LayerDecision

MAX_RANGE_GAP = 0.5
"""Largest distance between a trained range and what the data then needs, as a share of
the latter. tfmot's uncalibrated ranges miss by 1 and more after a short training."""

_RANGE_SUFFIX = "_range"

_CHANNELS = {
    keras.layers.Dense: "none",
    keras.layers.Conv2D: "last",
    keras.layers.DepthwiseConv2D: "depthwise",
    keras.layers.Conv2DTranspose: "none",
}

CUSTOM_OBJECTS: Mapping[str, Any] = {**QUANTIZER_OBJECTS, **CANONICAL_OBJECTS}


class Quantize:
    """The ``quantize`` step; see ``CompressionPass`` for the contract."""

    name = "quantize"

    def __init__(self, settings: QuantizeStep) -> None:
        self.settings = settings

    def decide(self, model: Model) -> list[LayerDecision]:
        """Return which layers will work on 8 bits, and why the others stay float."""
        _require_plain(model)
        plain = canonical(model)
        placement = self._place(plain)
        decisions = [
            self._decision(layer, placement)
            for layer in graph.layers_of(plain)
            if placement.roles[layer.name] not in (Role.INPUT, Role.SAME_RANGE)
        ]
        if not any(decision.done for decision in decisions):
            why = "; ".join(f"{entry.layer}: {entry.reason}" for entry in decisions)
            raise InputError(f"quantize: no layer of {model.name!r} can be quantized ({why}).")
        return decisions

    def wrap(self, model: Model, context: StepContext) -> Model:
        """Return a copy that emulates 8-bit arithmetic, with calibrated ranges."""
        self.decide(model)
        plain = canonical(model)
        placement = self._place(plain)
        schemes = {
            layer.name: self._scheme(layer)
            for layer in graph.layers_of(plain)
            if layer.name in placement.kernels
        }
        ranges: dict[str, Layer] = {}

        def replace(layer: Layer) -> Layer:
            if layer.name not in schemes:
                return layer
            return SchemedLayer(layer, KernelScheme(schemes[layer.name]), name_prefix="quant_")

        def after(layer: Layer, outputs: Any) -> Any:
            if layer.name not in placement.outputs:
                return outputs
            name = layer.name + _RANGE_SUFFIX
            return ranges.setdefault(name, RangeLayer(name=name))(outputs)

        wrapped = graph.rebuild(plain, replace, after=after, move_weights=_move_weights)
        for name, (low, high) in observe_ranges(wrapped, context.calibration()).items():
            state = wrapped.get_layer(name).quantizer_vars
            state["min_var"].assign(min(low, 0.0))
            # A tensor that is always zero has no range; any range holds it exactly.
            state["max_var"].assign(max(high, 0.0) if high > 0 or low < 0 else 1.0)
        return wrapped

    def callbacks(self) -> list[Any]:
        """Return none: ranges follow the data in the training step itself."""
        return []

    def at_target(self, wrapped: Model) -> bool:
        """Return True: every epoch trains the quantized model."""
        return True

    def unwrap(self, wrapped: Model) -> Model:
        """Return the model as it is: its trained ranges are what the export needs."""
        return wrapped

    def measure(self, before: Model, after: Model, context: StepContext) -> Measurement:
        """Return ranges, zeros and shared values; empty or stale ranges are an error."""
        decisions = self.decide(before)
        gaps = _range_gaps(after, context.calibration())
        preserved = {
            layer.layer.name: layer for layer in after.layers if isinstance(layer, SchemedLayer)
        }
        plain = {layer.name: layer for layer in graph.layers_of(canonical(before))}
        for name, layer in preserved.items():
            _require_preserved(layer, plain[name])
        measured = [
            _with_values(entry, after, preserved.get(entry.layer), gaps) for entry in decisions
        ]
        floating = [entry for entry in measured if not entry.done]
        return Measurement(
            evidence={
                "scheme": _scheme_name(preserved.values()),
                "layers_quantized": len(measured) - len(floating),
                "layers_float": len(floating),
                "ranges": len(gaps),
                "range_gap_max": max(gaps.values(), default=0.0),
            },
            layers=measured,
            notes=[f"{entry.layer} stays float: {entry.reason}" for entry in floating],
        )

    def _place(self, plain: Model) -> Placement:
        require_matches(
            self.settings.skip,
            [layer.name for layer in graph.layers_of(plain)],
            setting="quantize.skip",
        )
        return place(plain, skip=self.settings.skip)

    def _scheme(self, layer: Layer) -> dict[str, dict[str, Any]]:
        keep = self.settings.preserve == "auto"
        return {
            name: {
                "bits": 8,
                "channels": _CHANNELS[type(layer)],
                "masked": keep and is_pruned(values.numpy()),
                "shared": _shared_values(values.numpy()) if keep else 0,
            }
            for name, values in graph.kernels_of(layer).items()
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
        scheme = next(iter(self._scheme(layer).values()))
        words = "8-bit kernel, " + (
            "one range" if scheme["channels"] == "none" else "a range for each channel"
        )
        if scheme["masked"]:
            words += ", zeros kept"
        if scheme["shared"]:
            words += f", {scheme['shared']} shared values kept"
        weights = sum(_size(values) for values in graph.kernels_of(layer).values())
        return LayerDecision(layer.name, kind, done=True, reason=words, values={"weights": weights})


def observe_ranges(wrapped: Model, batches: Iterable[Any]) -> dict[str, tuple[float, float]]:
    """Return the mean smallest and largest value of a batch at every emulated tensor.

    Args:
        wrapped: A model with activation quantizers, which pass values on unchanged
            while they are observed.
        batches: Batches of inputs, at least one.

    Returns:
        Quantizer layer name to ``(low, high)``, in activation units.

    Raises:
        DataError: If there is no batch, or a value is not finite.
    """
    observed = [layer for layer in wrapped.layers if isinstance(layer, RangeLayer)]
    quantizers: list[ActivationQuantizer] = [layer.quantizer for layer in observed]
    for quantizer in quantizers:
        quantizer.observing, quantizer.seen = True, []
    try:
        count = 0
        for count, inputs in enumerate(batches, start=1):  # noqa: B007  # used below
            wrapped(tf.nest.map_structure(tf.convert_to_tensor, inputs), training=False)
    finally:
        for quantizer in quantizers:
            quantizer.observing = False
    if count == 0:
        raise DataError("quantize: there are no calibration examples; ranges cannot be set.")
    found = {}
    for layer, quantizer in zip(observed, quantizers, strict=True):
        low, high = np.mean(np.asarray(quantizer.seen), axis=0)
        if not (np.isfinite(low) and np.isfinite(high)):
            raise DataError(
                f"quantize: the calibration examples give values that are not finite at "
                f"{layer.name.removesuffix(_RANGE_SUFFIX)!r}."
            )
        found[layer.name] = (float(low), float(high))
    return found


def has_ranges(model: Model) -> bool:
    """Return whether a model emulates 8-bit arithmetic."""
    return any(isinstance(layer, RangeLayer) for layer in model.layers)


def _range_gaps(model: Model, batches: Iterable[Any]) -> dict[str, float]:
    """Return how far each trained range is from what the data needs now.

    Raises:
        VerificationError: If a range was never set or is too far off.
    """
    gaps = {}
    for name, (low, high) in observe_ranges(model, batches).items():
        state = model.get_layer(name).quantizer_vars
        own_low, own_high = float(state["min_var"]), float(state["max_var"])
        where = name.removesuffix(_RANGE_SUFFIX)
        if not own_high > own_low:
            raise VerificationError(
                f"quantize: the range of {where!r} was never calibrated (it is "
                f"[{own_low:.3g}, {own_high:.3g}])."
            )
        low, high = min(low, 0.0), max(high, 0.0)
        if high == low:
            gaps[name] = 0.0
            continue
        gaps[name] = max(abs(own_low - low), abs(own_high - high)) / (high - low)
        if not gaps[name] <= MAX_RANGE_GAP:
            raise VerificationError(
                f"quantize: the range of {where!r} has not converged: it is [{own_low:.3g}, "
                f"{own_high:.3g}], the data needs [{low:.3g}, {high:.3g}]. Train more epochs, or "
                "with a smaller learning rate."
            )
    return gaps


def _require_plain(model: Model) -> None:
    if has_ranges(model):
        raise InputError(
            f"quantize: {model.name!r} already emulates 8-bit arithmetic; quantize the model that "
            "it was made from."
        )


def _shared_values(kernel: np.ndarray) -> int:
    """Return how many values a clustered kernel shares; 0 if it is not clustered."""
    count = unique_values(kernel)
    return count if 2 * count <= kernel.size else 0


def _size(values: Any) -> int:
    """Return the number of entries of a variable."""
    return int(np.prod(values.shape))


def _move_weights(original: Layer, replacement: Any) -> None:
    if not isinstance(replacement, SchemedLayer):
        graph.same_weights(original, replacement)
        return
    replacement.take_weights(original)
    for name, (kernel, quantizer, _) in replacement.kernels().items():
        if quantizer.shared:
            part = exact_sharing(kernel.numpy())
            replacement.share(name, part.values, part.indices)
    replacement.prepare()


def _require_preserved(layer: SchemedLayer, plain: Layer) -> None:
    before = {name: np.asarray(values) for name, values in graph.kernels_of(plain).items()}
    after = layer.settled_kernels()
    for name, (_, quantizer, _) in layer.kernels().items():
        if quantizer.masked and np.any(after[name][before[name] == 0]):
            raise VerificationError(
                f"quantize: layer {plain.name!r} lost zeros: "
                f"{zero_fraction({name: before[name]}):.4f} before, "
                f"{zero_fraction({name: after[name]}):.4f} after."
            )
        if quantizer.shared and unique_values(after[name]) > unique_values(before[name]):
            raise VerificationError(
                f"quantize: layer {plain.name!r} lost its shared values: "
                f"{unique_values(before[name])} before, {unique_values(after[name])} after."
            )
        if not np.any(after[name]) and np.any(before[name]):
            raise VerificationError(f"quantize: every weight of layer {plain.name!r} became zero.")


def _with_values(
    entry: LayerDecision,
    model: Model,
    layer: SchemedLayer | None,
    gaps: Mapping[str, float],
) -> LayerDecision:
    values = dict(entry.values)
    name = entry.layer + _RANGE_SUFFIX
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
