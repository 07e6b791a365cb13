"""The parts of one compression step: its pass, what the pass needs, the copy that is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tfopt.compression.base import CompressionPass, StepContext
from tfopt.compression.saved_objects import STEP_OBJECTS
from tfopt.config.components import PASSES
from tfopt.config.schema import Fit, QuantizeStep, Step
from tfopt.data.split import Split
from tfopt.distributed.base import Strategy
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, keras
from tfopt.registry import resolve

_CALIBRATION_BATCH = 64


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
