"""Train a flat model with a ``transfer`` section, and prove what it promised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tfopt.compression.base import Measurement, matching, require_matches
from tfopt.compression.pruning.zero_constraint import held
from tfopt.config.transfer import KeepPretrained, Transfer
from tfopt.errors import InputError
from tfopt.keras2 import graph
from tfopt.keras2.core import Layer, Model
from tfopt.reporting.console import Reporter
from tfopt.training.job import FitJob
from tfopt.training.layer_rates import VariableRate
from tfopt.training.loop import fit
from tfopt.training.transfer.auxiliary_losses import Term, half_squares, pulled
from tfopt.training.transfer.layer_choice import LayerChoice, choose
from tfopt.training.transfer.lora import merge, plain, with_adapters
from tfopt.training.transfer.masked_language import METRIC, MaskedLanguage
from tfopt.training.transfer.unfreezing import Unfreezing
from tfopt.training.transfer.weight_change import InitialWeights

_CHECKED_ROWS = 8

Choices = Mapping[str, LayerChoice]


@dataclass(frozen=True, slots=True)
class Trained:
    """The epoch logs, and what was measured."""

    history: Mapping[str, list[float]]
    measured: Measurement


def fit_transfer(job: FitJob, settings: Transfer, reporter: Reporter) -> Trained:
    """Train as ``fit`` does, with layers frozen, adapted and pulled as the settings say.

    Args:
        job: What to train; ``job.model`` is flat, holds the pretrained weights, and gets
            the new ones. Which layers are trainable is changed in it.
        settings: The ``transfer`` section.
        reporter: Told of every epoch.

    Raises:
        InputError: If the settings do not fit the model.
        VerificationError: If frozen weights changed, trained ones did not, or merged
            adapters compute something else.
        TfoptError: See ``fit``.
    """
    choices = choose(job.model, settings, epochs=job.settings.epochs)
    origin = InitialWeights({name: job.model.get_layer(name) for name in choices})
    model = job.model
    if settings.lora is not None:
        model = with_adapters(model, choices, settings.lora, seed=job.seed)
    layers = {name: _layer(model, name) for name in choices}
    start = InitialWeights({name: plain(layer) for name, layer in layers.items()})
    counts = _prepare(layers, choices)
    if settings.keep_pretrained is not None:
        terms: dict[str, Term] = {}
        if settings.keep_pretrained.l2_sp is not None:
            terms |= _terms(settings.keep_pretrained, layers, choices, start)
        if settings.keep_pretrained.masked_language_model is not None:
            terms[METRIC] = MaskedLanguage(model, settings.keep_pretrained, seed=job.seed)
        model = pulled(model, terms)
    ever = [layer for name, layer in layers.items() if not choices[name].is_frozen]
    own = replace(
        job,
        model=model,
        rates=_rates(layers, choices, steps_per_epoch=job.steps_per_epoch),
        callbacks=[*job.callbacks, Unfreezing(ever, choices, start)],
    )
    with held(model):
        history = fit(own, reporter)
    epochs = len(history["loss"])
    begun = [
        name
        for name, choice in choices.items()
        if choice.from_epoch is not None and choice.from_epoch < epochs
    ]
    start.require_unchanged(name for name in choices if name not in begun)
    if settings.lora is not None:
        merge(model, job.model, job.train.sample_inputs(_CHECKED_ROWS, seed=0))
    # With the weights of an earlier epoch, layers that trained only after it are as they were.
    is_last = job.settings.keep == "last"
    certain = [name for name in begun if is_last or choices[name].from_epoch == 0]
    adapted = [name for name, choice in choices.items() if choice.is_adapted]
    origin.require_moved([*certain, *adapted])
    return Trained(history, _measure(choices, origin, counts, epochs=epochs))


def _layer(model: Model, name: str) -> Layer:
    return model.get_layer(name)


def _prepare(layers: Mapping[str, Layer], choices: Choices) -> dict[str, int]:
    """Make trainable all that ever trains, so that the optimizer holds state for it.

    Returns:
        Trainable parameters from each epoch on at which they change, counted from 1.
    """
    for name, layer in layers.items():
        if not choices[name].is_adapted:
            layer.trainable = not choices[name].is_frozen
    begins = sorted({choice.from_epoch or 0 for choice in choices.values()})
    return {
        f"epoch {begin + 1}": sum(
            math.prod(variable.shape)
            for name, layer in layers.items()
            if (choices[name].from_epoch or 0) <= begin
            for variable in layer.trainable_weights
        )
        for begin in begins
    }


def _rates(
    layers: Mapping[str, Layer], choices: Choices, *, steps_per_epoch: int
) -> list[VariableRate]:
    return [
        VariableRate(variable, choice.multiplier, (choice.from_epoch or 0) * steps_per_epoch)
        for name, choice in choices.items()
        if choice.multiplier != 1 or choice.from_epoch
        for variable in layers[name].trainable_weights
    ]


def _terms(
    settings: KeepPretrained, layers: Mapping[str, Layer], choices: Choices, start: InitialWeights
) -> dict[str, Term]:
    """Return the terms beside the task's loss, by the names of their metrics."""
    body = [n for n, one in choices.items() if one.block and not one.is_frozen]
    if settings.layers is not None:
        require_matches(settings.layers, body, setting="transfer.keep_pretrained.layers")
        body = [n for n in body if any(matching([n], one) for one in settings.layers)]
    pairs = [
        (kernel, start.value_of(name, kernel))
        for name in body
        for kernel in graph.kernels_of(layers[name]).values()
    ]
    if not pairs:
        raise InputError(
            "transfer.keep_pretrained: no kernel outside of the head trains, so there is nothing "
            "to pull to the start. Freeze fewer layers, or remove keep_pretrained."
        )
    terms = {"l2_sp_loss": half_squares(pairs, settings.l2_sp or 0.0)}
    if settings.head_l2 is not None:
        head = [
            (kernel, start.value_of(name, kernel) * 0)
            for name, choice in choices.items()
            if choice.block == 0
            for kernel in graph.kernels_of(layers[name]).values()
        ]
        terms["head_l2_loss"] = half_squares(head, settings.head_l2)
    return terms


