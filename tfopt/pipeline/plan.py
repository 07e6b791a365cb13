"""Say before any training what a recipe will do, in steps, layers and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TextIO

from tfopt.bridge.provenance import conversion_of, was_converted
from tfopt.compression.keras3 import SAVED_OBJECTS
from tfopt.compression.pruning.schedule import plan_schedule
from tfopt.compression.weight_statistics import is_clustered, is_pruned, model_kernels
from tfopt.config.schema import Fit, PruneStep, Recipe
from tfopt.data.load import DataBundle
from tfopt.data.split import Split, StreamSplit
from tfopt.distillation.describe import lesson_lines
from tfopt.distillation.step import Lesson, make_lesson
from tfopt.distributed.limits import require_possible
from tfopt.keras2 import graph
from tfopt.keras2.core import Model
from tfopt.models.transformers.initialization import initialization_of
from tfopt.pipeline.runner import Prepared, prepare
from tfopt.pipeline.size_estimate import SizeForecast, forecast_size, imitate_step
from tfopt.reporting.console import print_decisions
from tfopt.results import LayerDecision
from tfopt.training.compression_step import make_pass, target_text
from tfopt.training.transfer.layer_choice import decide

_FLOAT_BYTES = 4
_LEFT = {
    "distill": "is not trained",
    "prune": "is not pruned",
    "cluster": "is not clustered",
    "quantize": "stays float",
}


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage that trains.

    Attributes:
        name: Stage name.
        epochs: Epochs.
        steps: Training steps in all.
        rate: The learning-rate schedule, in words.
        target: What it aims at, in words.
        masks: When masks change, in words, for a prune step.
    """

    name: str
    epochs: int
    steps: int
    rate: str
    target: str
    masks: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recipe will do.

    Attributes:
        name: Name of the recipe.
        data: The examples, loss and metric, in words.
        model: The model, in words.
        float_bytes: All parameters as float32.
        stages: What trains, in order.
        spread: How each batch is divided among replicas, in words.
        decisions: Step name to its decision on each layer.
        sizes: What each export will weigh, about.
        notes: What quantization keeps, and which layers a step leaves alone and why.
    """

    name: str
    data: str
    model: str
    float_bytes: int
    stages: Sequence[StagePlan]
    spread: str
    decisions: Mapping[str, Sequence[LayerDecision]]
    sizes: Sequence[SizeForecast]
    notes: Sequence[str]


def make_plan(recipe: Recipe) -> Plan:
    """Return what a recipe will do; nothing is trained.

    Raises:
        InputError: If a setting is impossible for this data or model.
    """
    require_possible(recipe.strategy.kind, recipe)
    prepared = prepare(recipe)
    data, model, task = prepared.data, prepared.model, prepared.task
    lesson = _lesson(recipe, prepared)
    decisions, final = _decisions(recipe, model, lesson)
    return Plan(
        name=recipe.name,
        data=(
            f"{data.description}: {data.train.examples} to train on, "
            f"{data.evaluation.examples} to evaluate, loss {task.loss}, metric {task.metric.name}"
        ),
        model=f"{model.name}: {model.count_params():,} parameters",
        float_bytes=model.count_params() * _FLOAT_BYTES,
        stages=_stages(recipe, data),
        spread=_spread(recipe, data.train),
        decisions=decisions,
        sizes=_sizes(recipe, final, decisions),
        notes=list(data.notes)
        + _conversion(model)
        + _initialization(model)
        + (lesson_lines(lesson, recipe.data.augment) if lesson is not None else [])
        + _scheme(recipe, final)
        + [
            f"{name}: {entry.layer} ({entry.kind}) {_LEFT[name]}: {entry.reason}"
            for name, entries in decisions.items()
            for entry in entries
            if not entry.done and name in _LEFT
        ],
    )


def print_plan(plan: Plan, *, stream: TextIO) -> None:
    """Write a plan for people."""
    lines = [f"plan of {plan.name}", f"data   {plan.data}", f"model  {plan.model}"]
    lines += [*([f"spread {plan.spread}"] if plan.spread else []), ""]
    for stage in plan.stages:
        lines.append(
            f"{stage.name}: {_count(stage.epochs, 'epoch')}, {_count(stage.steps, 'step')}, "
            f"{stage.rate}" + (f", to {stage.target}" if stage.target else "")
        )
        if stage.masks:
            lines.append(f"  {stage.masks}")
    lines += ["", f"weights as float32: {plan.float_bytes:,} bytes"]
    lines += [
        f"predicted .tflite, {size.precision}: about {size.bytes:,} bytes, "
        f"{size.gzip_bytes:,} after gzip ({plan.float_bytes / size.gzip_bytes:.1f} to 1)"
        for size in plan.sizes
    ]
    stream.writelines(f"{line}\n" for line in [*lines, ""])
    print_decisions(plan.decisions, stream=stream)
    if plan.notes:
        stream.write("\n")
    stream.writelines(f"{note}\n" for note in plan.notes)


def _lesson(recipe: Recipe, prepared: Prepared) -> Lesson | None:
    settings = next((step.distill for step in recipe.steps if step.distill), None)
    if settings is None or prepared.student is None:
        return None
    return make_lesson(
        settings,
        prepared.student,
        prepared.model,
        prepared.data.train,
        custom_objects=SAVED_OBJECTS,
    )


def _decisions(
    recipe: Recipe, model: Model, lesson: Lesson | None
) -> tuple[dict[str, Sequence[LayerDecision]], Model]:
    """Return each step's decisions, taken on what the steps before it will have made."""
    imitation = graph.copy(model)
    decisions: dict[str, Sequence[LayerDecision]] = {}
    training = recipe.training
    if training is not None and training.transfer is not None:
        decisions["train"] = decide(model, training.transfer, epochs=training.epochs)
    for step in recipe.steps:
        if step.distill is not None and lesson is not None:
            decisions[step.name], imitation = lesson.decisions, lesson.twin
            continue
        decisions[step.name] = make_pass(step).decide(imitation)
        imitate_step(imitation, step, decisions[step.name])
    return decisions, imitation


