"""Magnitude pruning with tfmot's wrapper, on a schedule that fits the steps that run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfopt.compression.base import Measurement, StepContext, by_pattern
from tfopt.compression.layers.masked import (
    PrunedLayer,
    fewest_zeros,
    keeping_zeros,
    prunable_kernels,
)
from tfopt.compression.preserve import (
    CUSTOM_OBJECTS,
    flat_copy,
    give_weights,
    holding,
    require_kept,
    takes_many_inputs,
    unwrapped,
)
from tfopt.compression.pruning.schedule import PruningSchedule, plan_schedule
from tfopt.compression.pruning.zero_constraint import require_trainable
from tfopt.compression.tfmot import (
    ConstantSparsity,
    PolynomialDecay,
    PruneRegistry,
    UpdatePruningStep,
)
from tfopt.compression.weight_statistics import layer_kernels, require_finite, zero_fraction
from tfopt.config.schema import PruneStep
from tfopt.errors import InputError, VerificationError
from tfopt.keras2 import graph
from tfopt.keras2.core import Layer, Model, keras
from tfopt.results import LayerDecision

__all__ = ["CUSTOM_OBJECTS", "Prune", "PruningSchedule", "plan_schedule"]

_EXTRA_TYPES = (keras.layers.Bidirectional, keras.layers.TimeDistributed)
"""Layers that tfmot's registry does not know, but its wrapper can hold."""


class Prune:
    """The ``prune`` step; see ``CompressionPass`` for the contract."""

    name = "prune"

    def __init__(self, settings: PruneStep) -> None:
        self.settings = settings

    def decide(self, model: Model) -> list[LayerDecision]:
        """Return the target of each prunable layer, and why the others are skipped."""
        return self._decide(flat_copy(model, step="prune"))

    def wrap(self, model: Model, context: StepContext) -> Model:
        """Return a copy whose prunable layers are masked on a schedule."""
        flat = flat_copy(model, step="prune")
        require_finite(flat)
        require_trainable(flat)
        decided = {entry.layer: entry for entry in self._decide(flat)}
        kernels = {layer.name: layer_kernels(layer) for layer in graph.layers_of(flat)}
        plan = plan_schedule(context.total_steps, begin=self.settings.begin, end=self.settings.end)

        def replace(layer: Layer) -> Layer:
            entry = decided.get(layer.name)
            if entry is None or not entry.done:
                return holding(layer, kernels[layer.name])
            if self._is_enough(entry.values["present"], entry.values["target"]):
                return keeping_zeros(layer)
            return PrunedLayer(
                layer,
                pruning_schedule=self._tfmot_schedule(
                    plan, start=entry.values["present"], target=entry.values["target"]
                ),
                sparsity_m_by_n=(2, 4) if self.settings.pattern == "2:4" else None,
            )

        return graph.rebuild(flat, replace, move_weights=give_weights)

    def callbacks(self) -> list[Any]:
        """Return tfmot's callback that starts the steps and masks at epoch ends."""
        return [UpdatePruningStep()]

    def at_target(self, wrapped: Model) -> bool:
        """Return whether every mask has reached its final share of zeros."""
        return all(
            layer.is_at_target() for layer in wrapped.layers if isinstance(layer, PrunedLayer)
        )

    def unwrap(self, wrapped: Model) -> Model:
        """Return the plain model with the masks multiplied into its kernels."""
        return unwrapped(wrapped)

    def measure(self, before: Model, after: Model, context: StepContext) -> Measurement:
        """Return the zeros of every layer; too few, or nothing but zeros, is an error."""
        flat = flat_copy(before, step="prune")
        old = {layer.name: layer_kernels(layer) for layer in graph.layers_of(flat)}
        new = {layer.name: layer for layer in graph.layers_of(after)}
        decisions = self._decide(flat)
        kernels = {entry.layer: _pruned_kernels(new[entry.layer]) for entry in decisions}
        measured = [_measured(entry, kernels[entry.layer]) for entry in decisions]
        done = [entry for entry in measured if entry.done]
        _require_zeros(done, kernels)
        if self.settings.pattern == "2:4":
            _require_2_of_4({entry.layer: kernels[entry.layer] for entry in done})
        left = {entry.layer: old[entry.layer] for entry in measured if not entry.done}
        require_kept(left, {name: layer_kernels(new[name]) for name in left}, step="prune")
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

    def _decide(self, flat: Model) -> list[LayerDecision]:
        layers = [layer for layer in graph.layers_of(flat) if layer.weights]
        reasons = {layer.name: self._reason_to_skip(layer) for layer in layers}
        targets = by_pattern(self.settings.layers, reasons, self._default(), setting="prune.layers")
        decisions = [self._decision(layer, reasons[layer.name], targets) for layer in layers]
        if not any(decision.done for decision in decisions):
            why = "; ".join(f"{entry.layer}: {entry.reason}" for entry in decisions)
            raise InputError(
                f"prune: no layer of {flat.name!r} can be pruned ({why or 'it has no weights'})."
            )
        return decisions

    def _default(self) -> float:
        return 0.5 if self.settings.pattern == "2:4" else self.settings.sparsity

    def _is_enough(self, present: float, target: float) -> bool:
        return self.settings.pattern != "2:4" and present >= target

    def _reason_to_skip(self, layer: Layer) -> str:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            return "depthwise kernels hold few weights and tfmot does not prune them"
        if takes_many_inputs(layer):
            return f"tfmot's wrapper passes only one input on to a {type(layer).__name__}"
        if not _is_known(layer):
            return f"tfmot cannot prune the layer type {type(layer).__name__}"
        if isinstance(layer, keras.layers.Embedding) and layer.output_dim == 1:
            return "one number a row is a bias; biases are never pruned"
        kernels = _pruned_kernels(layer)
        if not kernels:
            return "has no kernel; biases and norms are never pruned"
        if not layer.trainable:
            return "frozen"
        if not any(np.any(values) for values in kernels.values()):
            return "holds nothing but zeros"
        return _reason_against_2_of_4(layer, kernels) if self.settings.pattern == "2:4" else ""

    def _decision(self, layer: Layer, reason: str, targets: Mapping[str, float]) -> LayerDecision:
        kind = type(layer).__name__
        if reason:
            return LayerDecision(layer.name, kind, done=False, reason=reason)
        target = targets[layer.name]
        kernels = _pruned_kernels(layer)
        present = min(zero_fraction({"": values}) for values in kernels.values())
        if target == 0:
            return LayerDecision(layer.name, kind, done=False, reason="left alone by prune.layers")
        if self.settings.pattern == "2:4" and target != self._default():
            raise InputError(
                f"prune.layers: pattern '2:4' makes half of a kernel zero. Received: {target} for "
                f"layer {layer.name!r}; 0 leaves a layer alone."
            )
        words = f"{target:.4g} of its kernel becomes zero"
        if self._is_enough(present, target):
            words = f"keeps its {present:.4g} zeros, no fewer than asked"
        size = sum(values.size for values in kernels.values())
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


