"""Student and teachers on the same evaluation rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfopt.config.distill import SoftTargetsLoss
from tfopt.data.split import Split
from tfopt.distillation.step import Lesson
from tfopt.distillation.teachers import Teacher
from tfopt.errors import VerificationError
from tfopt.training.predict import EVALUATION_BATCH, predictor

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Beside:
    """One teacher beside the student.

    Attributes:
        number: Which teacher, counted from 0.
        name: How messages name it.
        metric: The teacher's own task metric.
        agreement: Share of choices that are the same, in ``[0, 1]``; None for numbers.
        chance: Share that would be the same by chance.
        choices: Number of rows, or of real positions of sequences.
        is_constant: Whether the teacher always chooses the same class.
    """

    number: int
    name: str
    metric: float
    agreement: float | None = None
    chance: float = 0.0
    choices: int = 0
    is_constant: bool = False

    def evidence(self, suffix: str) -> dict[str, float]:
        """Return what belongs in the results."""
        found = {f"teacher{suffix}_metric": self.metric}
        if self.agreement is not None:
            found[f"agreement_fraction{suffix}"] = self.agreement
            found[f"chance_fraction{suffix}"] = self.chance
        return found


def compare(lesson: Lesson, split: Split) -> list[Beside]:
    """Return each teacher beside the student on all evaluation rows.

    A teacher with several outputs, none of which is known to be the student's, is left out.

    Raises:
        VerificationError: If outputs are not finite.
    """
    student = predictor(lesson.twin)
    teachers = [_Watched(number, teacher, lesson) for number, teacher in enumerate(lesson.teachers)]
    for inputs, labels in split.numpy_batches(EVALUATION_BATCH):
        own = np.asarray(student(inputs))
        real = _real_positions(inputs, lesson.mask, own)
        for teacher in teachers:
            teacher.look(inputs, np.asarray(labels), own, real)
    return [teacher.result() for teacher in teachers if teacher.scores]


@dataclass(slots=True)
class _Watched:
    """A teacher, and what it has said so far."""

    number: int
    teacher: Teacher
    lesson: Lesson
    scores: list[Array] = field(default_factory=list)
    pairs: list[Array] = field(default_factory=list)
    run: Callable[[Any], Any] | None = None

    def look(self, inputs: Any, labels: Array, own: Array, real: Any) -> None:
        """Take in a batch."""
        theirs = self._output(inputs)
        if theirs is None:
            return
        if not np.isfinite(theirs).all():
            raise VerificationError(
                f"The {self.teacher.name} gives outputs that are not finite on evaluation data."
            )
        task = self.lesson.student.task
        kind, metric = task.labels.kind, task.metric
        if kind == "binary":
            is_share = theirs.min() >= 0 and theirs.max() <= 1
            metric = replace(metric, threshold=0.5 if is_share else 0.0)
        self.scores.append(metric.rows(theirs, labels))
        if kind == "numbers":
            return
        if kind == "binary":
            pair = theirs[..., 0] > metric.threshold, own[..., 0] > task.metric.threshold
        else:
            pair = theirs.argmax(-1), own.argmax(-1)
        chosen = np.stack([np.asarray(side, np.int64) for side in pair], axis=-1)
        self.pairs.append(chosen.reshape(-1, 2) if real is None else chosen[real])

    def result(self) -> Beside:
        """Return what came of it."""
        metric = self.lesson.student.task.metric.value(np.concatenate(self.scores))
        if not self.pairs:
            return Beside(self.number, self.teacher.name, metric)
        pairs = np.concatenate(self.pairs)
        classes = int(pairs.max()) + 1
        shares = [np.bincount(side, minlength=classes) / len(pairs) for side in pairs.T]
        return Beside(
            self.number,
            self.teacher.name,
            metric,
            agreement=float(np.mean(pairs[:, 0] == pairs[:, 1])),
            chance=float(shares[0] @ shares[1]),
            choices=len(pairs),
            is_constant=bool(shares[0].max() == 1),
        )

    def _output(self, inputs: Any) -> Array | None:
        """Return the teacher's output that the student learns."""
        tensors = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        if self.run is None:
            self.teacher(tensors)  # also shows whether it runs outside of the graph
            is_outside = self.teacher.is_numpy
            self.run = (
                self.teacher
                if is_outside
                else tf.function(self.teacher.__call__, reduce_retracing=True)
            )
        outputs: Mapping[str, Any] = self.run(tensors)[0]
        entries = [entry.settings for entry in self.lesson.settings.losses]
        named = [e.teacher_output for e in entries if isinstance(e, SoftTargetsLoss)]
        name = next(filter(None, named), self.lesson.twin.output_names[0])
        found = next(iter(outputs.values())) if len(outputs) == 1 else outputs.get(name)
        return None if found is None else np.asarray(found)


def _real_positions(inputs: Any, mask: str | None, own: Array) -> Any:
    """Return which positions of a sequence of choices are real, or None if all are."""
    if mask is None or not isinstance(inputs, Mapping) or own.ndim < 3:
        return None
    found = np.asarray(inputs[mask], bool)
    return found if found.shape == own.shape[: found.ndim] and found.ndim == own.ndim - 1 else None
