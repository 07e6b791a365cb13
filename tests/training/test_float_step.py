"""Training of the float model, in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfopt.config.schema import Augment, Train
from tfopt.data.arrays import ArraySplit
from tfopt.errors import InputError
from tfopt.keras2.core import Model, keras
from tfopt.reporting.console import make_reporter
from tfopt.training.float_step import train_float
from tfopt.training.job import FitJob
from tfopt.training.task import read_task


def job_for(model: Model, **settings: Any) -> FitJob:
    draws = np.random.default_rng(0)
    rows = draws.normal(size=(48, 10)).astype(np.float32)
    split = ArraySplit(rows, draws.integers(0, 3, 48))
    return FitJob(
        model=model,
        train=split,
        validation=None,
        settings=Train(epochs=1, learning_rate=0.01, **settings),
        task=read_task(model, split, classes=3),
        batch_size=16,
        augment=Augment(),
        seed=1,
    )


def network() -> Model:
    keras.utils.set_random_seed(1)
    layers = [keras.Input((10,)), keras.layers.Dense(32, name="hidden"), keras.layers.Dense(3)]
    return keras.Sequential(layers)


def test_the_model_itself_gets_the_weights_and_keeps_its_zeros() -> None:
    model = network()
    kernel = model.get_layer("hidden").kernel
    mask = np.arange(320).reshape(10, 32) % 3 > 0
    kernel.assign(kernel * mask)
    before = kernel.numpy()
    trained = train_float(job_for(model), make_reporter(quiet=True))
    assert trained.model is model
    assert trained.measured is None
    assert len(trained.history["loss"]) == 1
    np.testing.assert_array_equal(kernel.numpy() != 0, mask)
    assert np.abs(kernel.numpy() - before).max() > 1e-3


def test_a_transfer_section_is_measured() -> None:
    model = network()
    job = job_for(model, transfer={"freeze": "hidden"})
    before = model.get_layer("hidden").kernel.numpy()
    trained = train_float(job, make_reporter(quiet=True), transfer=job.settings.transfer)  # type: ignore[attr-defined]
    assert trained.measured is not None
    assert trained.measured.evidence["frozen_layers"] == 1
    np.testing.assert_array_equal(model.get_layer("hidden").kernel.numpy(), before)


def test_a_clustered_model_is_refused() -> None:
    model = network()
    kernel = model.get_layer("hidden").kernel
    kernel.assign(np.round(kernel.numpy(), 1))
    with pytest.raises(InputError, match="'hidden' is clustered"):
        train_float(job_for(model), make_reporter(quiet=True))