def _spread(recipe: Recipe, train: Split) -> str:
    """Return how each batch is divided, who reads what, and what becomes of learning rates."""
    settings = recipe.strategy
    if settings.kind in ("auto", "single"):
        return ""
    rows = recipe.data.batch_size
    if settings.kind == "parameter_server":
        return (
            f"parameter_server: asynchronous: each batch of {rows} rows is a step of one worker, "
            "on weights that others change meanwhile, so the result differs from run to run; the "
            "chief reads the data; learning rates are not scaled"
        )
    if settings.kind == "model_parallel":
        devices = settings.devices or 1
        parts = settings.model_devices or devices
        return (
            f"model_parallel: outputs of Dense and Embedding layers are divided among {parts} "
            f"devices where their number allows it, and each batch of {rows} rows among "
            f"{devices // parts} groups of them; learning rates are not scaled"
        )
    among = "the processes that are started"
    if settings.kind == "mirrored":
        among = f"{settings.devices} devices" if settings.devices else "all GPUs"
    if settings.kind == "tpu":
        among = "the cores of the TPU"
    rate = {
        "none": "learning rates are not scaled: the batch is that of one process",
        "linear": "learning rates are multiplied by the number of replicas",
        "sqrt": "learning rates are multiplied by the square root of the number of replicas",
    }[settings.learning_rate_scaling]
    reads = "each process reads and augments its own rows"
    if isinstance(train, StreamSplit) and train.is_pipeline:
        reads = "each process runs the whole tf.data pipeline and keeps its own rows"
    return f"{settings.kind}: each batch of {rows} rows is divided among {among}; {reads}; {rate}"


def _conversion(model: Model) -> list[str]:
    if not was_converted(model):
        return []
    found = conversion_of(model)
    return [f"converted from Keras 3: {found}", *found.notes]


def _initialization(model: Model) -> list[str]:
    found = initialization_of(model)
    return found.notes() if found is not None else []


def _scheme(recipe: Recipe, final: Model) -> list[str]:
    """Return which kind of quantization-aware training the steps before it make it."""
    settings = next((step.quantize for step in recipe.steps if step.quantize), None)
    if settings is None:
        return []
    kernels = model_kernels(final).values() if settings.preserve == "auto" else ()
    kept = {
        "P": "zeros" if any(map(is_pruned, kernels)) else "",
        "C": "shared values" if any(map(is_clustered, kernels)) else "",
    }
    name = "".join(letter for letter, what in kept.items() if what)
    what = " and ".join(filter(None, kept.values())) or "no zeros or shared values"
    return [f"quantize: {name}QAT: {what} of the steps before it are kept"]


def _sizes(
    recipe: Recipe, final: Model, decisions: Mapping[str, Sequence[LayerDecision]]
) -> list[SizeForecast]:
    floating = {entry.layer for entry in decisions.get("quantize", ()) if not entry.done}
    precisions = [entry.litert.precision for entry in recipe.export if entry.litert]
    return [forecast_size(final, precision, floating=floating) for precision in precisions]


def _stages(recipe: Recipe, data: DataBundle) -> list[StagePlan]:
    per_epoch = data.train.steps_per_epoch(recipe.data.batch_size)
    stages = []
    if recipe.training is not None:
        stages.append(_stage("train", recipe.training, per_epoch, target=""))
    for step in recipe.steps:
        settings = step.settings
        planned = _stage(step.name, settings, per_epoch, target=target_text(step))
        if isinstance(settings, PruneStep):
            planned = replace(planned, masks=_masks(settings, planned.steps))
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


def _masks(settings: PruneStep, steps: int) -> str:
    """Return in words when the masks of a prune step change."""
    if settings.pattern == "2:4":
        return f"the 2:4 mask is set at the first step and held for {_count(steps, 'step')}"
    schedule = plan_schedule(steps, begin=settings.begin, end=settings.end)
    held = _count(steps - schedule.end_step, "step")
    if settings.schedule == "constant" or schedule.begin_step == schedule.end_step:
        return f"masks are set from step {schedule.begin_step}; the target is held for {held}"
    return (
        f"masks change from step {schedule.begin_step} to step {schedule.end_step}, every "
        f"{_count(schedule.frequency, 'step')}; the target is held for {held}"
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
