"""What a lesson achieved, measured on the taught student."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tfopt.compression.base import Measurement
from tfopt.config.schema import Augment
from tfopt.data.split import Split
from tfopt.distillation.agreement import Beside, compare
from tfopt.distillation.step import Lesson, views_of
from tfopt.distillation.teachers import digest_of
from tfopt.errors import VerificationError
from tfopt.keras2.core import Model
from tfopt.results import LayerDecision

# One-sided 95% quantile of the normal distribution.
_Z95 = 1.645
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class BeforeTraining:
    """What student and teachers were before the first step.

    Attributes:
        weights: The student's trainable weights, by layer.
        teachers: Hash of each teacher's weights.
    """

    weights: Mapping[str, Sequence[npt.NDArray[Any]]]
    teachers: Sequence[str]


def start_of(lesson: Lesson) -> BeforeTraining:
    """Return the state of a lesson before it is taught."""
    return BeforeTraining(_weights(lesson.twin), _teachers(lesson))


def measure(
    lesson: Lesson, start: BeforeTraining, *, train: Split, evaluation: Split, augment: Augment
) -> Measurement:
    """Return what the student has become.

    Args:
        lesson: A lesson that was taught.
        start: Its state before.
        train: Training rows.
        evaluation: Evaluation rows.
        augment: The augmentation of the training rows.

    Raises:
        VerificationError: If the student did not move, a teacher did, or the student agrees
            with none of its teachers more than chance would have it.
    """
    _require_unmoved(lesson, start)
    layers = _moved(lesson, start)
    found = compare(lesson, evaluation)
    apart = _require_agreement(found)
    own, given = lesson.twin.count_params(), lesson.incoming.count_params()
    copied = [int(entry.values["copied_parameters"]) for entry in lesson.decisions]
    evidence: dict[str, Any] = {"parameter_ratio": round(given / own, 4)}
    for one in found:
        evidence |= one.evidence("" if len(found) == 1 else f"_{one.number}")
    evidence |= {
        "parameters_before": given,
        "parameters": own,
        "copied_layers": sum(count > 0 for count in copied),
        "copied_fraction": sum(copied) / own,
        **_passes(lesson, augment, rows=train.examples),
        "teacher_sha256": ", ".join(digest[:16] for digest in start.teachers),
    }
    saved = evidence["teacher_rows_saved"]
    notes = _notes(lesson, layers, own=own, given=given, rows_saved=saved)
    return Measurement(evidence=evidence, layers=layers, notes=[*notes, *apart])


def _weights(model: Model) -> dict[str, list[npt.NDArray[Any]]]:
    return {
        layer.name: [weight.numpy() for weight in layer.trainable_weights]
        for layer in model.layers
        if layer.weights
    }


def _teachers(lesson: Lesson) -> list[str]:
    return [digest_of(teacher.weights()) for teacher in lesson.teachers]


def _require_unmoved(lesson: Lesson, start: BeforeTraining) -> None:
    for teacher, old, new in zip(lesson.teachers, start.teachers, _teachers(lesson), strict=True):
        if old != new:
            raise VerificationError(
                f"The weights of the {teacher.name} changed while it taught, so the student "
                "learned from several teachers. Something else trains it, such as a layer that is "
                "shared with the student."
            )


def _moved(lesson: Lesson, start: BeforeTraining) -> list[LayerDecision]:
    """Return the layers with how far each has moved, relative to where it began."""
    after = _weights(lesson.twin)
    layers = []
    for entry in lesson.decisions:
        pairs = list(zip(start.weights[entry.layer], after[entry.layer], strict=True))
        change = math.sqrt(sum(float(np.sum(np.square(new - old))) for old, new in pairs))
        length = math.sqrt(sum(float(np.sum(np.square(old))) for old, _ in pairs))
        relative = change / length if length else change
        if not math.isfinite(relative):
            raise VerificationError(
                f"Layer {entry.layer!r} of the student has weights that are not finite."
            )
        layers.append(replace(entry, values={**entry.values, "relative_change": relative}))
    if not any(entry.values["relative_change"] for entry in layers):
        raise VerificationError(
            f"No weight of the student {lesson.twin.name!r} changed, so it was not taught. Raise "
            "the learning rate."
        )
    return layers


def _require_agreement(found: Sequence[Beside]) -> list[str]:
    """Raise if the student agrees with no teacher; return notes on the others.

    Of several teachers the student learns a mixture, which need not be like each of them.
    """
    constant = [
        f"the {one.name} says the same class on every row, so agreement with it proves nothing"
        for one in found
        if one.is_constant
    ]
    by_chance = [one for one in found if _is_chance(one)]
    if not by_chance:
        return constant
    first = by_chance[0]
    telling = [one for one in found if one.agreement is not None and not one.is_constant]
    if len(by_chance) == len(telling):
        raise VerificationError(
            f"The student agrees with the {first.name} on {first.agreement:.1%} of "
            f"{first.choices} choices, and chance alone would give {first.chance:.1%}: it has not "
            "learned from it. Train longer, change the learning rate, or look at the losses in the "
            "epoch logs."
        )
    return constant + [
        f"the student agrees with the {one.name} (number {one.number}) on {one.agreement:.1%} of "
        f"{one.choices} choices, and chance alone would give {one.chance:.1%}"
        for one in by_chance
    ]


def _is_chance(one: Beside) -> bool:
    """Return whether student and teacher choose the same class no more often than by chance.

    Chance is what two that know nothing of each other would agree on, each with its own
    frequencies of classes (Cohen 1960). A student that always says the same is there.
    """
    if one.agreement is None or one.is_constant:
        return False
    margin = _Z95 * math.sqrt(one.chance * (1 - one.chance) / one.choices)
    return not one.agreement > one.chance + min(margin, (1 - one.chance) / 2)


def _passes(lesson: Lesson, augment: Augment, *, rows: int) -> dict[str, int]:
    """Return on how many rows the teachers ran, and on how many the cache spared them."""
    each = rows * len(lesson.teachers)
    views = views_of(lesson.settings, augment)
    runs = views or lesson.settings.epochs
    return {
        "teacher_rows": runs * each,
        "teacher_rows_saved": (lesson.settings.epochs - runs) * each,
    }


def _notes(
    lesson: Lesson, layers: Sequence[LayerDecision], *, own: int, given: int, rows_saved: int
) -> list[str]:
    notes = []
    if own >= given and not lesson.student.is_born_again:
        notes.append(
            f"the student has {own:,} parameters and the model that came in {given:,}, so nothing "
            "became smaller"
        )
    still = [entry.layer for entry in layers if entry.done and not entry.values["relative_change"]]
    if still:
        more = f" and {len(still) - _SHOWN} more" if len(still) > _SHOWN else ""
        notes.append(f"did not move while it was taught: {', '.join(still[:_SHOWN])}{more}")
    if rows_saved < 0:
        notes.append(
            f"the cache made the teacher run on {-rows_saved:,} rows more than training without it "
            "would have; use fewer augment_views"
        )
    if lesson.settings.initialize == "teacher":
        apart = [entry for entry in layers if not entry.values["copied_parameters"]]
        notes += [f"{entry.layer} {entry.reason}" for entry in apart[:_SHOWN]]
        if len(apart) > _SHOWN:
            notes.append(f"{len(apart) - _SHOWN} more layers start fresh")
    return notes
