"""Decide for each layer whether, from which epoch and at which rate it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfopt.compression.base import by_pattern, matching, require_matches
from tfopt.compression.weight_statistics import is_pruned, layer_kernels
from tfopt.config.transfer import BACKBONE, Transfer, Unfreeze
from tfopt.errors import InputError
from tfopt.keras2 import graph
from tfopt.keras2.core import Layer, Model, keras
from tfopt.results import LayerDecision
from tfopt.training.transfer.blocks import blocks_below, head_of, weighted_layers


@dataclass(frozen=True, slots=True)
class LayerChoice:
    """What transfer learning does to one layer with weights.

    Attributes:
        name: Name of the layer.
        kind: Its class.
        block: 0 is the head; None if the settings ask for no head and blocks.
        from_epoch: Finished epochs before it trains; None if it never does.
        multiplier: Of learning rate and weight decay.
        is_adapted: Whether a low-rank adapter trains beside its frozen kernel.
        reason: Why it never trains, or empty.
    """

    name: str
    kind: str
    block: int | None
    from_epoch: int | None
    multiplier: float
    is_adapted: bool = False
    reason: str = ""

    @property
    def is_frozen(self) -> bool:
        """Return whether its own weights never change."""
        return self.from_epoch is None

    @property
    def group(self) -> str:
        """Return the group that its distance is reported with."""
        if self.block is None:
            return "all"
        return f"block {self.block}" if self.block else "head"

    def decision(self, values: Mapping[str, float] | None = None) -> LayerDecision:
        """Return the row of the plan and the report, with measured values."""
        if self.is_adapted:
            reason = "low-rank adapter, kernel frozen"
        elif self.from_epoch is None:
            reason = self.reason or "frozen"
        elif self.from_epoch:
            reason = f"frozen until epoch {self.from_epoch + 1}, then trains"
        else:
            reason = "trains"
        done = self.is_adapted or not self.is_frozen
        rate = {"rate": self.multiplier} if done else {}
        return LayerDecision(self.name, self.kind, done, reason, {**rate, **(values or {})})


def decide(model: Model, settings: Transfer, *, epochs: int) -> list[LayerDecision]:
    """Return what a train stage does to each layer of a model, before it trains.

    Raises:
        InputError: See ``choose``.
    """
    return [one.decision() for one in choose(graph.copy(model), settings, epochs=epochs).values()]


def choose(model: Model, settings: Transfer, *, epochs: int) -> dict[str, LayerChoice]:
    """Return what happens to each layer with weights, in the order they run.

    Args:
        model: A flat model, as ``graph.copy`` makes it; not changed.
        settings: The ``transfer`` section.
        epochs: Epochs of the stage.

    Raises:
        InputError: If a pattern matches nothing, no head is found, no layer trains from
            the beginning, or a group would never train.
    """
    layers = weighted_layers(model)
    names = [layer.name for layer in layers]
    head = head_of(model, settings.head) if _needs_head(settings) else frozenset()
    blocks = blocks_below(model, head) if head else {}
    frozen = _frozen(settings, layers, head)
    adapted = _adapted(settings, layers, head)
    groups = _groups(settings.unfreeze, frozen, blocks) if settings.unfreeze else []
    begins = _begins(settings.unfreeze, groups, epochs=epochs) if settings.unfreeze else {}
    multipliers = _multipliers(settings, names, blocks)
    chosen = {}
    for layer in layers:
        name, reason = layer.name, ""
        from_epoch: int | None = begins.get(name) if name in frozen else 0
        if from_epoch == 0 and not _has_trainable(layer):
            from_epoch, reason = None, "the model brings it frozen, or with nothing to train"
        chosen[name] = LayerChoice(
            name=name,
            kind=type(layer).__name__,
            block=blocks.get(name),
            from_epoch=from_epoch,
            multiplier=multipliers[name],
            is_adapted=name in adapted,
            reason=reason,
        )
    if not any(one.from_epoch == 0 or one.is_adapted for one in chosen.values()):
        raise InputError(
            f"transfer: no layer of model {model.name!r} trains at the beginning: every one is "
            f"frozen. Freeze fewer. Layers: {', '.join(names)}."
        )
    return chosen


def _needs_head(settings: Transfer) -> bool:
    unfreeze = settings.unfreeze
    return bool(
        settings.head
        or BACKBONE in (settings.freeze or ())
        or settings.lora
        or settings.layer_decay
        or (settings.keep_pretrained and settings.keep_pretrained.l2_sp)
        or (unfreeze and (settings.freeze is None or not isinstance(unfreeze.groups, tuple)))
    )


def _has_trainable(layer: Layer) -> bool:
    return bool(layer.trainable_weights)


def _frozen(settings: Transfer, layers: Sequence[Layer], head: frozenset[str]) -> set[str]:
    names = [layer.name for layer in layers]
    patterns = list(settings.freeze or ())
    if settings.lora or (settings.unfreeze and settings.freeze is None):
        patterns.append(BACKBONE)
    own = [pattern for pattern in patterns if pattern != BACKBONE]
    require_matches(own, names, setting="transfer.freeze")
    frozen = {name for pattern in own for name in matching(names, pattern)}
    return frozen | (set(names) - head if BACKBONE in patterns else set())


def _adapted(settings: Transfer, layers: Sequence[Layer], head: frozenset[str]) -> frozenset[str]:
    if settings.lora is None:
        return frozenset()
    reasons = {layer.name: _unable(layer, head) for layer in layers}
    able = [name for name, reason in reasons.items() if not reason]
    patterns = settings.lora.layers or ("*",)
    require_matches(patterns, able, setting="transfer.lora.layers", unable=reasons)
    return frozenset(name for pattern in patterns for name in matching(able, pattern))


def _unable(layer: Layer, head: frozenset[str]) -> str:
    """Return why a layer cannot have a low-rank adapter, or an empty string."""
    if layer.name in head:
        return "the head trains in full"
    if type(layer) not in (keras.layers.Dense, keras.layers.Conv2D):
        return f"{type(layer).__name__} has no adapter; Dense and Conv2D have"
    if getattr(layer, "groups", 1) != 1:
        return "grouped convolution"
    if any(is_pruned(kernel) for kernel in layer_kernels(layer).values()):
        return "its kernel is pruned, and a merged adapter would fill the zeros"
    return ""


def _multipliers(
    settings: Transfer, names: Sequence[str], blocks: Mapping[str, int]
) -> dict[str, float]:
    decay = settings.layer_decay or 1.0
    found = {name: decay ** blocks.get(name, 0) for name in names}
    given = by_pattern(
        settings.learning_rates, dict.fromkeys(names, ""), 0.0, setting="transfer.learning_rates"
    )
    return found | {name: value for name, value in given.items() if value}


def _groups(unfreeze: Unfreeze, frozen: set[str], blocks: Mapping[str, int]) -> list[list[str]]:
    """Return the names in each group, the one nearest to the head first."""
    setting = "transfer.unfreeze.groups"
    if isinstance(unfreeze.groups, tuple):
        left = sorted(frozen)
        groups = []
        for patterns in unfreeze.groups:
            require_matches(patterns, left, setting=setting)
            groups.append([name for name in left if any(matching([name], p) for p in patterns)])
            left = [name for name in left if name not in groups[-1]]
        return groups
    present = sorted({blocks[name] for name in frozen})
    count = unfreeze.group_count or len(present)
    if not 1 <= count <= len(present):
        raise InputError(
            f"{setting}: the frozen layers are {len(present)} blocks, which cannot be cut into "
            f"{count} groups. Give at most {len(present)}."
        )
    parts = [{int(block) for block in part} for part in np.array_split(present, count)]
    return [[name for name in sorted(frozen) if blocks[name] in part] for part in parts]


def _begins(unfreeze: Unfreeze, groups: Sequence[Sequence[str]], *, epochs: int) -> dict[str, int]:
    every = unfreeze.every_epochs or 0
    clock = unfreeze.at_epochs or [every * (number + 1) for number in range(len(groups))]
    if clock[-1] >= epochs:
        raise InputError(
            f"transfer.unfreeze: {len(groups)} groups, one after each {every} epochs, so the last "
            f"would train after {clock[-1]} epochs of {epochs}. Raise train.epochs, or cut fewer "
            "groups with transfer.unfreeze.groups."
        )
    return {name: begin for begin, group in zip(clock, groups, strict=True) for name in group}
