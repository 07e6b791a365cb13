"""Distillation losses and schedules from a recipe's settings."""

from __future__ import annotations

from tfopt import distillation
from tfopt.config import distill as settings
from tfopt.distillation.loss_base import DistillationLoss
from tfopt.distillation.schedules import Schedule


def losses_of(chosen: settings.DistillStep, *, total_steps: int) -> list[DistillationLoss]:
    """Return the losses of a ``distill`` step.

    Args:
        chosen: The step's settings.
        total_steps: Training steps of the stage, ``>= 1``.
    """
    return [_loss(entry.settings, total_steps) for entry in chosen.losses]


def schedule_of(change: settings.AnyChange, *, total_steps: int) -> Schedule:
    """Return a number, or a function of the training step.

    Args:
        change: A setting, whose shares are of all steps.
        total_steps: Training steps of the stage, ``>= 1``.
    """
    match change:
        case settings.ConstantChange():
            return change.value
        case settings.StepChange():
            boundaries = [round(share * total_steps) for share in change.at]
            if len(set(boundaries)) < len(boundaries):  # too few steps to tell them apart
                boundaries = list(range(1, len(boundaries) + 1))
            return distillation.StepSchedule(boundaries, change.values)
        case _:
            is_line = isinstance(change, settings.LinearChange)
            kind = distillation.LinearSchedule if is_line else distillation.CosineSchedule
            begin = round(change.begin * total_steps)
            steps = max(1, round(change.finish * total_steps) - begin)
            return kind(change.start, change.end, steps=steps, begin=begin)


def _loss(entry: settings.AnyLoss, total_steps: int) -> DistillationLoss:
    given = {name: getattr(entry, name) for name in type(entry).model_fields}
    match entry:
        case settings.SoftTargetsLoss():
            given["temperature"] = schedule_of(entry.temperature, total_steps=total_steps)
            return distillation.SoftTargets(**given)
        case settings.RelationsLoss():
            return distillation.RelationLoss(**given)
        case settings.ContrastiveLossSettings():
            return distillation.ContrastiveLoss(**given)
        case settings.CosineLossSettings():
            return distillation.CosineLoss(**given)
        case settings.HiddenLoss():
            return distillation.FeatureLoss(**given)
        case _:
            return distillation.AttentionLoss(**given)
