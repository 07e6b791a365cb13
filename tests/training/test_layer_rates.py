"""Each weight's own rate against steps computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.config.schema import Fit
from tfopt.keras2.core import Model, keras
from tfopt.training.layer_rates import VariableRate
from tfopt.training.optimizers import make_optimizer

RATE, DECAY = 0.1, 0.05


def two_weights() -> Model:
    keras.utils.set_random_seed(2)
    value = keras.Input((3,))
    hidden = keras.layers.Dense(3, name="low")(value)
    return keras.Model(value, keras.layers.Dense(2, name="high")(hidden))


def optimizer_for(model: Model, optimizer: dict[str, Any], rates: list[VariableRate]) -> Any:
    settings = Fit(epochs=1, optimizer=optimizer, learning_rate=RATE)
    return make_optimizer(settings, model, steps_per_epoch=10, rates=rates)


def sgd(w: Any, g: Any, state: dict[str, Any], step: int, rate: float) -> Any:
    state["m"] = 0.9 * state.get("m", 0) - rate * g
    return w + state["m"]


def adam(w: Any, g: Any, state: dict[str, Any], step: int, rate: float) -> Any:
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * g
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * g**2
    mean, square = state["m"] / (1 - 0.9**step), state["v"] / (1 - 0.999**step)
    return w - rate * mean / (np.sqrt(square) + 1e-7 / np.sqrt(1 - 0.999**step))


@pytest.mark.parametrize(
    ("optimizer", "reference"),
    [({"name": "sgd", "momentum": 0.9}, sgd), ({"name": "adam"}, adam), ({"name": "adamw"}, adam)],
)
def test_the_update_and_not_the_gradient_is_scaled(
    optimizer: dict[str, Any], reference: Any
) -> None:
    model = two_weights()
    low, high = model.get_layer("low"), model.get_layer("high")
    made = optimizer_for(
        model,
        {**optimizer, "weight_decay": DECAY},
        [VariableRate(v, 0.25) for v in low.trainable_weights],
    )
    made.build(model.trainable_variables)
    variables = {v.ref(): (v, rate) for v, rate in [(low.kernel, 0.25), (high.kernel, 1.0)]}
    expected = {key: v.numpy().astype(np.float64) for key, (v, _) in variables.items()}
    states: dict[Any, dict[str, Any]] = {key: {} for key in variables}
    draws = np.random.default_rng(0)
    kernels = [low.kernel, high.kernel]
    apply = tf.function(lambda grads: made.apply_gradients(zip(grads, kernels, strict=True)))
    for step in range(1, 5):
        grads = [draws.normal(size=v.shape).astype(np.float32) for v, _ in variables.values()]
        apply([tf.constant(g) for g in grads])
        for (key, (_, share)), g in zip(variables.items(), grads, strict=True):
            decayed = expected[key] * (1 - DECAY * RATE * share)
            expected[key] = reference(decayed, g, states[key], step, RATE * share)
    for key, (variable, _) in variables.items():
        np.testing.assert_allclose(variable.numpy(), expected[key], rtol=1e-5, atol=1e-6)
    assert float(made.learning_rate) == pytest.approx(RATE)
    assert int(made.iterations) == 4


def test_bias_correction_begins_with_a_variables_first_update() -> None:
    model = two_weights()
    low, high = model.get_layer("low").kernel, model.get_layer("high").kernel
    made = optimizer_for(model, {"name": "adam"}, [VariableRate(low, 1.0, first_step=3)])
    made.build(model.trainable_variables)
    for _ in range(3):
        made.apply_gradients([(tf.ones_like(high), high)])
    before = low.numpy()
    made.apply_gradients([(tf.ones_like(low), low), (tf.ones_like(high), high)])
    np.testing.assert_allclose(before - low.numpy(), RATE, rtol=1e-4)


@pytest.mark.parametrize("name", ["rmsprop", "adagrad", "nadam", "adamax", "lion"])
def test_every_optimizer_is_linear_in_its_rate(name: str) -> None:
    moves = []
    for share in (1.0, 0.5):
        model = two_weights()
        kernel = model.get_layer("low").kernel
        rates = [VariableRate(kernel, share)] if share != 1 else []
        made = optimizer_for(model, {"name": name, "weight_decay": DECAY}, rates)
        made.build(model.trainable_variables)
        before = kernel.numpy().astype(np.float64)
        made.apply_gradients([(tf.fill(kernel.shape, 0.3), kernel)])
        moves.append(kernel.numpy() - before)
    assert np.abs(moves[0]).min() > 1e-4
    np.testing.assert_allclose(moves[1], moves[0] / 2, rtol=2e-2)
