"""Run one distillation: make student and teachers, train, measure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tfopt.data.split import Split
from tfopt.distillation import measure
from tfopt.distillation.step import Lesson, teach
from tfopt.reporting.console import Reporter
from tfopt.training.compression_step import TrainedModel
from tfopt.training.job import FitJob


def distill(
    make: Callable[[], Lesson],
    job: FitJob,
    evaluation: Split,
    reporter: Reporter,
    *,
    train: Split,
    cache: Path,
) -> TrainedModel:
    """Train a student beside its teachers, and measure what it has learned.

    Args:
        make: Returns the student and its teachers; called in the scope of ``job.strategy``.
        job: How to train; its model and rows are replaced.
        evaluation: Rows on which student and teachers are compared.
        reporter: Shows every epoch.
        train: Training rows.
        cache: Folder of the teachers' outputs, if the settings want them kept.

    Returns:
        The student, in place, what was measured, and the epoch logs.

    Raises:
        VerificationError: If the student did not move, a teacher did, or they do not agree.
        TfoptError: As ``teach``.
    """
    with job.strategy.scope():
        lesson = make()
        start = measure.start_of(lesson)
        history = teach(lesson, job, train, reporter, cache)
    measured = measure.measure(
        lesson, start, train=train, evaluation=evaluation, augment=job.augment
    )
    return TrainedModel(lesson.student.model, measured, history)
