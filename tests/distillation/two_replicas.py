"""Train the same distiller on one CPU and on two logical ones; print what differs as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.distillation import (
    AttentionLoss,
    ContrastiveLoss,
    CosineLoss,
    Distiller,
    FeatureLoss,
    RelationLoss,
    SoftTargets,
)
from tfopt.errors import ModelError
from tfopt.keras2.core import Model, keras

L = keras.layers
STEPS = 4


def images(width: int) -> Model:
    inputs = keras.Input((6, 6, 1))
    x = L.Conv2D(width, 3, name="conv", kernel_regularizer="l2", activation="relu")(inputs)
    x = L.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, L.Dense(3, name="out")(x))


def texts(width: int) -> Model:
    inputs = keras.Input((6,), dtype="int32")
    x = L.Embedding(9, width, keras.initializers.RandomNormal(stddev=1.0), mask_zero=True)(inputs)
    x = L.Dense(width, name="query")(x)
    return keras.Model(inputs, L.Dense(3, name="out")(x))


IMAGE_LOSSES = [
    SoftTargets(2.0),
    FeatureLoss("conv", "conv", projection=True),
    CosineLoss("pool", "pool", projection=True),
    AttentionLoss("conv", "conv"),
    ContrastiveLoss("pool", "pool", projection=True),
]
TEXT_LOSSES = [
    SoftTargets(2.0),
    FeatureLoss("query", "query", projection=True),
    RelationLoss(["query"], ["query"], heads=2),
]


def run(make: Callable[[int], Model], losses: Any, data: Any, strategy: Any) -> dict[str, Any]:
    keras.utils.set_random_seed(1)
    with strategy.scope():
        teacher, student = make(8), make(4)
        distiller = Distiller(student, teacher, losses=losses, alpha=0.3)
        distiller.compile(
            keras.optimizers.SGD(0.05),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    first = np.concatenate([w.numpy().ravel() for w in student.weights])
    snapshots = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            snapshots.append([w.numpy() for w in distiller.trainable_variables])

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    history = distiller.fit(data.with_options(options), verbose=0, callbacks=[Watch()]).history
    last = np.concatenate([w.numpy().ravel() for w in student.weights])
    return {
        "snapshots": snapshots,
        "metrics": {name: float(value[0]) for name, value in history.items()},
        "moved": float(np.abs(last - first).max()),
        "replicas": strategy.num_replicas_in_sync,
    }


def main() -> None:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    random = np.random.default_rng(0)
    x, y = random.normal(size=(64, 6, 6, 1)).astype("float32"), random.integers(0, 3, 64)
    ids, labels = random.integers(1, 9, (32, 6)), random.integers(0, 3, (32, 6))
    for row, length in enumerate(random.integers(1, 7, 32)):
        ids[row, length:] = 0
    weights = random.random(64).astype("float32")
    slices = tf.data.Dataset.from_tensor_slices
    cases = {
        "even": (images, IMAGE_LOSSES, slices((x, y, weights)).batch(16)),
        "uneven": (images, IMAGE_LOSSES, slices((x[:28], y[:28])).batch(7)),
        "masked": (texts, TEXT_LOSSES, slices((ids.astype("int32"), labels)).batch(8)),
    }
    found: dict[str, Any] = {}
    for name, (make, losses, data) in cases.items():
        one = run(make, losses, data, tf.distribute.get_strategy())
        two = run(make, losses, data, mirrored)
        found[name] = {
            "differences": [
                max(float(np.abs(a - b).max()) for a, b in zip(*pair, strict=True))
                for pair in zip(one["snapshots"], two["snapshots"], strict=True)
            ],
            "metrics": {key: (value, two["metrics"][key]) for key, value in one["metrics"].items()},
            "moved": two["moved"],
            "replicas": two["replicas"],
        }
    outside = images(4)
    try:
        with mirrored.scope():
            Distiller(outside, images(8))
    except ModelError as error:
        found["error"] = str(error)
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
