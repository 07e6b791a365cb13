from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.errors import VerificationError
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, keras
from tfopt.training.transfer.fine_tune import Trained

Train = Callable[..., Trained]


@pytest.mark.parametrize("nested", [False, True])
def test_frozen_batch_normalization_computes_as_at_inference(
    nested: bool, train: Train, make_conv: Callable[..., Model]
) -> None:
    model = graph.copy(make_conv(nested=nested))
    model.get_layer("norm2").moving_mean.assign([3.0, -2.0, 1.0, 0.5])
    seen: list[np.ndarray] = []

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            self.tap = keras.Model(self.model.inputs, self.model.get_layer("relu2").output)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            images = np.random.default_rng(epoch).normal(size=(4, 6, 6, 1)).astype(np.float32)
            outputs = [self.tap(tf.constant(images), training=mode) for mode in (True, False)]
            seen.extend(output.numpy() for output in outputs)

    before = {layer.name: layer.get_weights() for layer in model.layers}
    train(model, {"freeze": "backbone"}, callbacks=[Look()])
    np.testing.assert_array_equal(seen[0], seen[1])
    for layer in model.layers:
        pairs = zip(before[layer.name], layer.get_weights(), strict=True)
        is_same = all(np.array_equal(one, other) for one, other in pairs)
        assert is_same == (layer.name != "logits" or not layer.weights)


def test_a_layer_that_writes_to_itself_while_frozen(
    train: Train, make_conv: Callable[..., Model]
) -> None:
    class Counter(keras.layers.Layer):
        def build(self, input_shape: Any) -> None:
            self.count = self.add_weight("count", shape=(), initializer="zeros")

        def call(self, inputs: Any) -> Any:
            self.count.assign_add(1.0)
            return inputs * 1.0

    base = make_conv()
    head = keras.layers.Dense(3, name="new")(base.get_layer("pool").output)
    model = keras.Model(base.input, head)
    inputs = keras.Input((6, 6, 1))
    x = Counter(name="counter")(inputs)
    whole = graph.copy(keras.Model(inputs, model(x)))
    with pytest.raises(VerificationError, match="'counter' was to stay frozen.*counter/count"):
        train(whole, {"freeze": "backbone"})


def test_a_layer_that_no_gradient_reaches(train: Train, make_conv: Callable[..., Model]) -> None:
    model = graph.copy(make_conv())
    model.get_layer("norm1").gamma.assign(tf.zeros(4))
    model.get_layer("norm1").beta.assign(-tf.ones(4))  # dead after the ReLU
    with pytest.raises(VerificationError, match=r"Layer 'conv0' was to train, but none of its"):
        train(model, {"freeze": ["norm*", "conv2"]})


def test_training_stopped_before_a_group_was_unfrozen(
    train: Train, make_conv: Callable[..., Model]
) -> None:
    stopping = {"monitor": "loss", "patience": 1, "min_delta": 100.0}
    settings = {"epochs": 6, "early_stopping": stopping}
    found = train(make_conv(), {"unfreeze": {"at_epochs": [1, 5]}}, train=settings)
    (note,) = found.measured.notes
    assert note == "training stopped before these layers were unfrozen: conv0, norm0"


def test_the_best_epoch_may_come_before_an_unfreezing(
    train: Train, make_conv: Callable[..., Model]
) -> None:
    # A rate this small never changes the rounded metric, so the first epoch stays the best.
    settings = {"epochs": 3, "keep": "best", "learning_rate": 1e-6}
    found = train(make_conv(), {"unfreeze": {"at_epochs": [2]}}, train=settings, judged=True)
    distances = found.measured.evidence["distance_from_pretrained"]
    assert distances["head"] > 0
    assert distances["block 1"] == 0


def test_several_inputs(train: Train, make_split: Callable[..., Any]) -> None:
    from tfopt.data.arrays import ArraySplit

    keras.utils.set_random_seed(3)
    image, series = keras.Input((6, 6, 1), name="image"), keras.Input((8, 2), name="series")
    left = keras.layers.Flatten()(keras.layers.Conv2D(2, 3, name="conv")(image))
    right = keras.layers.GlobalMaxPooling1D()(keras.layers.Conv1D(2, 3, name="wave")(series))
    joined = keras.layers.Concatenate()([left, right])
    model = keras.Model([image, series], keras.layers.Dense(3, name="logits")(joined))
    draws = np.random.default_rng(0)
    rows = {
        "image": draws.normal(size=(24, 6, 6, 1)).astype(np.float32),
        "series": draws.normal(size=(24, 8, 2)).astype(np.float32),
    }
    split = ArraySplit(rows, draws.integers(0, 3, 24))
    found = train(model, {"unfreeze": {"every_epochs": 1, "groups": ["wave"]}}, split=split)
    distances = {entry.layer: entry.values["distance"] for entry in found.measured.layers}
    assert distances["conv"] == 0
    assert distances["wave"] > 0
