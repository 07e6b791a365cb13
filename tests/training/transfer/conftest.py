from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tfopt.data.arrays import ArraySplit
from tfopt.keras2.core import Model, keras
from tfopt.training.job import FitJob
from tfopt.training.transfer.fine_tune import Trained, fit_transfer


def conv_model(*, nested: bool = False) -> Model:
    """Return three convolutions with batch normalization below a head."""
    keras.utils.set_random_seed(1)
    x = image = keras.Input((6, 6, 1), name="image")
    for number in range(3):
        x = keras.layers.Conv2D(4, 3, padding="same", name=f"conv{number}")(x)
        x = keras.layers.BatchNormalization(name=f"norm{number}")(x)
        x = keras.layers.ReLU(name=f"relu{number}")(x)
    if nested:
        backbone = keras.Model(image, x, name="inside")
        image = keras.Input((6, 6, 1), name="picture")
        x = backbone(image)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, keras.layers.Dense(3, name="logits")(x), name="small")


@pytest.fixture
def make_conv() -> Callable[..., Model]:
    return conv_model


@pytest.fixture
def train(make_job: Callable[..., FitJob], listener: Any) -> Callable[..., Trained]:
    """Train a flat model in place with a transfer section."""

    def run(model: Model, transfer: dict[str, Any], **changes: Any) -> Trained:
        settings = {"epochs": 2, "transfer": transfer, **changes.pop("train", {})}
        job = make_job(model, train=settings, **changes)
        return fit_transfer(job, job.settings.transfer, listener)

    return run


@pytest.fixture
def sentences() -> ArraySplit:
    """Rows of four vectors, with labels."""
    draws = np.random.default_rng(0)
    rows = draws.normal(size=(24, 4, 5)).astype(np.float32)
    return ArraySplit(rows, draws.integers(0, 3, 24))
