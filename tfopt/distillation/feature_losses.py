"""Losses on tensors inside of the models: features, attention, relations, contrast.

Tensors are named by their layers, ``layer:1`` for the second output of a layer. The names
of a teacher that is no Keras model are those of its outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfopt.distillation.loss_base import Bench, Compute, Seen, Term, require_same_shape, shape_text
from tfopt.distributed import replica_context
from tfopt.errors import InputError, ModelError

_TINY = 1e-12
_FAR_BELOW = -1e9


@dataclass(frozen=True, slots=True)
class _OfTensors:
    """What the losses on one pair of tensors share.

    Attributes:
        student: The student's tensor.
        teacher: The teacher's.
        weight: Factor in the sum of all distillation losses, ``>= 0``.
        of_teacher: Which teacher, counted from 0.
        projection: Learn a linear map of the student's last axis to the teacher's width.
        name: Its metric; None makes one.
    """

    student: str
    teacher: str
    weight: float = 1.0
    of_teacher: int = 0
    projection: bool = False
    name: str | None = None

    _kind = "feature"

    @property
    def label(self) -> str:
        """Return its name among the metrics."""
        return self.name or f"{self._kind}_{self.student}"

    def student_tensors(self) -> Sequence[str]:
        """Return the layer of the student."""
        return (self.student,)

    def teacher_tensors(self, teacher: int) -> Sequence[str]:
        """Return the layer of its own teacher."""
        return (self.teacher,) if teacher == self.of_teacher else ()

    def _names(self, bench: Bench) -> tuple[str, str]:
        bench.require_teacher(self.of_teacher, self.label)
        return (
            f"{self.label}: tensor {self.student!r} of the {bench.student_name}",
            f"{self.teacher!r} of the {bench.teacher_names[self.of_teacher]}",
        )

    def _tensors(self, seen: Seen) -> tuple[Any, Any]:
        theirs = seen.taught[self.of_teacher].features[self.teacher]
        return seen.student.features[self.student], tf.stop_gradient(theirs)

    def _map(self, first: Seen, bench: Bench) -> Callable[[Any], Any]:
        """Check the two shapes, and return the map that makes the student's equal."""
        names = self._names(bench)
        ours, theirs = self._tensors(first)
        if len(ours.shape) < 2:
            raise ModelError(f"{names[0]} has one number a row; a feature needs an axis of them.")
        if not self.projection:
            advice = "Set projection=True to learn a map of the last axis, or name other tensors."
            require_same_shape(ours, theirs, names=names, advice=advice)
            return _as_float
        if tuple(ours.shape[:-1]) != tuple(theirs.shape[:-1]):
            raise ModelError(
                f"{names[0]} has shape {shape_text(ours)}, but {names[1]} has "
                f"{shape_text(theirs)}. A projection changes the last axis only; name tensors "
                "whose other axes agree."
            )
        layer = bench.project(self.label, ours, int(theirs.shape[-1]))
        return lambda tensor: _as_float(layer(_as_float(tensor)))

    def _resolve(self, first: Seen, bench: Bench, loss: Callable[..., Any]) -> Compute:
        mapped = self._map(first, bench)

        def compute(seen: Seen) -> list[Term]:
            ours, theirs = self._tensors(seen)
            mask = seen.mask_of(ours)
            return [Term(loss(mapped(ours), _as_float(theirs), mask), mask, None)]

        return compute


@dataclass(frozen=True, slots=True)
class FeatureLoss(_OfTensors):
    """Mean squared error of hidden features (FitNets, Romero et al. 2015, arXiv:1412.6550)."""

    def resolve(self, first: Seen, bench: Bench) -> Compute:
        """Check the tensors on the first batch; see ``DistillationLoss``."""
        return self._resolve(
            first,
            bench,
            lambda ours, theirs, mask: _by_position(tf.math.squared_difference(ours, theirs)),
        )


@dataclass(frozen=True, slots=True)
class CosineLoss(_OfTensors):
    """One minus the cosine of features over the last axis (DistilBERT, arXiv:1910.01108)."""

    _kind = "cosine"

    def resolve(self, first: Seen, bench: Bench) -> Compute:
        """Check the tensors on the first batch; see ``DistillationLoss``."""

        def loss(ours: Any, theirs: Any, mask: Any) -> Any:
            products = tf.reduce_sum(_unit(ours) * _unit(theirs), axis=-1, keepdims=True)
            return _by_position(1 - products)

        return self._resolve(first, bench, loss)


