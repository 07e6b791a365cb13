"""Optimizers, schedules and clipping do what the recipe says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tfopt.config.schema import Train
from tfopt.keras2.core import keras
from tfopt.training.optimizers import learning_rate, make_optimizer, state_of

STEPS = 10


def settings(**given: Any) -> Train:
    return Train(**{"epochs": 4, "learning_rate": 0.1, **given})


def rate_at(step: int, **schedule: Any) -> float:
    made = learning_rate(
        settings(learning_rate=schedule).learning_rate, steps_per_epoch=STEPS, epochs=4
    )
    return float(made(step)) if callable(made) else float(made)


def test_cosine_with_warmup() -> None:
    schedule = {"schedule": "cosine", "peak": 0.4, "warmup_fraction": 0.1, "floor": 0.25}
    rates = [rate_at(step, **schedule) for step in range(41)]
    assert rates[:4] == pytest.approx([0.4 / 5 * (1 + 4 * step / 4) for step in range(4)])
    assert rates[4] == pytest.approx(0.4)
    expected = [0.4 * (0.25 + 0.75 * 0.5 * (1 + math.cos(math.pi * t / 36))) for t in range(37)]
    assert rates[4:] == pytest.approx(expected)
    assert rate_at(99, **schedule) == pytest.approx(0.1)


def test_cosine_without_warmup() -> None:
    schedule = {"schedule": "cosine", "peak": 0.4, "warmup_fraction": 0}
    assert rate_at(0, **schedule) == pytest.approx(0.4)
    assert rate_at(20, **schedule) == pytest.approx(0.2)
    assert rate_at(40, **schedule) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("every", [1.0, 0.25])
def test_exponential(every: float) -> None:
    schedule = {"schedule": "exponential", "peak": 0.4, "decay": 0.5, "every_epochs": every}
    for step in (0, 7, 39):
        assert rate_at(step, **schedule) == pytest.approx(0.4 * 0.5 ** (step / (every * STEPS)))


def test_steps_change_at_the_first_step_of_the_epoch() -> None:
    schedule = {"schedule": "step", "peak": 0.4, "decay": 0.1, "at_epochs": (3, 1)}
    rates = [rate_at(step, **schedule) for step in (0, 9, 10, 29, 30, 39)]
    assert rates == pytest.approx([0.4, 0.4, 0.04, 0.04, 0.004, 0.004])


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_constant(schedule: str) -> None:
    assert rate_at(17, schedule=schedule, peak=0.4) == 0.4


def one_update(given: dict[str, Any], *, gradient: float = 0.0) -> dict[str, float]:
    """Return how far one step moves weights of 1 under a gradient, by their own name."""
    model = keras.Sequential(
        [
            keras.Input((2,)),
            # A layer's name must not decide about its kernel.
            keras.layers.Dense(2, name="beta_bias"),
            keras.layers.BatchNormalization(name="norm"),
        ]
    )
    variables = model.trainable_variables
    for variable in variables:
        variable.assign(np.ones(variable.shape))
    optimizer = make_optimizer(settings(**given), model, steps_per_epoch=STEPS)
    optimizer.apply_gradients([(np.full(v.shape, gradient, np.float32), v) for v in variables])
    moved = {v.name.partition(":")[0]: float(1 - v.numpy().flat[0]) for v in variables}
    return {name.rpartition("/")[2]: value for name, value in moved.items()}


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "adagrad", "nadam", "lion"])
def test_weight_decay_leaves_out_biases_and_norms(name: str) -> None:
    moved = one_update({"optimizer": {"name": name, "weight_decay": 0.2}})
    assert moved["kernel"] == pytest.approx(0.02, rel=1e-4)
    assert moved["bias"] == moved["gamma"] == moved["beta"] == 0


def test_default_weight_decay() -> None:
    assert one_update({"optimizer": "adamw"})["kernel"] == pytest.approx(0.1 * 0.004, rel=1e-3)
    for name in ("lion", "adam", "sgd"):
        assert one_update({"optimizer": name})["kernel"] == 0


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "adagrad", "nadam", "adamax"])
def test_every_optimizer_steps_down_the_gradient(name: str) -> None:
    moved = one_update({"optimizer": name}, gradient=0.5)
    assert all(0 < value <= 0.5 for value in moved.values())


def test_lion_moves_by_the_sign() -> None:
    assert one_update({"optimizer": "lion"}, gradient=0.5)["bias"] == pytest.approx(0.1)


def test_settings_reach_the_optimizer() -> None:
    def made(**given: Any) -> Any:
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        return make_optimizer(settings(**given), model, steps_per_epoch=STEPS)

    adam = made(optimizer={"name": "adam", "beta_1": 0, "beta_2": 0.5, "epsilon": 0.1, "ema": 0.7})
    assert (adam.beta_1, adam.beta_2, adam.epsilon) == (0, 0.5, 0.1)
    assert (adam.use_ema, adam.ema_momentum) == (True, 0.7)
    sgd = made(optimizer={"name": "sgd", "momentum": 0.9, "nesterov": True})
    assert (sgd.momentum, sgd.nesterov) == (0.9, True)
    lion = made(optimizer="lion")
    assert (lion.beta_1, lion.beta_2, lion.weight_decay) == (0.9, 0.99, None)
    assert made(optimizer={"name": "rmsprop", "momentum": 0.3}).momentum == 0.3


def test_clipping() -> None:
    sgd = {"optimizer": "sgd", "learning_rate": 1.0}
    by_value = one_update({**sgd, "gradient_clip": {"value": 0.1}}, gradient=3.0)
    assert set(np.round(list(by_value.values()), 6)) == {0.1}
    by_norm = one_update({**sgd, "gradient_clip": {"norm": 1.0}}, gradient=3.0)
    assert by_norm["kernel"] == pytest.approx(1 / math.sqrt(4))
    assert by_norm["bias"] == pytest.approx(1 / math.sqrt(2))
    together = one_update({**sgd, "gradient_clip": {"global_norm": 1.0}}, gradient=3.0)
    assert set(np.round(list(together.values()), 5)) == {round(1 / math.sqrt(10), 5)}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"optimizer": {"name": "adam", "momentum": 0.9}},
            "'adam' has no momentum; it takes beta_1",
        ),
        ({"optimizer": {"name": "sgd", "beta_1": 0}}, "'sgd' has no beta_1"),
        ({"optimizer": {"name": "sgd", "nesterov": True}}, "nesterov needs momentum"),
        ({"optimizer": {"ema": 0.9}, "keep": "best"}, "both choose the final weights"),
        ({"gradient_clip": {}}, "set exactly one of norm, global_norm and value"),
        (
            {"learning_rate": {"schedule": "step", "peak": 1, "at_epochs": [-1]}},
            "greater than or equal",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_the_recipe(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**given)


def test_the_state_is_complete_and_in_one_order() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    optimizer = make_optimizer(settings(optimizer="nadam"), model, steps_per_epoch=STEPS)
    optimizer.build(model.trainable_variables)
    state = state_of(keras.mixed_precision.LossScaleOptimizer(optimizer))
    assert {id(variable) for variable in optimizer.variables} < {id(v) for v in state}
    # Two moments for each of two weights, iterations, rate, Nadam's product, scale and counter.
    assert len(state) == len({id(variable) for variable in state}) == 9
