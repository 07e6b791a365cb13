"""Say what a lesson will do, for ``tfopt plan``."""

from __future__ import annotations

from tfopt.config import distill as settings
from tfopt.config.schema import Augment
from tfopt.distillation.step import Lesson, views_of


def lesson_lines(lesson: Lesson, augment: Augment) -> list[str]:
    """Return who teaches whom, what the losses look at, and how often the teachers run.

    Args:
        lesson: The lesson.
        augment: The augmentation of the training rows.
    """
    chosen = lesson.settings
    given, own = lesson.incoming.count_params(), lesson.twin.count_params()
    ratio = f"{given / own:.2f}x fewer than" if own < given else "no fewer than"
    teachers = " and the ".join(teacher.name for teacher in lesson.teachers)
    lines = [
        f"student {lesson.twin.name!r}: {own:,} parameters, {ratio} the {given:,} of the model "
        f"that comes in; it learns from the {teachers}, and {_change(chosen.alpha)} from the labels"
    ]
    lines += [f"loss {entry.name}: {_loss(entry.settings)}" for entry in chosen.losses]
    views = views_of(chosen, augment)
    if views:
        versions = f"{views} augmented versions of each row" if views > 1 else "each row"
        lines.append(f"the teacher runs on {versions} once, and its outputs are kept")
    else:
        lines.append("the teacher runs on every batch (cache: false)")
    return [f"distill: {line}" for line in lines]


def _loss(entry: settings.AnyLoss) -> str:
    if isinstance(entry, settings.SoftTargetsLoss):
        return f"the outputs at temperature {_change(entry.temperature)}, weight {entry.weight:g}"
    if isinstance(entry, settings.RelationsLoss):
        pairs = list(zip(entry.student, entry.teacher, strict=True))
    else:
        pairs = [(entry.student, entry.teacher)]
    text = ", ".join(f"{own!r} learns from {other!r}" for own, other in pairs)
    return f"{text}, weight {entry.weight:g}"


def _change(change: settings.AnyChange) -> str:
    return " to ".join(f"{number:g}" for number in settings.numbers_of(change))
