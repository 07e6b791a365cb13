"""Run one compression step: wrap the model, train it under any strategy, unwrap, measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf

from tfopt.compression.base import CompressionPass, Measurement, StepContext
from tfopt.compression.saved_objects import STEP_OBJECTS
from tfopt.config.components import PASSES
from tfopt.config.schema import Fit, QuantizeStep, Step
from tfopt.data.split import Split
from tfopt.distributed.base import Strategy
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, keras
from tfopt.registry import resolve
from tfopt.reporting.console import Reporter
from tfopt.training.job import FitJob
from tfopt.training.loop import fit

_CALIBRATION_BATCH = 64


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """What a training step made.

    Attributes:
        model: The finished model.
        measured: What was measured on it, or None.
        history: Log name to one number an epoch.
    """

    model: Model
    measured: Measurement | None
    history: Mapping[str, list[float]]


def compress(
    compression: CompressionPass,
    context: StepContext,
    job: FitJob,
    reporter: Reporter,
    *,
    beside_teacher: Callable[[Model], Model] | None = None,
) -> TrainedModel:
    """Run one compression step on ``job.model``, which is not changed.

    Args:
        compression: The pass of the step.
        context: What the pass needs to know.
        job: How to train. Its model is the one to compress; its callbacks and its target are
            those of the pass.
        reporter: Shows every epoch.
        beside_teacher: Returns the model that is trained in place of a student, such as a
            distiller around it; None trains on the labels alone.

    Raises:
        InputError: If the settings do not fit the model.
        VerificationError: If the result is not what the settings promised.
        TfoptError: As ``fit``.
    """
    wrapped = compression.wrap(job.model, context)
    student, bring_back = wrapped, _nothing
    if job.strategy.copies:
        student, bring_back = training_copy(wrapped, job.strategy)
    trained = student
    if beside_teacher is not None and job.settings.epochs:
        with job.strategy.scope():
            trained = beside_teacher(student)
    own = replace(
        job,
        model=trained,
        callbacks=compression.callbacks(),
        at_target=lambda _: compression.at_target(student),
    )
    history = fit(own, reporter)
    bring_back()
    finished = compression.unwrap(wrapped)
    return TrainedModel(finished, compression.measure(job.model, finished, context), history)


def _nothing() -> None:
    """Bring nothing back: the model itself was trained."""


def make_pass(step: Step) -> CompressionPass:
    """Return the compression pass of a step."""
    made: CompressionPass = resolve(PASSES, "step", step.name)(step.settings)
    return made


def target_text(step: Step) -> str:
    """Return what a step aims at, in a few words."""
    if step.distill is not None:
        student = step.distill.student
        return f"student {student.builder or student.path}" if student else "a student like it"
    if step.prune is not None:
        share = 0.5 if step.prune.pattern == "2:4" else step.prune.sparsity
        return f"{share:.0%} zeros" + (" (2:4)" if step.prune.pattern == "2:4" else "")
    if step.cluster is not None:
        return f"{step.cluster.clusters} values a kernel"
    return "8-bit ranges"


def step_context(split: Split, settings: Fit, *, batch_size: int, seed: int) -> StepContext:
    """Return the steps that will run, and the calibration batches of a step."""
    count = settings.calibration_examples if isinstance(settings, QuantizeStep) else 0

    def calibration() -> Iterator[Any]:
        inputs = split.sample_inputs(count, seed=seed)
        rows = len(tf.nest.flatten(inputs)[0])
        for start in range(0, rows, _CALIBRATION_BATCH):
            part = slice(start, start + _CALIBRATION_BATCH)
            yield tf.nest.map_structure(lambda array, part=part: array[part], inputs)

    return StepContext(
        total_steps=settings.epochs * split.steps_per_epoch(batch_size),
        calibration=calibration,
    )


def training_copy(
    model: Model, strategy: Strategy, *, dtype: str | None = None
) -> tuple[Model, Callable[[], None]]:
    """Return a copy that a strategy can train, and a function that brings its weights back.

    Args:
        model: A plain model, or one in the middle of a step.
        strategy: The copy is made in its scope; all before and after it is not.
        dtype: Policy of the copy; see ``graph.twin``.
    """
    with strategy.scope(), keras.utils.custom_object_scope(dict(STEP_OBJECTS)):
        return graph.twin(model, dtype=dtype)
