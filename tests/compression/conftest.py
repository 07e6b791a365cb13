"""Tiny models and data for the compression tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tfopt.compression.base import StepContext
from tfopt.legacy_keras import Model, keras

L = keras.layers
ROWS = 32
Array = np.ndarray


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session()


@pytest.fixture
def images() -> Array:
    """Return inputs of the convolutional models, shape (rows, 8, 8, 4)."""
    return np.random.default_rng(0).normal(size=(ROWS, 8, 8, 4)).astype("float32")


@pytest.fixture
def labels() -> Array:
    return np.arange(ROWS) % 3


@pytest.fixture
def dense() -> Model:
    """Return a dense model: 12 inputs, 16 units, 3 classes."""
    return keras.Sequential(
        [L.Input((12,)), L.Dense(16, activation="relu", name="hidden"), L.Dense(3, name="out")]
    )


@pytest.fixture
def rows() -> Array:
    return np.random.default_rng(1).normal(size=(ROWS, 12)).astype("float32")


@pytest.fixture
def cnn() -> Model:
    """Return a convolution without bias, batch normalization, a depthwise layer, a classifier."""
    inputs = keras.Input((8, 8, 4))
    outputs = L.Conv2D(8, 3, use_bias=False, name="conv")(inputs)
    outputs = L.ReLU()(L.BatchNormalization(name="norm")(outputs))
    outputs = L.DepthwiseConv2D(3, name="depthwise")(outputs)
    return keras.Model(inputs, L.Dense(3, name="out")(L.GlobalAveragePooling2D()(outputs)))


@pytest.fixture
def residual() -> Model:
    """Return a residual net of separable convolutions with settled batch normalization."""
    inputs = keras.Input((8, 8, 4))
    first = L.Conv2D(8, 3, padding="same", use_bias=False)(inputs)
    first = L.ReLU()(L.BatchNormalization()(first))
    second = L.SeparableConv2D(8, 3, padding="same", use_bias=False)(first)
    second = L.BatchNormalization()(second)
    outputs = L.ReLU()(L.Add()([first, second]))
    model = keras.Model(inputs, L.Dense(5)(L.GlobalAveragePooling2D()(outputs)))
    random = np.random.default_rng(2)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


@pytest.fixture
def context_for() -> Callable[..., StepContext]:
    """Return what a pass needs to know, for inputs and a number of steps."""

    def make(inputs: Any = None, steps: int = 8) -> StepContext:
        return StepContext(steps, lambda: iter([] if inputs is None else [inputs]))

    return make


@pytest.fixture
def train() -> Callable[..., None]:
    """Return a function that trains a classifier a little: 4 steps an epoch.

    Steps run eagerly, since tracing them takes longer; tests/conformance trains graphs.
    """

    def fit(
        model: Model,
        inputs: Any,
        classes: Array,
        *,
        epochs: int = 2,
        callbacks: Any = (),
        rate: float = 1e-3,
    ) -> None:
        logits = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate), logits, run_eagerly=True)
        model.fit(
            inputs, classes, batch_size=8, epochs=epochs, verbose=0, callbacks=list(callbacks)
        )

    return fit
