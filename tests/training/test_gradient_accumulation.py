"""Batches computed in parts, with one update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.keras2.core import Model, keras
from tfopt.training.gradient_accumulation import computed_in_parts

ROWS = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32)
TARGETS = np.random.default_rng(1).normal(size=(12, 2)).astype(np.float32)
WORDS = np.random.default_rng(2).integers(0, 9, (12, 5))


def dense() -> Model:
    keras.utils.set_random_seed(7)
    layers = [keras.layers.Dense(5, "tanh", kernel_regularizer="l2"), keras.layers.Dense(2)]
    return keras.Sequential([keras.Input((6,)), *layers])


def words() -> Model:
    keras.utils.set_random_seed(7)
    layers = [
        keras.layers.Embedding(9, 4),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(2),
    ]
    return keras.Sequential([keras.Input((5,), dtype="int32"), *layers])


class Own(keras.Model):
    """A model with a training step of its own, which calls apply_gradients twice."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, *_ = data
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.reduce_mean(tf.square(self(x, training=True) - y))
        for part in (self.trainable_variables[:2], self.trainable_variables[2:]):
            gradients = tape.gradient(loss, part)
            self.optimizer.apply_gradients(zip(gradients, part, strict=True))
        return {"loss": loss}


def own() -> Model:
    inner = dense()
    inner.layers[0].kernel_regularizer = None
    return Own(inner.inputs, inner.outputs)


def scaled() -> Any:
    return keras.mixed_precision.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=8.0)


CASES: dict[str, tuple[Callable[[], Model], Callable[[], Any], Any]] = {
    "adam": (dense, lambda: keras.optimizers.Adam(0.01, global_clipnorm=0.1), ROWS),
    "sparse": (words, lambda: keras.optimizers.Adam(0.01), WORDS),
    "loss scale": (dense, scaled, ROWS),
    "own step": (own, lambda: keras.optimizers.SGD(0.1, momentum=0.9), ROWS),
}


def trained(name: str, parts: int) -> tuple[list[np.ndarray], Any]:
    make, optimizer, rows = CASES[name]
    model = make()
    model.compile(optimizer(), "mse")
    model.optimizer.build(model.trainable_variables)
    with computed_in_parts(model, parts):
        model.fit(rows, TARGETS, batch_size=6, epochs=2, shuffle=False, verbose=0)
    return model.get_weights(), model


@pytest.mark.parametrize("name", CASES)
def test_parts_together_are_the_batch(name: str) -> None:
    whole, _ = trained(name, 1)
    found, model = trained(name, 3)
    for one, other in zip(whole, found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    calls = 2 if name == "own step" else 1
    assert int(model.optimizer.iterations) == 4 * calls
    assert type(model.optimizer).__module__.startswith("tf_keras")
    assert "train_step" not in vars(model)


def test_an_infinite_part_skips_the_whole_batch() -> None:
    model = dense()
    targets = TARGETS.copy()
    targets[1] = 3e38  # in the first part of three
    model.compile(scaled(), "mse")
    before = model.get_weights()
    with computed_in_parts(model, 3):
        model.fit(ROWS[:6], targets[:6], batch_size=6, shuffle=False, verbose=0)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert float(model.optimizer.loss_scale) == 4.0


def test_parts_are_computed_one_after_the_other() -> None:
    seen: list[list[float]] = []

    class Looking(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            def look(rows: Any) -> None:
                seen.append(rows[:, 0].numpy().tolist())

            tf.py_function(look, [inputs], [])
            return inputs

    model = keras.Sequential([keras.Input((6,)), Looking(), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    with computed_in_parts(model, 3):
        model.fit(ROWS[:6], TARGETS[:6], batch_size=6, shuffle=False, verbose=0)
    assert seen == [ROWS[first : first + 2, 0].tolist() for first in (0, 2, 4)]
