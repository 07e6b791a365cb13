"""Optimizers and learning-rate schedules from a recipe's settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

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
from tfopt.keras2.core import Model, keras
from tfopt.training.layer_rates import VariableRate, with_rates

_CLASSES = {
    "sgd": keras.optimizers.SGD,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "rmsprop": keras.optimizers.RMSprop,
    "adagrad": keras.optimizers.Adagrad,
    "nadam": keras.optimizers.Nadam,
    "adamax": keras.optimizers.Adamax,
    "lion": keras.optimizers.Lion,
}
_UNDECAYED = ("bias", "gamma", "beta")
_ARGUMENTS = ("momentum", "nesterov", "weight_decay", "beta_1", "beta_2", "epsilon")


def make_optimizer(
    settings: Fit, model: Model, *, steps_per_epoch: int, rates: Sequence[VariableRate] = ()
) -> Any:
    """Return the tf_keras optimizer of a training stage.

    Args:
        settings: The stage's settings.
        model: The model to train; weight decay leaves out its biases and norms.
        steps_per_epoch: Training steps in an epoch, ``>= 1``.
        rates: Variables with a rate of their own.
    """
    chosen = settings.optimizer
    rate = learning_rate(
        settings.learning_rate, steps_per_epoch=steps_per_epoch, epochs=settings.epochs
    )
    arguments = {**_own_arguments(chosen), **_clip_arguments(settings.gradient_clip)}
    if chosen.ema is not None:
        arguments.update(use_ema=True, ema_momentum=chosen.ema)
    optimizer_class = _CLASSES[chosen.name]
    if rates:
        optimizer = with_rates(optimizer_class)(learning_rate=rate, **arguments)
        optimizer.give_rates(rates)
    else:
        optimizer = optimizer_class(learning_rate=rate, **arguments)
    # By variable and not by name: tf_keras would search the names of the layers too.
    optimizer.exclude_from_weight_decay(
        [v for v in model.trainable_variables if _own_name(v).endswith(_UNDECAYED)]
    )
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
                initial_learning_rate=schedule.peak / (warmup + 1),
                decay_steps=max(1, total - warmup),
                alpha=schedule.floor,
                warmup_target=schedule.peak if warmup else None,
                warmup_steps=warmup,
            )
        case ExponentialRate():
            return schedules.ExponentialDecay(
                schedule.peak,
                decay_steps=schedule.every_epochs * steps_per_epoch,
                decay_rate=schedule.decay,
            )
        case StepRate():
            # tf_keras changes the rate after the boundary's own step.
            boundaries = sorted(round(epoch * steps_per_epoch) - 1 for epoch in schedule.at_epochs)
            values = [schedule.peak * schedule.decay**n for n in range(len(boundaries) + 1)]
            return schedules.PiecewiseConstantDecay(boundaries, values)


def state_of(optimizer: Any) -> list[Any]:
    """Return every variable of an optimizer that training changes, in a fixed order.

    ``optimizer.variables`` lacks the learning rate, the loss scale of mixed_float16, and
    a running product of Nadam.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    scale = getattr(optimizer, "_loss_scale", None)
    owned = [*vars(inner).values(), *(vars(scale).values() if scale is not None else ())]
    listed = list(inner.variables)
    known = {id(variable) for variable in listed}
    return listed + [v for v in owned if isinstance(v, tf.Variable) and id(v) not in known]


def _own_name(variable: Any) -> str:
    """Return ``bias`` for ``dense/bias:0``."""
    return str(variable.name).rpartition("/")[2].partition(":")[0]


def _own_arguments(chosen: Optimizer) -> dict[str, Any]:
    given = {name: getattr(chosen, name) for name in _ARGUMENTS if name in chosen.model_fields_set}
    return {
        name: value for name, value in given.items() if value is not None and value is not False
    }


def _clip_arguments(clip: GradientClip | None) -> dict[str, float]:
    if clip is None:
        return {}
    limits = {
        "clipnorm": clip.norm,
        "global_clipnorm": clip.global_norm,
        "clipvalue": clip.value,
    }
    return {name: limit for name, limit in limits.items() if limit is not None}
