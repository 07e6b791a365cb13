"""One distillation, under a strategy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tfopt.config.schema import Augment, DistillStep
from tfopt.data.arrays import ArraySplit
from tfopt.distillation.initialization import fresh
from tfopt.distillation.run import distill
from tfopt.distillation.step import Lesson
from tfopt.distillation.student import Student
from tfopt.distillation.teachers import as_teacher
from tfopt.distributed.single import Single
from tfopt.keras2.core import Model, keras
from tfopt.reporting.console import make_reporter
from tfopt.training.job import FitJob
from tfopt.training.task import read_task


class Scoped(Single):
    """A strategy that knows whether its scope is open."""

    is_open = False

    @contextmanager
    def scope(self) -> Iterator[None]:
        before, self.is_open = self.is_open, True
        yield
        self.is_open = before


def network(width: int) -> Model:
    keras.utils.set_random_seed(width)
    layers = [keras.Input((6,)), keras.layers.Dense(width, "tanh"), keras.layers.Dense(3)]
    return keras.Sequential(layers)


def test_the_student_is_made_in_the_scope_and_measured(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)
    teacher, student = network(16), network(4)
    labels = np.asarray(teacher(rows)).argmax(-1)
    split, strategy = ArraySplit(rows, labels), Scoped()
    settings = DistillStep(epochs=6, learning_rate={"schedule": "constant", "peak": 0.05})
    task = read_task(student, split, classes=3)
    job = FitJob(
        model=student,
        train=split,
        validation=None,
        settings=settings,
        task=task,
        batch_size=8,
        augment=Augment(),
        seed=1,
        strategy=strategy,
    )

    def make() -> Lesson:
        assert strategy.is_open
        return Lesson(
            settings=settings,
            student=Student(student, task, is_born_again=False),
            incoming=teacher,
            twin=student,
            bring_back=lambda: None,
            teachers=[as_teacher(teacher)],
            decisions=fresh(student),
            mask=None,
        )

    made = distill(make, job, split, make_reporter(quiet=True), train=split, cache=tmp_path)
    assert made.model is student
    assert made.measured.evidence["parameters"] == student.count_params()
    assert len(made.history["loss"]) == 6