def _measure(
    choices: Choices, origin: InitialWeights, counts: Mapping[str, int], *, epochs: int
) -> Measurement:
    squares = {name: origin.squares(name) for name in choices}
    groups: dict[str, list[str]] = {}
    for name, choice in sorted(choices.items(), key=lambda item: item[1].block or 0):
        groups.setdefault(choice.group, []).append(name)
    frozen = [name for name, one in choices.items() if one.is_frozen and not one.is_adapted]
    adapted = [name for name, choice in choices.items() if choice.is_adapted]
    total = origin.parameters
    evidence: dict[str, Any] = {
        "frozen_layers": len(frozen),
        "trainable_parameters": list(counts.values())[-1],
        "trainable_parameters_by_phase": dict(counts),
        "distance_from_pretrained": {
            group: _distance([squares[name] for name in names]) for group, names in groups.items()
        },
    }
    notes = []
    if adapted:
        share = evidence["trainable_parameters"] / total
        evidence["lora_trainable_fraction"] = share
        notes.append(
            f"low-rank adapters of {len(adapted)} layers were merged into their kernels; with the "
            f"head, {share:.2%} of the parameters trained"
        )
    late = [
        n for n, one in choices.items() if one.from_epoch is not None and one.from_epoch >= epochs
    ]
    if late:
        notes.append(f"training stopped before these layers were unfrozen: {', '.join(late)}")
    layers = [
        choice.decision({"distance": _distance([squares[name]])})
        for name, choice in choices.items()
    ]
    return Measurement(evidence=evidence, layers=layers, notes=notes)


def _distance(squares: list[tuple[float, float]]) -> float:
    """Return the length of a change over the length of what was changed."""
    moved, origin = (sum(part) for part in zip(*squares, strict=True))
    return math.sqrt(moved / origin) if origin else math.sqrt(moved)
