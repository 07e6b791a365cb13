"""Soft targets: the student's outputs against the teacher's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfopt.distillation.logits import Form, Kind, as_logits, form_of
from tfopt.distillation.loss_base import Bench, Compute, Seen, Term, require_same_shape
from tfopt.distillation.schedules import Schedule, require_range, value_at
from tfopt.errors import InputError, ModelError
from tfopt.keras2.core import keras

_HIGHEST_TEMPERATURE = 1e4
# By a part of the loss's name, the first that fits.
_KIND_OF_LOSS: Mapping[str, Kind] = {
    "binary": "binary",
    "crossentropy": "classes",
    "divergence": "classes",
    "squared": "numbers",
    "absolute": "numbers",
    "huber": "numbers",
    "log_cosh": "numbers",
}


@dataclass(frozen=True, slots=True)
class SoftTargets:
    """The teacher's outputs as targets (Hinton et al. 2015, arXiv:1503.02531).

    ``classes``: KL divergence of softened probabilities times the temperature squared, which
    keeps its gradient as large as that of hard labels. ``binary``: the same for each
    sigmoid, averaged over the last axis. ``numbers``: mean squared error; no temperature.

    Attributes:
        temperature: ``> 0``; a number or a schedule.
        kind: What outputs tell. None reads it off the last layers and the compiled loss;
            several outputs that neither settles are classes.
        weight: Factor in the sum of all distillation losses, ``>= 0``.
        output: The student's output; None for all of them.
        teacher_output: The teacher's; None for that of the same name, or the only one.
        student_form: Whether the student gives logits or probabilities; None detects it.
        teacher_form: The same of the teachers.
        name: Its metric; None makes one.
    """

    temperature: Schedule = 4.0
    kind: Kind | None = None
    weight: float = 1.0
    output: str | None = None
    teacher_output: str | None = None
    student_form: Form | None = None
    teacher_form: Form | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        require_range(
            self.temperature, what="temperature", lowest=1e-4, highest=_HIGHEST_TEMPERATURE
        )

    @property
    def label(self) -> str:
        """Return its name among the metrics."""
        return self.name or ("soft_targets" + (f"_{self.output}" if self.output else ""))

    def student_tensors(self) -> Sequence[str]:
        """Return no layers: outputs are always seen."""
        return ()

    def teacher_tensors(self, teacher: int) -> Sequence[str]:
        """Return no layers: outputs are always seen."""
        return ()

    def resolve(self, first: Seen, bench: Bench) -> Compute:
        """Check the outputs on the first batch; see ``DistillationLoss``.

        Raises:
            InputError: If an output is not there, or its kind cannot be told.
            ModelError: If shapes or class counts differ.
        """
        outputs = self._outputs(first, bench)
        pairs = [
            self._pair(first, bench, output, teacher)
            for output in outputs
            for teacher in range(len(first.taught))
        ]

        def compute(seen: Seen) -> list[Term]:
            temperature = value_at(self.temperature, seen.step)
            return [pair.term(seen, temperature) for pair in pairs]

        return compute

    def _outputs(self, first: Seen, bench: Bench) -> list[str]:
        known = list(first.student.outputs)
        if self.output is not None and self.output not in known:
            raise InputError(
                f"The {bench.student_name} has no output {self.output!r}. It has: "
                f"{', '.join(known)}."
            )
        return known if self.output is None else [self.output]

    def _pair(self, first: Seen, bench: Bench, output: str, teacher: int) -> _Pair:
        source = self._source(first, bench, output, teacher)
        ours, theirs = first.student.outputs[output], first.taught[teacher].outputs[source]
        names = (
            f"Output {output!r} of the {bench.student_name}",
            f"output {source!r} of the {bench.teacher_names[teacher]}",
        )
        require_same_shape(
            ours,
            theirs,
            names=names,
            advice="Soft targets need one target for each output: the same classes in the same "
            "order, and as many positions.",
        )
        endings = (
            bench.student_endings.get(output, "unknown"),
            bench.teacher_endings[teacher].get(source, "unknown"),
        )
        kind = self.kind or _kind(ours, endings, bench.losses.get(output), names[0])
        if kind == "classes" and ours.shape[-1] == 1:
            raise InputError(
                f"{names[0]} has one unit, and a softmax over one is always 1. Set kind='binary' "
                "or kind='numbers'."
            )
        return _Pair(
            output=output,
            source=source,
            teacher=teacher,
            kind=kind,
            student_form=form_of(
                ours, kind=kind, ending=endings[0], stated=self.student_form, what=names[0]
            ),
            teacher_form=form_of(
                theirs, kind=kind, ending=endings[1], stated=self.teacher_form, what=names[1]
            ),
            share=bench.teacher_shares[teacher],
        )

    def _source(self, first: Seen, bench: Bench, output: str, teacher: int) -> str:
        """Return the teacher's output that belongs to an output of the student."""
        known = list(first.taught[teacher].outputs)
        if self.teacher_output is not None:
            if self.teacher_output not in known:
                raise InputError(
                    f"The {bench.teacher_names[teacher]} has no output {self.teacher_output!r}. It "
                    f"has: {', '.join(known)}."
                )
            return self.teacher_output
        if len(first.student.outputs) == len(known) == 1:
            return known[0]
        if output in known:
            return output
        raise InputError(
            f"The {bench.student_name} has outputs {list(first.student.outputs)} and the "
            f"{bench.teacher_names[teacher]} {known}. Say which belong together: "
            f"SoftTargets(output={output!r}, teacher_output=...)."
        )