@dataclass(frozen=True, slots=True)
class AttentionLoss(_OfTensors):
    """Squared distance of normalized attention maps (Zagoruyko 2017, arXiv:1612.03928).

    The map of a tensor is the mean of squares over its last axis, flattened and scaled to
    length 1, so widths may differ and positions may not. There is nothing to project.
    """

    _kind = "attention"

    def resolve(self, first: Seen, bench: Bench) -> Compute:
        """Check the tensors on the first batch; see ``DistillationLoss``.

        Raises:
            InputError: If a projection is asked for.
            ModelError: If positions differ.
        """
        if self.projection:
            raise InputError(f"{self.label}: attention maps need no projection; leave it out.")
        names = self._names(bench)
        ours, theirs = self._tensors(first)
        if len(ours.shape) < 3 or tuple(ours.shape[:-1]) != tuple(theirs.shape[:-1]):
            raise ModelError(
                f"{names[0]} has shape {shape_text(ours)}, but {names[1]} has "
                f"{shape_text(theirs)}. Attention maps need the same positions: axes between the "
                "rows and the last one."
            )

        def compute(seen: Seen) -> list[Term]:
            ours, theirs = self._tensors(seen)
            mask = seen.mask_of(ours)
            distances = tf.math.squared_difference(_map_of(ours, mask), _map_of(theirs, mask))
            return [Term(tf.reduce_sum(distances, axis=-1), None, None)]

        return compute


@dataclass(frozen=True, slots=True)
class ContrastiveLoss(_OfTensors):
    """InfoNCE: a row's feature is nearest to the teacher's of the same row (arXiv:1910.10699).

    The teacher's features of all other rows of the global batch are the negatives. Axes
    between rows and the last one are averaged, padding left out.

    Attributes:
        temperature: Divides the cosines, ``> 0``.
    """

    temperature: float = 0.1
    _kind = "contrastive"

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(
                f"{self.label}: temperature must be above 0. Received: {self.temperature}."
            )

    def _tensors(self, seen: Seen) -> tuple[Any, Any]:
        own = seen.student.features[self.student]
        theirs = seen.taught[self.of_teacher].features[self.teacher]
        mask = seen.mask_of(own)
        return _pooled(own, mask), tf.stop_gradient(_pooled(theirs, mask))

    def resolve(self, first: Seen, bench: Bench) -> Compute:
        """Check the tensors on the first batch; see ``DistillationLoss``."""
        mapped = self._map(first, bench)

        def compute(seen: Seen) -> list[Term]:
            ours, theirs = self._tensors(seen)
            return [Term(contrast(mapped(ours), theirs, self.temperature), None, None)]

        return compute


@dataclass(frozen=True, slots=True)
class RelationLoss:
    """KL divergence of self-attention relations (MiniLMv2, Wang et al. 2021, arXiv:2012.15828).

    For each pair of tensors, such as queries, keys and values: split into heads, multiply
    each position with each other one, divide by the square root of the head's width, and
    softmax. Widths may differ, so nothing is projected; positions may not.

    Attributes:
        student: The student's tensors, each ``(rows, positions, width)``.
        teacher: The teacher's, in the same order.
        heads: Relation heads; each width is a multiple of it.
        weight: Factor in the sum of all distillation losses, ``>= 0``.
        of_teacher: Which teacher, counted from 0.
        name: Its metric.

    Raises:
        InputError: If the two are not equally many, or ``heads`` is below 1.
    """

    student: Sequence[str]
    teacher: Sequence[str]
    heads: int
    weight: float = 1.0
    of_teacher: int = 0
    name: str | None = None

    def __post_init__(self) -> None:
        texts = isinstance(self.student, str) or isinstance(self.teacher, str)
        if texts or not self.student or len(self.student) != len(self.teacher):
            raise InputError(
                "RelationLoss needs as many tensors of the student as of the teacher, each a list "
                f"of names. Received: {self.student!r} and {self.teacher!r}."
            )
        if self.heads < 1:
            raise InputError(f"RelationLoss needs heads >= 1. Received: {self.heads}.")

    @property
    def label(self) -> str:
        """Return its name among the metrics."""
        return self.name or f"relation_{'_'.join(self.student)}"

    def student_tensors(self) -> Sequence[str]:
        """Return the layers of the student."""
        return tuple(self.student)

    def teacher_tensors(self, teacher: int) -> Sequence[str]:
        """Return the layers of its own teacher."""
        return tuple(self.teacher) if teacher == self.of_teacher else ()

    def resolve(self, first: Seen, bench: Bench) -> Compute:
        """Check the tensors on the first batch; see ``DistillationLoss``.

        Raises:
            ModelError: If positions differ, or a width is no multiple of ``heads``.
        """
        bench.require_teacher(self.of_teacher, self.label)
        for own, other in zip(self.student, self.teacher, strict=True):
            ours = first.student.features[own]
            theirs = first.taught[self.of_teacher].features[other]
            text = (
                f"{self.label}: tensor {own!r} of the {bench.student_name} has shape "
                f"{shape_text(ours)}, and {other!r} of the {bench.teacher_names[self.of_teacher]} "
                f"{shape_text(theirs)}."
            )
            if len(ours.shape) != 3 or tuple(ours.shape[:-1]) != tuple(theirs.shape[:-1]):
                raise ModelError(f"{text} Both must be (rows, positions, width), positions equal.")
            if ours.shape[-1] % self.heads or theirs.shape[-1] % self.heads:
                raise ModelError(f"{text} Widths must be multiples of heads={self.heads}.")

        def compute(seen: Seen) -> list[Term]:
            return [
                self._term(seen, own, other)
                for own, other in zip(self.student, self.teacher, strict=True)
            ]

        return compute

    def _term(self, seen: Seen, own: str, other: str) -> Term:
        ours = seen.student.features[own]
        theirs = tf.stop_gradient(seen.taught[self.of_teacher].features[other])
        mask = seen.mask_of(ours)
        student = log_relations(ours, heads=self.heads, mask=mask)
        teacher = log_relations(theirs, heads=self.heads, mask=mask)
        divergence = tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1)
        return Term(tf.reduce_mean(divergence, axis=1), mask, None)


