"""Optimizers and learning-rate schedules from a recipe's settings."""

from __future__ import annotations

from typing import Any

from tfopt.config.schema import (
    ConstantRate,
    CosineRate,
    ExponentialRate,
    Fit,
    GradientClip,
    Optimizer,
    PlateauRate,
    RateSchedule,
    StepRate,
)
from tfopt.errors import RecipeError
from tfopt.legacy_keras import keras

_ACCEPTS = {
    "sgd": {"momentum", "nesterov"},
    "adam": {"beta_1", "beta_2", "epsilon"},
    "adamw": {"beta_1", "beta_2", "epsilon"},
    "rmsprop": {"momentum", "epsilon"},
    "adagrad": {"epsilon"},
    "nadam": {"beta_1", "beta_2", "epsilon"},
    "adamax": {"beta_1", "beta_2", "epsilon"},
    "lion": {"beta_1", "beta_2"},
}
_CLASSES = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
    "nadam": "Nadam",
    "adamax": "Adamax",
    "lion": "Lion",
}
_UNDECAYED = ("bias", "gamma", "beta")


def make_optimizer(settings: Fit, *, steps_per_epoch: int) -> Any:
    """Return the tf_keras optimizer of a training stage.

    Args:
        settings: The stage's settings.
        steps_per_epoch: Training steps in an epoch, ``>= 1``.

    Raises:
        RecipeError: If the optimizer does not know one of its settings.
    """
    chosen = settings.optimizer
    rate = learning_rate(
        settings.learning_rate, steps_per_epoch=steps_per_epoch, epochs=settings.epochs
    )
    arguments = {**_own_arguments(chosen), **_clip_arguments(settings.gradient_clip)}
    if chosen.weight_decay is not None:
        arguments["weight_decay"] = chosen.weight_decay
    if chosen.ema is not None:
        arguments.update(use_ema=True, ema_momentum=chosen.ema)
    optimizer = getattr(keras.optimizers, _CLASSES[chosen.name])(learning_rate=rate, **arguments)
    if chosen.weight_decay or chosen.name == "adamw":
        optimizer.exclude_from_weight_decay(var_names=list(_UNDECAYED))
    return optimizer


def learning_rate(schedule: RateSchedule, *, steps_per_epoch: int, epochs: int) -> Any:
    """Return a number or a tf_keras schedule over training steps.

    Cosine with warm-up is that of SGDR (Loshchilov and Hutter, 2017, arXiv:1608.03983)
    without restarts, after a linear warm-up.
    """
    schedules = keras.optimizers.schedules
    total = max(1, steps_per_epoch * epochs)
    match schedule:
        case ConstantRate() | PlateauRate():
            return schedule.peak
        case CosineRate():
            warmup = round(schedule.warmup_fraction * total)
            return schedules.CosineDecay(
                initial_learning_rate=schedule.peak / (warmup + 1) if warmup else schedule.peak,
                decay_steps=max(1, total - warmup),
                alpha=schedule.floor,
                warmup_target=schedule.peak if warmup else None,
                warmup_steps=warmup,
            )
        case ExponentialRate():
            return schedules.ExponentialDecay(
                schedule.peak,
                decay_steps=max(1, round(schedule.every_epochs * steps_per_epoch)),
                decay_rate=schedule.decay,
            )
        case StepRate():
            boundaries = sorted(round(epoch * steps_per_epoch) for epoch in schedule.at_epochs)
            values = [schedule.peak * schedule.decay**n for n in range(len(boundaries) + 1)]
            return schedules.PiecewiseConstantDecay(boundaries, values)


def _own_arguments(chosen: Optimizer) -> dict[str, Any]:
    given = {
        name: getattr(chosen, name)
        for name in ("momentum", "nesterov", "beta_1", "beta_2", "epsilon")
        if getattr(chosen, name) not in (None, False)
    }
    unknown = sorted(set(given) - _ACCEPTS[chosen.name])
    if unknown:
        raise RecipeError(
            f"The optimizer {chosen.name!r} has no {', '.join(unknown)}. It takes "
            f"{', '.join(sorted(_ACCEPTS[chosen.name]))}, weight_decay and ema."
        )
    return given


def _clip_arguments(clip: GradientClip | None) -> dict[str, float]:
    if clip is None:
        return {}
    limits = {
        "clipnorm": clip.norm,
        "global_clipnorm": clip.global_norm,
        "clipvalue": clip.value,
    }
    return {name: limit for name, limit in limits.items() if limit is not None}
