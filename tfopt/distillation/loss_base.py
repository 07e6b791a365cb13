"""What the losses share: what they look at, what they return, and how it is checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import tensorflow as tf

from tfopt.distillation.feature_extractor import Tapped
from tfopt.distillation.logits import Ending
from tfopt.distillation.teachers import TeacherResult
from tfopt.errors import InputError, ModelError
from tfopt.keras2.core import keras


@dataclass(frozen=True, slots=True)
class Seen:
    """One batch, as student and teachers saw it.

    Attributes:
        student: Its outputs and features.
        taught: The same of each teacher.
        mask: Which positions are real, ``(rows, positions)``, or None: then the masks that
            the student's own layers pass on are used.
        step: Training step, a scalar.
    """

    student: Tapped
    taught: Sequence[TeacherResult]
    mask: Any
    step: Any

    def mask_of(self, tensor: Any) -> Any:
        """Return which positions of a student's tensor are real, or None if all are."""
        own = getattr(tensor, "_keras_mask", None)
        return own if self.mask is None else self.mask


@dataclass(frozen=True, slots=True)
class Term:
    """A loss before it is weighted and averaged.

    Attributes:
        values: ``(rows,)`` or ``(rows, positions, ...)``, float32.
        mask: Real positions ``(rows, positions)``, or None.
        output: The student's output whose sample weights apply; None for the average of all.
        share: Factor of the average.
    """

    values: Any
    mask: Any
    output: str | None
    share: float = 1.0


Compute: TypeAlias = Callable[[Seen], list[Term]]


@dataclass(frozen=True, slots=True)
class Bench:
    """What is known before the first step, besides the first batch.

    Attributes:
        student_name: How messages name the student.
        teacher_names: The same for each teacher.
        student_endings: Last layers of the student, by output name.
        teacher_endings: The same for each teacher.
        teacher_shares: Weights of the teachers; they sum to 1.
        losses: The compiled hard-label loss of each output, by output name.
        projections: Learned projections, by name of the loss; new ones are added.
    """

    student_name: str
    teacher_names: Sequence[str]
    student_endings: Mapping[str, Ending]
    teacher_endings: Sequence[Mapping[str, Ending]]
    teacher_shares: Sequence[float]
    losses: Mapping[str, Any]
    projections: dict[str, Any] = field(default_factory=dict)

    def require_teacher(self, number: int, label: str) -> None:
        """Raise unless there is a teacher of this number.

        Raises:
            InputError: If there is not.
        """
        if not 0 <= number < len(self.teacher_names):
            raise InputError(
                f"{label} asks for teacher {number}, but there are {len(self.teacher_names)}, "
                "counted from 0."
            )

    def project(self, label: str, example: Any, width: int) -> Any:
        """Return a learned linear map of the last axis, and build it the first time."""
        if label not in self.projections:
            # A name with a slash would be a scope of variables.
            layer = keras.layers.Dense(width, name=f"{label.replace('/', '_')}_projection")
            with tf.name_scope(layer.name):  # build() alone names variables "kernel"
                layer.build(example.shape)
            self.projections[label] = layer
        return self.projections[label]


class DistillationLoss(Protocol):
    """One loss between student and teacher."""

    @property
    def weight(self) -> float:
        """Return its factor in the sum of all of them."""

    @property
    def label(self) -> str:
        """Return its name among the metrics."""

    def student_tensors(self) -> Sequence[str]:
        """Return the layers of the student it looks into."""

    def teacher_tensors(self, teacher: int) -> Sequence[str]:
        """Return the layers of a teacher it looks into."""

    def resolve(self, first: Seen, bench: Bench) -> Compute:
        """Check everything on the first batch, and return the function that is trained with.

        Raises:
            InputError: If a setting does not fit the models.
            ModelError: If shapes differ.
        """


def shape_text(tensor: Any) -> str:
    """Return a shape for a message, the rows left out.

    Example:
        >>> import numpy as np
        >>> shape_text(np.zeros((2, 10)))
        '(rows, 10)'
    """
    return "(" + ", ".join(["rows", *(str(size) for size in tensor.shape[1:])]) + ")"


def require_same_shape(student: Any, teacher: Any, *, names: tuple[str, str], advice: str) -> None:
    """Raise unless two tensors have the same shape; nothing is ever broadcast.

    Args:
        student: Its tensor, on the first batch.
        teacher: The teacher's.
        names: How the message names the two.
        advice: What to do about it.

    Raises:
        ModelError: If they differ.
    """
    if tuple(student.shape) != tuple(teacher.shape):
        raise ModelError(
            f"{names[0]} has shape {shape_text(student)}, but {names[1]} has "
            f"{shape_text(teacher)}. {advice}"
        )
