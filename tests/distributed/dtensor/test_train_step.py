"""Layers that DTensor cannot divide are named, and so is a gradient that comes out wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.experimental import dtensor

from tfopt.config.distributed import StrategySettings as Settings
from tfopt.distributed.dtensor import sharding
from tfopt.distributed.dtensor.strategy import ModelParallel
from tfopt.distributed.dtensor.train_step import ShardedSteps
from tfopt.errors import ModelError, VerificationError
from tfopt.keras2.core import keras

BATCH = (np.ones((3, 4), np.float32), np.array([0, 1, 1]))


@pytest.fixture
def mesh() -> Any:
    """A mesh of one device; those of several are in the conformance battery."""
    tf.config.list_logical_devices()
    return dtensor.create_mesh([("batch", 1), ("model", 1)], devices=["CPU:0"])


def compiled(*layers: Any) -> Any:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(2, name="out")])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, weighted_metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    return model


def test_a_step_is_that_of_fit(mesh: Any) -> None:
    model, same = compiled(), compiled()
    strategy = ModelParallel(mesh)
    steps = strategy.steps_of(model)
    (loss,) = steps.train(BATCH).values()
    logs = steps.logs()
    expected = same.train_on_batch(*BATCH, return_dict=True)
    assert logs == pytest.approx(expected, abs=1e-6)
    assert loss == pytest.approx(expected["loss"], abs=1e-6)
    np.testing.assert_allclose(model.layers[-1].kernel, same.layers[-1].kernel, atol=1e-7)
    assert int(model.optimizer.iterations) == 1
    spread = strategy.spread().evidence
    assert spread["weight_bytes"] == spread["weight_bytes_per_device"] == (4 * 2 + 2) * 4


def test_every_layer_that_cannot_be_divided_is_named(mesh: Any) -> None:
    layers = [keras.layers.BatchNormalization(name="norm"), keras.layers.Dropout(0.1, name="drop")]
    held = keras.layers.Dense(4, kernel_constraint="non_neg", name="held")
    named = "norm: FusedBatch.*; drop: it draws random.*; held: its weights have a constraint"
    with pytest.raises(ModelError, match=f"'model_parallel' cannot train.*{named}"):
        ShardedSteps(compiled(*layers, held), mesh)


def test_an_operation_without_a_layout(mesh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "_REFUSED", {})
    model = compiled(keras.layers.LayerNormalization(name="norm"))
    before = model.get_weights()
    with pytest.raises(ModelError, match="divide a step.*: 'tf.FusedBatchNorm.*another strategy"):
        ShardedSteps(model, mesh).train(BATCH)
    assert all(map(np.array_equal, before, model.get_weights()))


def test_a_wrong_gradient(mesh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spread: Callable[..., Any] = sharding.spread_rows
    monkeypatch.setattr(
        sharding, "spread_rows", lambda t, mesh: spread(t * 2 if t.dtype.is_floating else t, mesh)
    )
    model = compiled()
    before = model.get_weights()
    with pytest.raises(VerificationError, match=r"gradient of 'out/kernel:0' on 1 dev.*off by"):
        ShardedSteps(model, mesh).train(BATCH)
    assert all(map(np.array_equal, before, model.get_weights()))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"kind": "single", "model_devices": 2}, "model_devices is for kind 'model_parallel'"),
        ({"kind": "model_parallel", "model_devices": 2}, r"does not divide devices \(None\)"),
        ({"kind": "model_parallel", "devices": 4, "model_devices": 3}, r"is 3, which does not"),
        ({"kind": "parameter_server", "learning_rate_scaling": "sqrt"}, "no replicas to count"),
        ({"kind": "single", "devices": 2}, "devices is for kinds 'mirrored' and 'model_parallel'"),
    ],
)
def test_devices_that_do_not_fit(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Settings(**settings)