def _is_known(layer: Layer) -> bool:
    if hasattr(layer, "get_prunable_weights") or PruneRegistry.supports(layer):
        return True
    if not isinstance(layer, _EXTRA_TYPES):
        return False
    inner = layer.forward_layer if hasattr(layer, "forward_layer") else layer.layer
    return bool(PruneRegistry.supports(inner))


def _pruned_kernels(layer: Layer) -> dict[str, np.ndarray]:
    """Return the kernels that the wrapper masks, name to values."""
    if hasattr(layer, "get_prunable_weights"):
        return {weight.name: np.asarray(weight) for weight in layer.get_prunable_weights()}
    if not _is_known(layer):
        return {}
    return {name: np.asarray(variable) for name, variable in prunable_kernels(layer).items()}


def _reason_against_2_of_4(layer: Layer, kernels: Mapping[str, np.ndarray]) -> str:
    if isinstance(layer, (keras.layers.Conv2DTranspose, keras.layers.Embedding)):
        return f"2:4 runs along input channels, and those of a {type(layer).__name__} lie elsewhere"
    for values in kernels.values():
        if values.ndim not in (2, 4):
            return f"2:4 needs a kernel of 2 or 4 axes; this one has {values.ndim}"
        if values.shape[-2] % 4:
            return f"2:4 needs input channels in fours; this layer has {values.shape[-2]}"
    return ""


def _measured(entry: LayerDecision, kernels: Mapping[str, np.ndarray]) -> LayerDecision:
    if not kernels:
        return entry
    values = {**entry.values, "zero_fraction": zero_fraction(kernels)}
    return LayerDecision(entry.layer, entry.kind, entry.done, entry.reason, values)


def _require_zeros(
    done: Sequence[LayerDecision], kernels: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
    problems = []
    for entry in done:
        target = entry.values["target"]
        for name, values in kernels[entry.layer].items():
            zeros = int(np.count_nonzero(values == 0))
            if zeros < fewest_zeros(values.shape, target):
                problems.append(
                    f"{entry.layer} ({name}) has {zeros / values.size:.4f} of {target:.4f}"
                )
            elif zeros == values.size:
                problems.append(f"{entry.layer} ({name}) holds nothing but zeros")
    if problems:
        raise VerificationError(f"prune: the zeros are not as asked: {'; '.join(problems)}.")


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
