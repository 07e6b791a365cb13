"""Magnitude pruning with tfmot's wrapper, on a schedule that fits the steps that run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfopt.compression import graph
from tfopt.compression.base import Measurement, StepContext, by_pattern
from tfopt.compression.measure import layer_kernels, zero_fraction
from tfopt.compression.tfmot_door import (
    ConstantSparsity,
    PolynomialDecay,
    PruneLowMagnitude,
    PruneRegistry,
    UpdatePruningStep,
)
from tfopt.config.schema import PruneStep
from tfopt.errors import InputError, VerificationError
from tfopt.legacy_keras import Layer, Model, keras
from tfopt.results import LayerDecision

_MASK_UPDATES = 50
"""Mask updates over the schedule. Each sorts every kernel, which costs about as much as
a few training steps on a dense layer of 400,000 weights."""

_PRUNABLE_KERNEL = {
    keras.layers.SeparableConv1D: "pointwise_kernel",
    keras.layers.SeparableConv2D: "pointwise_kernel",
    keras.layers.Embedding: "embeddings",
}
_NO_KERNEL_OF_ITS_OWN = (keras.layers.DepthwiseConv2D,)


class PrunedLayer(PruneLowMagnitude):
    """tfmot's wrapper with a config that keeps ``sparsity_m_by_n`` (its own loses it)."""

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "sparsity_m_by_n": self.sparsity_m_by_n}


CUSTOM_OBJECTS: Mapping[str, Any] = {"PrunedLayer": PrunedLayer}


@dataclass(frozen=True, slots=True)
class PruningSchedule:
    """When masks change, in training steps (the first step is 1).

    Attributes:
        begin_step: First step that sets the masks.
        end_step: Step that sets the last masks; always a multiple of ``frequency``
            after ``begin_step``, so that the target is reached exactly there.
        frequency: Steps between two changes.
    """

    begin_step: int
    end_step: int
    frequency: int


