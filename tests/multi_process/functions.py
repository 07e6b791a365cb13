"""Call each Python function that trains, and pickle what every rank got: weights or an error.

Run alone it trains with one replica and with two of one process; launched, with two processes.
"""

from __future__ import annotations

import functools
import logging
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras as keras3
import numpy as np
import tensorflow as tf
import tf_keras as keras2

import tfopt
from tfopt.distributed.environment import find_place
from tfopt.errors import TfoptError

ROWS, BATCH, CLASSES = 45, 8, 3  # the last batch has five rows
PLACE = find_place(os.environ)
RANK = PLACE.rank
SGD: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 0.05, "batch_size": BATCH, "seed": 5}


def network(k: Any = keras2, width: int = 8, classes: int = CLASSES) -> Any:
    k.utils.set_random_seed(3 + width)
    image = k.Input((6, 6, 1), name="image")
    x = k.layers.Conv2D(4, 3, name="conv", kernel_regularizer="l2")(image)
    x = k.layers.Flatten(name="flat")(k.layers.ReLU(name="relu")(x))
    x = k.layers.Dense(width, activation="tanh", name="hidden")(x)
    return k.Model(image, k.layers.Dense(classes, name="logits")(x), name="small")


def rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, CLASSES, ROWS)
    images = draws.normal(size=(ROWS, 6, 6, 1)) + labels[:, None, None, None]
    weights = draws.uniform(0.5, 1.5, ROWS).astype(np.float32)
    return images.astype(np.float32), labels.astype(np.int64), weights


@functools.cache
def teacher() -> Any:
    """A trained teacher, the same in every process."""
    model = network(width=16)
    model.compile("adam", keras2.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*rows()[:2], epochs=4, shuffle=False, verbose=0)
    return model


Case = Callable[[Any], Any]
CASES: dict[str, Case] = {
    "prune": lambda s: tfopt.prune(network(), rows(), sparsity=0.7, strategy=s, **SGD),
    "prune keras 3": lambda s: tfopt.prune(network(keras3), rows(), strategy=s, **SGD),
    "prune with teacher": lambda s: tfopt.prune(
        network(), rows(), sparsity=0.7, teacher=teacher(), strategy=s, **SGD
    ),
    "cluster": lambda s: tfopt.cluster(network(), rows(), clusters=4, epochs=2, strategy=s, **SGD),
    "cluster with teacher": lambda s: tfopt.cluster(
        network(), rows(), clusters=4, epochs=2, teacher=teacher(), alpha=0.5, strategy=s, **SGD
    ),
    "quantize": lambda s: tfopt.quantize(
        network(), rows(), epochs=2, strategy=s, **{**SGD, "learning_rate": 0.01}
    ),
    "distill": lambda s: tfopt.distill(
        network(), teacher(), rows(), epochs=4, cache="float32", strategy=s, **SGD
    ),
    "distill on every batch": lambda s: tfopt.distill(
        network(), teacher(), rows(), epochs=4, strategy=s, **SGD
    ),
    "fine_tune": lambda s: tfopt.fine_tune(
        network(), rows(), freeze="conv", epochs=2, strategy=s, **SGD
    ),
    "fine_tune with lora": lambda s: tfopt.fine_tune(
        network(), rows(), lora=2, epochs=2, strategy=s, **SGD
    ),
}
REFUSED: dict[str, Case] = {
    "other rows": lambda s: tfopt.prune(network(), rows(RANK), strategy=s),
    "other labels": lambda s: tfopt.cluster(network(), (rows()[0], rows(RANK)[1]), strategy=s),
    "other model": lambda s: tfopt.quantize(network(width=8 + RANK), rows(), strategy=s),
    "other settings": lambda s: tfopt.prune(
        network(), rows(), sparsity=0.5 + RANK / 10, strategy=s
    ),
    "other teacher": lambda s: tfopt.distill(
        network(), network(width=9 + RANK), rows(), strategy=s
    ),
    "other function": lambda s: (tfopt.cluster if RANK else tfopt.prune)(
        network(), rows(), strategy=s
    ),
    "bad rows on one rank": lambda s: tfopt.prune(
        network(), rows()[: 1 if RANK else 2], strategy=s
    ),
    "shuffled": lambda s: tfopt.prune(
        network(), tf.data.Dataset.from_tensor_slices(rows()).shuffle(64).batch(8), strategy=s
    ),
    "single": lambda s: tfopt.prune(network(), rows(), strategy="single"),
}


def outcome(case: Case, strategy: Any) -> Any:
    """Return the weights that a case gives, or its error."""
    try:
        return [np.asarray(weight) for weight in case(strategy).get_weights()]
    except TfoptError as error:
        return f"{type(error).__name__}: {error}"


def strategies() -> dict[str, Any]:
    """Return the strategies that this process can train with; made before anything else."""
    if PLACE.kind == "multi_worker":
        return {"launched": tf.distribute.MultiWorkerMirroredStrategy()}
    if PLACE.is_launched:
        return {"launched": "auto"}
    processor = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(processor, parts)
    return {"alone": "auto", "mirrored": tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])}


class Listener(logging.Handler):
    """Keeps what tfopt says on its logger."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def main(target: Path, names: list[str]) -> None:
    listener = Listener()
    logging.getLogger("tfopt").addHandler(listener)
    logging.getLogger("tfopt").setLevel(logging.INFO)
    cases = {**CASES, **REFUSED} if PLACE.is_launched else CASES
    found: dict[str, Any] = {
        key: {name: outcome(cases[name], strategy) for name in names or cases}
        for key, strategy in strategies().items()
    }
    found["start"] = network().get_layer("hidden").kernel.numpy()
    found["said"] = listener.said
    Path(f"{target}-{RANK}").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