def log_relations(tensor: Any, *, heads: int, mask: Any) -> Any:
    """Return log-softmax relations of positions, ``(rows, heads, positions, positions)``.

    Args:
        tensor: ``(rows, positions, width)``.
        heads: Divides the width.
        mask: Real positions ``(rows, positions)``, or None.
    """
    tensor = _as_float(tensor)
    rows, positions = tf.shape(tensor)[0], tf.shape(tensor)[1]
    width = tensor.shape[-1] // heads
    split = tf.transpose(tf.reshape(tensor, (rows, positions, heads, width)), (0, 2, 1, 3))
    scores = tf.matmul(split, split, transpose_b=True) / width**0.5
    if mask is not None:
        scores += tf.where(tf.cast(mask, tf.bool)[:, None, None, :], 0.0, _FAR_BELOW)
    return tf.nn.log_softmax(scores)


def contrast(student: Any, teacher: Any, temperature: float) -> Any:
    """Return the InfoNCE loss of each row, ``(rows,)``.

    Only the teacher's rows are gathered from the other replicas: they are constants, so the
    gradient of the sum over replicas is that of one replica with the whole batch.

    Args:
        student: ``(rows, width)``.
        teacher: ``(rows, width)``.
        temperature: ``> 0``.
    """
    ours, theirs = _unit(student), _unit(_as_float(teacher))
    everyone = replica_context.rows_of_all(theirs)
    own = tf.reduce_sum(ours * theirs, axis=-1) / temperature
    scores = tf.matmul(ours, everyone, transpose_b=True) / temperature
    return tf.reduce_logsumexp(scores, axis=-1) - own


def _map_of(tensor: Any, mask: Any) -> Any:
    """Return the attention map of each row, flat and of length 1."""
    energy = tf.reduce_mean(tf.square(_as_float(tensor)), axis=-1)
    if mask is not None and energy.shape.rank == 2:
        energy *= tf.cast(mask, tf.float32)
    return _unit(tf.reshape(energy, (tf.shape(energy)[0], -1)))


def _pooled(tensor: Any, mask: Any) -> Any:
    """Return the mean over all axes between the rows and the last one."""
    tensor = _as_float(tensor)
    rank = tensor.shape.rank
    if mask is None or rank != 3:
        return tf.reduce_mean(tensor, axis=list(range(1, rank - 1))) if rank > 2 else tensor
    real = tf.cast(mask, tf.float32)[:, :, None]
    return tf.math.divide_no_nan(tf.reduce_sum(tensor * real, 1), tf.reduce_sum(real, 1))


def _by_position(values: Any) -> Any:
    """Return the mean of each row, or of each position of a sequence."""
    kept = 2 if values.shape.rank == 3 else 1
    return tf.reduce_mean(values, axis=list(range(kept, values.shape.rank)))


def _unit(tensor: Any) -> Any:
    return tf.math.l2_normalize(tensor, axis=-1, epsilon=_TINY)


def _as_float(tensor: Any) -> Any:
    return tf.cast(tensor, tf.float32)
