"""Say before any training what a recipe will do, in steps, layers and bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TextIO

from tfopt.compression.prune import PruningSchedule, plan_schedule
from tfopt.config.schema import Fit, PruneStep, Recipe
from tfopt.console import print_decisions
from tfopt.data.bundle import DataBundle
from tfopt.legacy_keras import Model
from tfopt.pipeline import prepare
from tfopt.results import LayerDecision
from tfopt.stages import make_pass, target_text
from tfopt.training.task import read_task

_FLOAT_BYTES = 4
_INT8_BITS = 8.0
_FLOAT_BITS = 32.0


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage that trains.

    Attributes:
        name: Stage name.
        epochs: Epochs.
        steps: Training steps in all.
        rate: The learning-rate schedule, in words.
        target: What it aims at, in words.
        schedule: When masks change, for a prune step.
    """

    name: str
    epochs: int
    steps: int
    rate: str
    target: str
    schedule: PruningSchedule | None = None


@dataclass(frozen=True, slots=True)
class SizePrediction:
    """Sizes of the weights, predicted from the settings alone.

    Attributes:
        float_bytes: All parameters as float32.
        stored_bytes: Weights as the export stores them.
        entropy_bytes: What an ideal coder would make of the kernels: a floor for gzip.
    """

    float_bytes: int
    stored_bytes: int
    entropy_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recipe will do."""

    name: str
    data: str
    model: str
    stages: Sequence[StagePlan]
    decisions: Mapping[str, Sequence[LayerDecision]]
    sizes: SizePrediction
    notes: Sequence[str]


def make_plan(recipe: Recipe) -> Plan:
    """Return what a recipe will do; nothing is trained.

    Raises:
        InputError: If a setting is impossible for this data or model.
    """
    data, model = prepare(recipe)
    task = read_task(
        model, data.train, classes=data.classes, train=recipe.training, metric=recipe.metric
    )
    decisions = {step.name: make_pass(step).decide(model) for step in recipe.steps}
    skipped = [
        f"{name}: {entry.layer} ({entry.kind}) is skipped: {entry.reason}"
        for name, entries in decisions.items()
        for entry in entries
        if not entry.done
    ]
    return Plan(
        name=recipe.name,
        data=(
            f"{data.description}: {data.train.examples} to train on, "
            f"{data.evaluation.examples} to evaluate, loss {task.loss}, metric {task.metric.name}"
        ),
        model=f"{model.name}: {model.count_params():,} parameters",
        stages=_stages(recipe, data),
        decisions=decisions,
        sizes=predict_sizes(recipe, model, decisions),
        notes=skipped,
    )


def predict_sizes(
    recipe: Recipe, model: Model, decisions: Mapping[str, Sequence[LayerDecision]]
) -> SizePrediction:
    """Return sizes predicted from sparsity, shared values and precision.

    The entropy of a kernel of ``n`` weights of which a share ``s`` is zero and the others
    take ``k`` values equally often is ``n (H(s) + (1 - s) log2 k)`` bits.
    """
    sparsity = _values(decisions.get("prune", ()), "target")
    clusters = _values(decisions.get("cluster", ()), "clusters")
    precisions = [entry.litert.precision for entry in recipe.export if entry.litert]
    is_float = precisions and precisions[0] in ("float32", "float16")
    bits = _FLOAT_BITS if is_float or not precisions else _INT8_BITS
    if precisions and precisions[0] == "float16":
        bits /= 2
    stored = entropy = 0.0
    for layer in model._flatten_layers(include_self=False):
        for weight in layer._trainable_weights + layer._non_trainable_weights:
            count = math.prod(weight.shape)
            if len(weight.shape) < 2:
                stored += count * _FLOAT_BYTES
                entropy += count * _FLOAT_BYTES
                continue
            zeros = sparsity.get(layer.name, 0.0)
            values = min(clusters.get(layer.name, math.inf), 2**bits)
            stored += count * bits / 8
            entropy += count * (_entropy(zeros) + (1 - zeros) * math.log2(max(2, values))) / 8
    return SizePrediction(
        float_bytes=model.count_params() * _FLOAT_BYTES,
        stored_bytes=round(stored),
        entropy_bytes=round(entropy),
    )


def print_plan(plan: Plan, *, stream: TextIO) -> None:
    """Write a plan for people."""
    lines = [f"plan of {plan.name}", f"data   {plan.data}", f"model  {plan.model}", ""]
    for stage in plan.stages:
        lines.append(
            f"{stage.name}: {stage.epochs} epochs, {stage.steps} steps, {stage.rate}"
            + (f", to {stage.target}" if stage.target else "")
        )
        if stage.schedule is not None:
            schedule = stage.schedule
            lines.append(
                f"  masks change from step {schedule.begin_step} to step {schedule.end_step}, "
                f"every {schedule.frequency} steps; the target is held for "
                f"{stage.steps - schedule.end_step} steps"
            )
    sizes = plan.sizes
    lines += [
        "",
        f"predicted: weights {sizes.float_bytes:,} bytes as float32, {sizes.stored_bytes:,} as "
        f"exported, not less than {sizes.entropy_bytes:,} after gzip",
        "",
    ]
    stream.writelines(f"{line}\n" for line in lines)
    print_decisions(plan.decisions, stream=stream)
    if plan.notes:
        stream.write("\n")
    stream.writelines(f"{note}\n" for note in plan.notes)


def _stages(recipe: Recipe, data: DataBundle) -> list[StagePlan]:
    per_epoch = data.train.steps_per_epoch(recipe.data.batch_size)
    stages = []
    if recipe.training is not None:
        stages.append(_stage("train", recipe.training, per_epoch, target=""))
    for step in recipe.steps:
        settings = step.settings
        planned = _stage(step.name, settings, per_epoch, target=target_text(step))
        if isinstance(settings, PruneStep):
            schedule = plan_schedule(planned.steps, begin=settings.begin, end=settings.end)
            planned = replace(planned, schedule=schedule)
        stages.append(planned)
    return stages


def _stage(name: str, settings: Fit, per_epoch: int, *, target: str) -> StagePlan:
    rate = settings.learning_rate
    return StagePlan(
        name=name,
        epochs=settings.epochs,
        steps=settings.epochs * per_epoch,
        rate=f"{settings.optimizer.name}, {rate.schedule} learning rate from {rate.peak:g}",
        target=target,
    )


def _values(decisions: Sequence[LayerDecision], name: str) -> dict[str, float]:
    return {entry.layer: entry.values[name] for entry in decisions if name in entry.values}


def _entropy(share: float) -> float:
    """Return the bits an entry needs to say whether it is zero."""
    if not 0 < share < 1:
        return 0.0
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)
