"""What a step draws in an epoch depends on the seed and the epoch, not on the past."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.keras2.core import Model, keras
from tfopt.training.seeding import EpochRandomness


class OwnGenerator(keras.layers.Layer):
    """A user's layer with a generator of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.generator = tf.random.Generator.from_seed(1)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return inputs + self.generator.normal(tf.shape(inputs)) if training else inputs


class Counting(keras.layers.Layer):
    """A user's layer that draws with a kernel that counts."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return inputs + tf.random.normal(tf.shape(inputs)) if training else inputs


def recurrent(x: Any) -> Any:
    x = keras.layers.LSTM(3, dropout=0.3, recurrent_dropout=0.3)(keras.layers.Reshape((2, 2))(x))
    return keras.layers.Dense(4)(x)


def attention(x: Any) -> Any:
    x = keras.layers.Reshape((2, 2))(x)
    return keras.layers.Flatten()(keras.layers.MultiHeadAttention(1, 2, dropout=0.5)(x, x))


def nested(x: Any) -> Any:
    inner = keras.Input((4,))
    return keras.Model(inner, keras.layers.GaussianDropout(0.5)(inner))(x)


DRAWING: dict[str, Callable[[Any], Any]] = {
    "dropout": lambda x: keras.layers.Dropout(0.5)(keras.layers.GaussianNoise(1.0)(x)),
    "recurrent": recurrent,
    "attention": attention,
    "nested": nested,
    "own generator": lambda x: OwnGenerator()(x),
    "counting": lambda x: Counting()(x),
}


def losses(make: Callable[[Any], Any], *, first: int, seed: int = 3) -> list[list[float]]:
    """Return the losses of every step of epochs ``first`` to 2, with weights that stand still."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    model: Model = keras.Model(inputs, keras.layers.Dense(1)(make(inputs)))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    randomness = EpochRandomness(model, seed=seed)
    found: list[list[float]] = []

    class Record(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            randomness.begin(epoch)
            found.append([])

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            found[-1].append(float(logs["loss"]))

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            assert randomness.look() == (make is DRAWING["counting"])

    rows = np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)
    model.fit(
        rows,
        np.ones((8, 1), np.float32),
        batch_size=4,
        shuffle=False,
        initial_epoch=first,
        epochs=3,
        callbacks=[Record()],
        verbose=0,
    )
    return found


@pytest.mark.parametrize("name", DRAWING)
def test_an_epoch_draws_the_same_after_a_restart(name: str) -> None:
    whole = losses(DRAWING[name], first=0)
    assert losses(DRAWING[name], first=2) == whole[2:]
    assert whole[0] != whole[1] != whole[2]


def test_another_seed_draws_otherwise() -> None:
    make = DRAWING["dropout"]
    assert losses(make, first=2) != losses(make, first=2, seed=4)