def plan_schedule(total_steps: int, *, begin: float, end: float) -> PruningSchedule:
    """Return a schedule that reaches its target within the steps that run.

    tfmot's defaults need 100 steps before the first mask, miss the target when training
    is shorter than the schedule, and divide by zero when begin equals end.

    Args:
        total_steps: Steps that will run, ``>= 1``.
        begin: Share of the steps after which removal begins, in ``[0, 1)``.
        end: Share of the steps after which removal is complete, in ``(0, 1]``.

    Returns:
        The schedule.

    Raises:
        InputError: If no step will run.

    Example:
        >>> plan_schedule(1000, begin=0.0, end=0.6)
        PruningSchedule(begin_step=1, end_step=595, frequency=11)
    """
    if total_steps < 1:
        raise InputError("Pruning needs at least one training step. Received: 0 steps.")
    begin_step = min(max(1, math.floor(begin * total_steps)), total_steps)
    last = min(max(begin_step, math.floor(end * total_steps)), total_steps)
    span = last - begin_step
    frequency = max(1, span // _MASK_UPDATES)
    return PruningSchedule(begin_step, begin_step + span // frequency * frequency, frequency)


class Prune:
    """The ``prune`` step; see ``CompressionPass`` for the contract."""

    name = "prune"

    def __init__(self, settings: PruneStep) -> None:
        self.settings = settings

    def decide(self, model: Model) -> list[LayerDecision]:
        """Return the target of each prunable layer, and why the others are skipped."""
        flat = graph.copy(model)
        layers = [layer for layer in graph.layers_of(flat) if layer.weights]
        reasons = {layer.name: self._reason_to_skip(layer) for layer in layers}
        able = [name for name, reason in reasons.items() if not reason]
        targets = by_pattern(self.settings.layers, able, self._default(), setting="prune.layers")
        decisions = [self._decision(layer, reasons[layer.name], targets) for layer in layers]
        if not any(decision.done for decision in decisions):
            why = "; ".join(f"{entry.layer}: {entry.reason}" for entry in decisions)
            raise InputError(f"prune: no layer of {model.name!r} can be pruned ({why}).")
        return decisions

    def wrap(self, model: Model, context: StepContext) -> Model:
        """Return a copy whose prunable layers are masked on a schedule."""
        targets = {
            entry.layer: entry.values["target"] for entry in self.decide(model) if entry.done
        }
        present = {
            layer.name: zero_fraction(layer_kernels(layer))
            for layer in graph.layers_of(graph.copy(model))
        }
        schedule = plan_schedule(
            context.total_steps, begin=self.settings.begin, end=self.settings.end
        )

        def replace(layer: Layer) -> Layer:
            if layer.name not in targets:
                return layer
            return PrunedLayer(
                layer,
                pruning_schedule=self._tfmot_schedule(
                    schedule, start=present[layer.name], target=targets[layer.name]
                ),
                sparsity_m_by_n=(2, 4) if self.settings.pattern == "2:4" else None,
            )

        return graph.rebuild(model, replace)

    def callbacks(self) -> list[Any]:
        """Return tfmot's callback that starts the steps and masks at epoch ends."""
        return [UpdatePruningStep()]

    def at_target(self, wrapped: Model) -> bool:
        """Return whether every mask has reached its final share of zeros."""
        return all(
            float(1 - np.mean(mask)) >= _final_sparsity(layer) - _tolerance(mask.shape)
            for layer in wrapped.layers
            if isinstance(layer, PrunedLayer)
            for _, mask, _ in layer.pruning_vars
        )

    def unwrap(self, wrapped: Model) -> Model:
        """Return the plain model with the masks multiplied into its kernels."""

        def plain(layer: Layer) -> Layer:
            return layer.layer if isinstance(layer, PrunedLayer) else layer

        def masked_weights(original: Layer, replacement: Layer) -> None:
            if not isinstance(original, PrunedLayer):
                graph.same_weights(original, replacement)
                return
            for kernel, mask, _ in original.pruning_vars:
                kernel.assign(kernel * mask)
            replacement.set_weights(original.layer.get_weights())

        with keras.utils.custom_object_scope(dict(CUSTOM_OBJECTS)):
            return graph.rebuild(wrapped, plain, move_weights=masked_weights)

    def measure(self, before: Model, after: Model, context: StepContext) -> Measurement:
        """Return the zeros of every layer; too few, or nothing but zeros, is an error."""
        kernels = {layer.name: _pruned_kernels(layer) for layer in graph.layers_of(after)}
        measured = [_measured(entry, kernels[entry.layer]) for entry in self.decide(before)]
        short = [
            f"{entry.layer} has {entry.values['zero_fraction']:.4f} of {entry.values['target']:.4f}"
            for entry in measured
            if entry.done and not _reached(entry, kernels[entry.layer])
        ]
        if short:
            raise VerificationError(f"prune: the zeros are missing: {'; '.join(short)}.")
        if self.settings.pattern == "2:4":
            _require_2_of_4({e.layer: kernels[e.layer] for e in measured if e.done})
        done = [entry for entry in measured if entry.done]
        chosen = {
            f"{entry.layer}/{name}": values
            for entry in done
            for name, values in kernels[entry.layer].items()
        }
        parameters = after.count_params()
        entries = sum(values.size for values in chosen.values())
        zeros = sum(int(np.count_nonzero(values == 0)) for values in chosen.values())
        return Measurement(
            evidence={
                "zero_fraction": zero_fraction(chosen),
                "model_zero_fraction": zeros / parameters,
                "pruned_fraction_of_parameters": entries / parameters,
                "layers_pruned": len(done),
                "layers_skipped": len(measured) - len(done),
            },
            layers=measured,
        )

    def _default(self) -> float:
        return 0.5 if self.settings.pattern == "2:4" else self.settings.sparsity

    def _reason_to_skip(self, layer: Layer) -> str:
        if isinstance(layer, _NO_KERNEL_OF_ITS_OWN):
            return "depthwise kernels hold few weights and tfmot does not prune them"
        if not hasattr(layer, "get_prunable_weights") and not PruneRegistry.supports(layer):
            return f"tfmot cannot prune the layer type {type(layer).__name__}"
        kernels = _pruned_kernels(layer)
        if not kernels:
            return "has no kernel; biases and norms are never pruned"
        if not layer.trainable:
            return "frozen"
        if self.settings.pattern == "2:4":
            for values in kernels.values():
                if values.ndim not in (2, 4):
                    return f"2:4 needs a kernel of 2 or 4 axes; this one has {values.ndim}"
                if values.shape[-2] % 4:
                    return f"2:4 needs input channels in fours; this layer has {values.shape[-2]}"
        return ""

    def _decision(self, layer: Layer, reason: str, targets: Mapping[str, float]) -> LayerDecision:
        kind = type(layer).__name__
        if reason:
            return LayerDecision(layer.name, kind, done=False, reason=reason)
        target = targets[layer.name]
        present = zero_fraction(_pruned_kernels(layer))
        if target == 0:
            return LayerDecision(layer.name, kind, done=False, reason="left alone by prune.layers")
        words = f"{target:.4g} of its kernel becomes zero"
        if present >= target:
            words, target = f"keeps its {present:.4g} zeros, more than asked", present
        size = sum(values.size for values in _pruned_kernels(layer).values())
        return LayerDecision(
            layer.name,
            kind,
            done=True,
            reason=words,
            values={"target": target, "present": present, "weights": size},
        )

    def _tfmot_schedule(self, plan: PruningSchedule, *, start: float, target: float) -> Any:
        at_once = self.settings.schedule == "constant" or self.settings.pattern == "2:4"
        if at_once or plan.begin_step == plan.end_step or start >= target:
            return ConstantSparsity(
                target, begin_step=plan.begin_step, end_step=plan.begin_step, frequency=1
            )
        return PolynomialDecay(
            initial_sparsity=start,
            final_sparsity=target,
            begin_step=plan.begin_step,
            end_step=plan.end_step,
            frequency=plan.frequency,
        )


def _pruned_kernels(layer: Layer) -> dict[str, np.ndarray]:
    """Return the kernels that tfmot's wrapper masks, name to values."""
    if hasattr(layer, "get_prunable_weights"):
        return {weight.name: np.asarray(weight) for weight in layer.get_prunable_weights()}
    if not PruneRegistry.supports(layer) or not layer.built:
        return {}
    if isinstance(layer, keras.layers.RNN):
        cells = getattr(layer.cell, "cells", [layer.cell])
        return {
            f"cell{number}/{name}": np.asarray(getattr(cell, name))
            for number, cell in enumerate(cells)
            for name in ("kernel", "recurrent_kernel")
        }
    if isinstance(layer, keras.layers.MultiHeadAttention):
        parts = ("_query_dense", "_key_dense", "_value_dense", "_output_dense")
        return {part.strip("_"): np.asarray(getattr(layer, part).kernel) for part in parts}
    only = _PRUNABLE_KERNEL.get(type(layer), "kernel")
    return {name: values for name, values in layer_kernels(layer).items() if name == only}


def _measured(entry: LayerDecision, kernels: Mapping[str, np.ndarray]) -> LayerDecision:
    if not kernels:
        return entry
    values = {**entry.values, "zero_fraction": zero_fraction(kernels)}
    return LayerDecision(entry.layer, entry.kind, entry.done, entry.reason, values)


def _reached(entry: LayerDecision, kernels: Mapping[str, np.ndarray]) -> bool:
    target = entry.values["target"]
    return all(
        target - _tolerance(values.shape) <= zero_fraction({"": values}) < 1
        for values in kernels.values()
    )


def _tolerance(shape: Any) -> float:
    """Return how far rounding to whole entries can miss a target; at least one is kept."""
    return 1.5 / math.prod(shape)


def _final_sparsity(layer: PrunedLayer) -> float:
    if layer.sparsity_m_by_n:
        return 0.5
    schedule = layer.pruning_schedule
    return float(getattr(schedule, "final_sparsity", getattr(schedule, "target_sparsity", 0.0)))


def _require_2_of_4(kernels: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    for layer, named in kernels.items():
        for values in named.values():
            groups = np.moveaxis(values, -2, -1).reshape(-1, 4)
            most = int((groups != 0).sum(axis=1).max())
            if most > 2:
                raise VerificationError(
                    f"prune: layer {layer!r} keeps {most} weights in a group of four input "
                    "channels; the pattern 2:4 allows two."
                )