@dataclass(frozen=True, slots=True)
class _Pair:
    """An output of the student, and the one of a teacher that it learns from."""

    output: str
    source: str
    teacher: int
    kind: Kind
    student_form: Form
    teacher_form: Form
    share: float

    def term(self, seen: Seen, temperature: Any) -> Term:
        raw = seen.student.outputs[self.output]
        theirs = seen.taught[self.teacher].outputs[self.source]
        student = as_logits(raw, kind=self.kind, form=self.student_form)
        teacher = as_logits(theirs, kind=self.kind, form=self.teacher_form)
        values = soft_target_loss(student, teacher, kind=self.kind, temperature=temperature)
        return Term(values, seen.mask_of(raw), self.output, self.share)


def soft_target_loss(student: Any, teacher: Any, *, kind: Kind, temperature: Any) -> Any:
    """Return the loss of each row and position.

    Args:
        student: Logits, or numbers, float32 ``(rows, ..., units)`` or ``(rows,)``.
        teacher: The same of the teacher; no gradient flows into it.
        kind: What outputs tell.
        temperature: ``> 0``.

    Returns:
        float32 ``(rows, ...)``; 0 where the two agree.
    """
    teacher = tf.stop_gradient(teacher)
    if student.shape.rank == 1:
        student, teacher = student[:, None], teacher[:, None]
    if kind == "numbers":
        return tf.reduce_mean(tf.math.squared_difference(student, teacher), axis=-1)
    soft_student, soft_teacher = student / temperature, teacher / temperature
    if kind == "binary":
        target = tf.sigmoid(soft_teacher)
        cross = tf.nn.sigmoid_cross_entropy_with_logits
        each = cross(labels=target, logits=soft_student) - cross(labels=target, logits=soft_teacher)
        return tf.reduce_mean(each, axis=-1) * temperature**2
    log_teacher = tf.nn.log_softmax(soft_teacher)
    differences = log_teacher - tf.nn.log_softmax(soft_student)
    return tf.reduce_sum(tf.exp(log_teacher) * differences, axis=-1) * temperature**2


def loss_name(loss: Any) -> str:
    """Return the name of a compiled loss: ``mean_squared_error``, also for ``"mse"``."""
    if loss is None:
        return ""
    found = keras.losses.get(loss)
    function = getattr(found, "fn", found)
    return str(getattr(function, "__name__", None) or getattr(function, "name", ""))


def _kind(example: Any, endings: tuple[str, str], loss: Any, what: str) -> Kind:
    """Return what an output tells, by its last layers, then by the compiled loss."""
    is_one = example.shape.rank == 1 or example.shape[-1] == 1
    if "softmax" in endings:
        if is_one:
            raise ModelError(
                f"{what} ends in a softmax over one unit, which is always 1. Use a sigmoid, or as "
                "many units as classes."
            )
        return "classes"
    if "sigmoid" in endings:
        return "binary"
    name = loss_name(loss)
    for part, kind in _KIND_OF_LOSS.items():
        if part in name:
            return kind
    if is_one:
        raise InputError(
            f"{what} has one unit, and neither its last layer nor the compiled loss says whether "
            "it is the logit of a class or a number. Set SoftTargets(kind='binary') or "
            "SoftTargets(kind='numbers')."
        )
    return "classes"
