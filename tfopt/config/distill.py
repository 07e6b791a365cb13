"""What a teacher teaches, and how: the settings of distillation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from tfopt.config.base import Section, Strict, defaults_for_bare_keys, one_key_or_bare_name
from tfopt.config.model import Model
from tfopt.config.training import CosineRate, Fit, LearningRate

DEFAULT_VIEWS = 4


class _Change(Strict):
    """A number that may change; pydantic allows no validator on ``schedule``, which chooses."""

    _booleans = field_validator(
        "value", "start", "end", "begin", "finish", "values", "at", mode="before",
        check_fields=False,
    )(Strict.refuse_boolean.__func__)  # type: ignore[attr-defined]  # a class method has it  # fmt: skip


class ConstantChange(_Change):
    """A number that stays the same.

    Attributes:
        value: The number.
    """

    schedule: Literal["constant"]
    value: float


class _Ramp(_Change):
    """From ``start`` to ``end``, level before and after.

    Attributes:
        start: Value until the change begins.
        end: Value once it is complete.
        begin: Share of the stage's steps after which it begins.
        finish: Share of the steps after which it is complete.
    """

    start: float
    end: float
    begin: float = Field(0.0, ge=0, lt=1)
    finish: float = Field(1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _in_order(self) -> _Ramp:
        if self.begin >= self.finish:
            raise ValueError(f"begin ({self.begin}) must be before finish ({self.finish})")
        return self


class LinearChange(_Ramp):
    """A straight line."""

    schedule: Literal["linear"]


class CosineChange(_Ramp):
    """Half a cosine wave."""

    schedule: Literal["cosine"]


class StepChange(_Change):
    """One number after another.

    Attributes:
        values: The numbers, one more than ``at``.
        at: Shares of the stage's steps at which the next one begins, rising.
    """

    schedule: Literal["step"]
    values: tuple[float, ...] = Field(min_length=2)
    at: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _in_order(self) -> StepChange:
        if len(self.values) != len(self.at) + 1 or list(self.at) != sorted(set(self.at)):
            raise ValueError("values must be one more than at, and at must rise")
        return self


AnyChange = ConstantChange | LinearChange | CosineChange | StepChange
_Chosen = Annotated[AnyChange, Field(discriminator="schedule")]


def numbers_of(change: AnyChange) -> tuple[float, ...]:
    """Return the numbers that a change goes through."""
    if isinstance(change, ConstantChange):
        return (change.value,)
    return change.values if isinstance(change, StepChange) else (change.start, change.end)


def _from_number(raw: Any) -> Any:
    is_number = isinstance(raw, int | float | str) and not isinstance(raw, bool)
    return {"schedule": "constant", "value": raw} if is_number else raw


def _within(lowest: float, highest: float) -> Callable[[AnyChange], AnyChange]:
    def check(change: AnyChange) -> AnyChange:
        for number in numbers_of(change):
            if not lowest <= number <= highest:
                raise ValueError(f"must be from {lowest:g} to {highest:g}. Received: {number:g}.")
        return change

    return check


_NUMBER = BeforeValidator(_from_number, json_schema_input_type=float | _Chosen)
Share = Annotated[_Chosen, _NUMBER, AfterValidator(_within(0, 1))]
"""A number or a schedule, in ``[0, 1]``."""
Temperature = Annotated[_Chosen, _NUMBER, AfterValidator(_within(1e-4, 1e4))]
"""A number or a schedule, from 0.0001 to 10,000."""


class SoftTargetsLoss(Section):
    """The teacher's outputs as targets (arXiv:1503.02531).

    Attributes:
        temperature: Softens both sides; a number or a schedule.
        weight: Factor in the sum of all distillation losses.
        kind: What outputs tell; read off the last layers and the labels by default.
        teacher_output: Output of a teacher that has several.
        name: Its name among the metrics.
    """

    temperature: Temperature = ConstantChange(schedule="constant", value=4.0)
    weight: float = Field(1.0, ge=0)
    kind: Literal["classes", "binary", "numbers"] | None = None
    teacher_output: str | None = None
    name: str | None = None


class TensorLoss(Section):
    """A loss on a tensor inside of the student and one inside of the teacher.

    Attributes:
        student: Layer of the student; ``layer:1`` is its second output.
        teacher: Layer of the teacher, or an output of a file.
        weight: Factor in the sum of all distillation losses.
        of_teacher: Which teacher, counted from 0.
        name: Its name among the metrics.
    """

    student: str = Field(min_length=1)
    teacher: str = Field(min_length=1)
    weight: float = Field(1.0, ge=0)
    of_teacher: int = Field(0, ge=0)
    name: str | None = None


class AttentionLossSettings(TensorLoss):
    """Squared distance of normalized attention maps (arXiv:1612.03928)."""


class HiddenLoss(TensorLoss):
    """Mean squared error of hidden features (FitNets, arXiv:1412.6550).

    Attributes:
        projection: Learn a linear map of the student's width to the teacher's.
    """

    projection: bool = False


class CosineLossSettings(HiddenLoss):
    """One minus the cosine of features (DistilBERT, arXiv:1910.01108)."""


class ContrastiveLossSettings(HiddenLoss):
    """A row's feature is nearest to the teacher's of the same row (arXiv:1910.10699).

    Attributes:
        temperature: Divides the cosines.
    """

    temperature: float = Field(0.1, gt=0)


class RelationsLoss(Section):
    """Self-attention relations of queries, keys, values (MiniLMv2, arXiv:2012.15828).

    Attributes:
        student: Layers of the student, such as query, key and value of its last block.
        teacher: Layers of the teacher, in the same order.
        heads: Relation heads; widths are multiples of it.
        weight: Factor in the sum of all distillation losses.
        of_teacher: Which teacher, counted from 0.
        name: Its name among the metrics.
    """

    student: tuple[str, ...] = Field(min_length=1)
    teacher: tuple[str, ...] = Field(min_length=1)
    heads: int = Field(ge=1)
    weight: float = Field(1.0, ge=0)
    of_teacher: int = Field(0, ge=0)
    name: str | None = None

    @model_validator(mode="after")
    def _in_pairs(self) -> RelationsLoss:
        if len(self.student) != len(self.teacher):
            raise ValueError("student and teacher must name equally many layers")
        return self


AnyLoss = SoftTargetsLoss | TensorLoss | RelationsLoss


class Loss(Section):
    """One entry of ``losses``: exactly one of the keys below."""

    model_config = ConfigDict(json_schema_extra=one_key_or_bare_name)

    soft_targets: SoftTargetsLoss | None = None
    hidden: HiddenLoss | None = None
    cosine: CosineLossSettings | None = None
    attention: AttentionLossSettings | None = None
    contrastive: ContrastiveLossSettings | None = None
    relations: RelationsLoss | None = None

    @property
    def name(self) -> str:
        """Return the key that is set."""
        return next(name for name in LOSSES if getattr(self, name) is not None)

    @property
    def settings(self) -> AnyLoss:
        """Return the settings under that key."""
        settings: AnyLoss = getattr(self, self.name)
        return settings

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, raw: Any) -> Any:
        """Accept ``- soft_targets`` for ``- soft_targets: {}``."""
        return defaults_for_bare_keys(raw)

    @model_validator(mode="after")
    def _one_key(self) -> Loss:
        if sum(getattr(self, name) is not None for name in LOSSES) != 1:
            raise ValueError(f"write exactly one of {', '.join(LOSSES)} in each entry")
        return self


LOSSES = ("soft_targets", "hidden", "cosine", "attention", "contrastive", "relations")


class TeacherSource(Section):
    """One teacher.

    Attributes:
        path: A ``.keras``, ``.h5``, ``.tflite`` or ``.onnx`` file, or a SavedModel folder;
            by default the model that comes into the step.
        trust: Whether Python code in that file (a Lambda) may run.
        weight: Its weight among several in the soft targets.
    """

    path: Path | None = None
    trust: bool = False
    weight: float = Field(1.0, gt=0)


def _as_list(raw: Any) -> Any:
    if raw is None:
        return ()
    return (raw,) if isinstance(raw, dict | str) else raw


class DistillStep(Fit):
    """Teach a smaller model: a ``distill`` step.

    Attributes:
        student: The smaller model, a section like ``model``. A builder without ``preprocess``
            takes that of ``model``. None is an untrained model like the one that comes in
            (born-again networks, arXiv:1805.04770).
        initialize: ``fresh`` leaves the student's weights as its builder or file made them;
            ``teacher`` copies the layers that have the same name and shapes in the model that
            comes in. Where ``student.arguments.layers`` lists blocks of the teacher, block k
            (``layer_{k}_...``) takes the k-th of them.
        teacher: One teacher or a list of them; by default the model that comes in.
        losses: What the student learns from the teachers.
        alpha: Weight of the labels; the losses have the rest. A number or a schedule.
        mask: Name of the input that is 1 at real positions; ``attention_mask`` if there is one.
        cache: Run the teachers over the training rows once, and keep what they say on disk and
            in memory; ``float16`` in half the space. With ``data.augment``, each row has
            ``augment_views`` fixed versions, one drawn in each epoch; without the cache the
            teachers run on each augmented batch.
        augment_views: Versions of each row in the cache, 4 by default.
        epochs: Epochs of training.
    """

    student: Model | None = None
    initialize: Literal["fresh", "teacher"] = "fresh"
    teacher: Annotated[tuple[TeacherSource, ...], BeforeValidator(_as_list)] = ()
    losses: Annotated[tuple[Loss, ...], BeforeValidator(_as_list)] = (
        Loss(soft_targets=SoftTargetsLoss()),
    )
    alpha: Share = ConstantChange(schedule="constant", value=0.1)
    mask: str | None = None
    cache: bool | Literal["float16"] = False
    augment_views: int | None = Field(None, ge=1)
    epochs: int = Field(10, ge=1)
    learning_rate: LearningRate = CosineRate(schedule="cosine", peak=1e-3)

    @property
    def teachers(self) -> tuple[TeacherSource, ...]:
        """Return the teachers, the model that comes in if none is named."""
        return self.teacher or (TeacherSource(),)

    @field_validator("losses", mode="after")
    @classmethod
    def _some_losses(cls, losses: tuple[Loss, ...]) -> tuple[Loss, ...]:
        if not losses:
            raise ValueError("name at least one loss, such as soft_targets")
        return losses

    @model_validator(mode="after")
    def _views_are_cached(self) -> DistillStep:
        if self.augment_views is not None and self.cache is False:
            raise ValueError("augment_views are versions of rows in the cache; set cache: true")
        return self


class Teach(Section):
    """The trained float model as the teacher of a step (arXiv:1802.05668).

    Attributes:
        alpha: Weight of the labels; soft targets have the rest. A number or a schedule.
        temperature: Temperature of the soft targets; a number or a schedule.
    """

    alpha: Share = ConstantChange(schedule="constant", value=0.1)
    temperature: Temperature = ConstantChange(schedule="constant", value=4.0)


class Taught(Fit):
    """Settings of a step that the trained float model may teach.

    Attributes:
        teacher: How much it teaches; by default the step learns from the labels alone.
    """

    teacher: Teach | None = None
