"""``tfopt.distill``: a student and a teacher in, the taught student out."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from tfopt.bridge.provenance import carry
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.compression.keras3 import like_source
from tfopt.compression.preserve import require_unwrapped
from tfopt.compression.pruning.zero_constraint import require_trainable
from tfopt.config.load import parse_section
from tfopt.config.schema import Augment, DistillStep
from tfopt.data.split import Split
from tfopt.distillation import measure
from tfopt.distillation.initialization import fresh
from tfopt.distillation.step import Lesson, mask_of, teach
from tfopt.distillation.student import Student
from tfopt.distillation.teachers import KerasTeacher, as_teacher
from tfopt.errors import InputError
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, is_keras3
from tfopt.reporting.console import make_reporter
from tfopt.training.job import FitJob
from tfopt.training.labelled import labelled_split

_LARGEST_SEED = 2**31 - 1
_MEASURED_ROWS = 2000


def distill(
    student: Any,
    teacher: Any,
    train: Any,
    *,
    epochs: int = 10,
    alpha: float = 0.1,
    temperature: float = 4.0,
    losses: Any = None,
    mask: str | None = None,
    cache: Literal["float32", "float16"] | None = None,
    folder: str | Path | None = None,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
    verbose: bool = False,
) -> Any:
    """Return a copy of a student that has learned from a teacher.

    ``Distiller`` does the same with your own optimizer, callbacks and ``fit``, and takes
    rows without labels.

    Args:
        student: A Functional or Sequential model of either Keras; it is not changed.
        teacher: One teacher or a list of them: a model of either Keras, a SavedModel folder, a
            ``.tflite`` or ``.onnx`` file, or a function of a batch of inputs.
        train: ``(x, y)`` arrays or a batched ``tf.data.Dataset``.
        epochs: Epochs of training, ``>= 1``.
        alpha: Weight of the labels, in ``[0, 1]``; the teacher has the rest.
        temperature: Temperature of the teacher's soft targets, ``> 0``.
        losses: Distillation losses in place of soft targets; see ``Distiller``.
        mask: Name of the input that is 1 at real positions; ``attention_mask`` if there is one.
        cache: Run the teacher over the rows once and keep its outputs in this number format;
            None runs it on every batch.
        folder: Where to keep them; None forgets them afterwards.
        learning_rate: Peak of a cosine schedule for Adam.
        batch_size: Examples in a step.
        seed: Seed of the order of examples.
        verbose: Show progress on standard error.

    Returns:
        The student, in the Keras that went in.

    Raises:
        InputError: If a setting is impossible, or data and models do not fit each other.
        VerificationError: If the student did not move, the teacher did, or the two agree on up to
            2,000 of the rows no more than chance would have it.
    """
    if not 0 <= seed <= _LARGEST_SEED:
        raise InputError(f"seed must be from 0 to {_LARGEST_SEED}. Received: {seed}.")
    given: dict[str, Any] = {
        "epochs": epochs,
        "alpha": alpha,
        "losses": [{"soft_targets": {"temperature": temperature}}],
        "learning_rate": {"schedule": "cosine", "peak": learning_rate},
        "cache": {None: False, "float32": True}.get(cache, cache),
    }
    settings = parse_section(DistillStep, given, origin="tfopt.distill")
    twin = to_tf_keras(student)
    lesson, split = _lesson(twin, teacher, train, settings)
    lesson = replace(lesson, losses=losses, mask=mask or lesson.mask)
    job = FitJob(
        model=lesson.twin,
        train=split,
        validation=None,
        settings=settings,
        task=lesson.student.task,
        batch_size=batch_size,
        augment=Augment(),
        seed=seed,
    )
    start = measure.start_of(lesson)
    _teach(lesson, job, split, folder=folder, verbose=verbose)
    measure.measure(
        lesson, start, train=split, evaluation=split.take(_MEASURED_ROWS), augment=Augment()
    )
    finished = carry(twin, lesson.twin)
    return like_source(twin, finished) if is_keras3(student) else finished


def _lesson(
    student: Model, teacher: Any, train: Any, settings: DistillStep
) -> tuple[Lesson, Split]:
    require_unwrapped(student, step="distill")
    require_trainable(student)
    split, task = labelled_split(student, train)
    given = teacher if isinstance(teacher, list | tuple) else [teacher]
    teachers = [as_teacher(one) for one in given]
    models = [one.model for one in teachers if isinstance(one, KerasTeacher)]
    copy = graph.copy(student)
    lesson = Lesson(
        settings=settings,
        student=Student(copy, task, is_born_again=False),
        incoming=max(models, key=lambda model: model.count_params(), default=copy),
        twin=copy,
        bring_back=lambda: None,
        teachers=teachers,
        decisions=fresh(copy),
        mask=mask_of(split),
    )
    return lesson, split


def _teach(
    lesson: Lesson, job: FitJob, split: Split, *, folder: str | Path | None, verbose: bool
) -> None:
    reporter = make_reporter(quiet=not verbose)
    reporter.stage_started(
        "distill",
        number=1,
        total=1,
        epochs=job.settings.epochs,
        steps_per_epoch=job.steps_per_epoch,
        target=f"student {lesson.twin.name}",
    )
    try:
        with tempfile.TemporaryDirectory() as temporary:
            teach(lesson, job, split, reporter, Path(folder or temporary))
    finally:
        reporter.close()
