"""Train each case under a strategy, and write down how far it ends from one process.

Run by test_strategies.py as a program of its own, since a strategy must be there before
TensorFlow does anything; many cases in one program, since starting one takes seconds.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras as keras3
import numpy as np
import tensorflow as tf

from tfopt.config.distributed import StrategySettings as Settings
from tfopt.config.schema import Augment, Step, Train
from tfopt.data.arrays import ArraySplit
from tfopt.distillation.cached_dataset import cached_rows
from tfopt.distillation.step import beside_teacher
from tfopt.distributed.base import open_strategy
from tfopt.distributed.environment import find_place
from tfopt.distributed.single import Single
from tfopt.keras2.core import Model, keras
from tfopt.models.load import load_model
from tfopt.training.compression_step import make_pass, step_context, training_copy
from tfopt.training.job import FitJob
from tfopt.training.loop import fit
from tfopt.training.task import read_task
from tfopt.training.transfer.fine_tune import fit_transfer

ROWS, BATCH, CLASSES = 45, 8, 3  # the last batch has five rows
RATE = {"schedule": "constant", "peak": 0.05}


class Silent:
    """A reporter for nobody."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def pictures(*layers: Any, frozen: bool = True, synchronized: bool = False) -> Model:
    keras.utils.set_random_seed(3)
    image = keras.Input((6, 6, 1), name="image")
    x = keras.layers.Conv2D(4, 3, name="conv", kernel_regularizer="l2")(image)
    norm = keras.layers.BatchNormalization(name="norm", synchronized=synchronized)
    x = keras.layers.ReLU(name="relu")(norm(x))
    norm.trainable = not frozen
    x = keras.layers.Dense(8, activation="tanh", name="hidden")(keras.layers.Flatten()(x))
    for layer in layers:
        x = layer(x)
    return keras.Model(image, keras.layers.Dense(CLASSES, name="logits")(x))


def without_norm() -> Model:
    """Convolutions, embeddings aside every layer that DTensor is to divide or to keep whole."""
    keras.utils.set_random_seed(3)
    image = keras.Input((6, 6, 1), name="image")
    x = keras.layers.Conv2D(4, 3, name="conv", kernel_regularizer="l2")(image)
    x = keras.layers.MaxPooling2D(2, name="pool")(keras.layers.ReLU(name="relu")(x))
    x = keras.layers.Dense(8, activation="gelu", name="hidden")(keras.layers.Flatten()(x))
    x = keras.layers.Add(name="sum")([x, keras.layers.Dense(8, "tanh", name="beside")(x)])
    return keras.Model(image, keras.layers.Dense(CLASSES, name="logits")(x))


def words() -> Model:
    keras.utils.set_random_seed(3)
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(20, 5, name="table")(tokens)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, keras.layers.Dense(CLASSES, name="logits")(x))


def tags() -> Model:
    """A class for each token."""
    keras.utils.set_random_seed(3)
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(20, 5, mask_zero=True, name="table")(tokens)
    return keras.Model(tokens, keras.layers.Dense(CLASSES, name="logits")(x))


def of_keras3() -> Model:
    """A model that comes through a file of Keras 3."""
    keras3.utils.set_random_seed(3)
    model = keras3.Sequential(
        [
            keras3.Input((6, 6, 1)),
            keras3.layers.Conv2D(4, 3, activation="relu"),
            keras3.layers.Flatten(),
            keras3.layers.Dense(CLASSES),
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        return load_model(f"{folder}/model.keras")


def words_wide() -> Model:
    keras.utils.set_random_seed(3)
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(20, 8, name="table")(tokens)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, keras.layers.Dense(CLASSES, name="logits")(x))


def image_split() -> ArraySplit:
    draws = np.random.default_rng(0)
    labels = draws.integers(0, CLASSES, ROWS)
    images = draws.normal(size=(ROWS, 6, 6, 1)) + labels[:, None, None, None]
    weights = draws.uniform(0.5, 1.5, ROWS).astype(np.float32)
    return ArraySplit(images.astype(np.float32), labels.astype(np.int64), weights)


def token_split() -> ArraySplit:
    draws = np.random.default_rng(0)
    tokens = draws.integers(0, 20, (ROWS, 6)).astype(np.int32)
    return ArraySplit(tokens, (tokens.sum(axis=1) % CLASSES).astype(np.int64))


def tag_split() -> ArraySplit:
    """Padding at the end of each row, and labels that do not count, unequally spread."""
    draws = np.random.default_rng(0)
    tokens = draws.integers(1, 20, (ROWS, 6)).astype(np.int32)
    lengths = draws.integers(1, 7, ROWS)
    tokens[np.arange(6) >= lengths[:, None]] = 0
    labels = np.where(draws.random((ROWS, 6)) < 0.3, -1, tokens % CLASSES)
    return ArraySplit(tokens, labels.astype(np.int64))


@dataclass(frozen=True)
class Case:
    """What is trained, and how far the result may be from that of one process."""

    limit: float
    make: Callable[[], Model] = pictures
    split: Callable[[], ArraySplit] = image_split
    train: Any = None
    step: Any = None
    augment: Augment = Augment()
    rows: int = ROWS
    is_cached: bool = False


DIVIDED = {
    "divided cosine": Case(
        1e-6,
        make=without_norm,
        train={
            "optimizer": {"name": "sgd", "momentum": 0.9},
            "learning_rate": {"schedule": "cosine", "peak": 0.05},
        },
    ),
    "divided decay": Case(
        1e-5,
        make=without_norm,
        train={"optimizer": {"name": "adamw", "weight_decay": 0.01}, "learning_rate": 1e-2},
    ),
    "divided plateau": Case(
        1e-6,
        make=without_norm,
        train={
            "optimizer": "sgd",
            "epochs": 3,
            "gradient_clip": {"global_norm": 0.5},
            "learning_rate": {"schedule": "plateau", "peak": 0.5, "patience": 1},
        },
    ),
    "divided words": Case(1e-6, make=words_wide, split=token_split, train={"optimizer": "sgd"}),
}
CASES = {
    "sgd": Case(1e-6, train={"optimizer": {"name": "sgd", "momentum": 0.9}}),
    "adam": Case(1e-5, train={"optimizer": "adam", "learning_rate": 1e-2}),
    "adamw": Case(
        1e-5,
        train={"optimizer": {"name": "adamw", "weight_decay": 0.01}, "learning_rate": 1e-2},
    ),
    "ema": Case(1e-6, train={"optimizer": {"name": "sgd", "ema": 0.5}}),
    "global norm": Case(1e-6, train={"optimizer": "sgd", "gradient_clip": {"global_norm": 0.1}}),
    "plateau": Case(
        1e-6,
        train={
            "optimizer": "sgd",
            "epochs": 3,
            "learning_rate": {"schedule": "plateau", "peak": 0.5, "patience": 1},
        },
    ),
    "augmented": Case(
        1e-6, train={"optimizer": "sgd"}, augment=Augment(shift=0.2, rotate_degrees=20, noise=0.1)
    ),
    "sparse": Case(1e-6, make=words, split=token_split, train={"optimizer": "sgd"}),
    "positions": Case(1e-6, make=tags, split=tag_split, train={"optimizer": "sgd"}),
    "keras 3": Case(1e-6, make=of_keras3, train={"optimizer": "sgd"}),
    "frozen": Case(1e-6, train={"optimizer": "sgd", "transfer": {"freeze": "conv"}}),
    "lora": Case(
        1e-5, train={"optimizer": "adam", "learning_rate": 1e-2, "transfer": {"lora": {"rank": 2}}}
    ),
    "accumulated": Case(
        1e-5,
        train={
            "optimizer": "adam",
            "learning_rate": 1e-2,
            "gradient_clip": {"global_norm": 0.1},
            "accumulate": 2,
        },
    ),
    "synchronized": Case(
        1e-6,
        make=lambda: pictures(frozen=False, synchronized=True),
        train={"optimizer": "sgd", "learning_rate": 0.01},
        rows=40,  # no batch is filled up, as a filling counts in the statistics
    ),
    "prune": Case(1e-6, step={"prune": {"sparsity": 0.7, "epochs": 2, "optimizer": "sgd"}}),
    "taught": Case(
        1e-6, step={"prune": {"sparsity": 0.5, "epochs": 2, "optimizer": "sgd", "teacher": {}}}
    ),
    "cached": Case(
        1e-6,
        step={"prune": {"sparsity": 0.5, "epochs": 2, "optimizer": "sgd", "teacher": {}}},
        is_cached=True,
    ),
    "cluster": Case(1e-6, step={"cluster": {"clusters": 4, "epochs": 2, "optimizer": "sgd"}}),
    "quantize": Case(
        1e-6,
        step={
            "quantize": {
                "epochs": 2,
                "optimizer": "sgd",
                "learning_rate": 0.01,
                "calibration_examples": 40,
            }
        },
    ),
}
# Batch statistics are those of a replica's own rows; ranks agree all the same.
LOOSE = {
    "norm": Case(
        0.5, make=lambda: pictures(frozen=False), train={"optimizer": "sgd", "learning_rate": 0.01}
    ),
    "dropout": Case(
        0.5,
        make=lambda: pictures(keras.layers.Dropout(0.5)),
        train={"optimizer": "sgd", "learning_rate": 0.01},
    ),
}


def run(case: Case, strategy: Any) -> tuple[list[np.ndarray], list[np.ndarray], Any]:
    """Return the weights before and after, and the epoch logs."""
    plain, split = case.make(), case.split().take(case.rows)
    if case.step is None:
        settings: Any = Train(**{"epochs": 2, "learning_rate": RATE, **case.train})
        model = plain
    else:
        step = Step(**{name: {"learning_rate": RATE, **own} for name, own in case.step.items()})
        settings = step.settings
        context = step_context(split, settings, batch_size=BATCH, seed=1)
        model = make_pass(step).wrap(plain, context)
    before = model.get_weights()
    trained, bring_back = training_copy(model, strategy)
    job = FitJob(
        model=trained,
        train=split,
        validation=split.take(21),
        settings=settings,
        task=read_task(plain, split, classes=CLASSES),
        batch_size=BATCH,
        augment=case.augment,
        seed=5,
        callbacks=make_pass(step).callbacks() if case.step else (),
        strategy=strategy,
    )
    if case.step is not None and settings.teacher is not None:
        with strategy.scope():
            steps = context.total_steps
            make = beside_teacher(plain, settings.teacher, total_steps=steps, mask=None)
            teacher = make(trained)
        job = replace(job, model=teacher)
        if case.is_cached:
            with strategy.scope():
                job = replace(job, train=said_before(teacher, split, job))
    history = train(job)
    bring_back()
    if case.step is not None:
        make_pass(step).measure(plain, make_pass(step).unwrap(model), context)
    return before, model.get_weights(), history


def said_before(distiller: Any, split: ArraySplit, job: FitJob) -> Any:
    """Return rows with what the teacher said about them once."""
    distiller.compile(loss=job.task.keras_loss())
    distiller.look_at(split.sample_inputs(8, seed=0))
    folder = Path(tempfile.mkdtemp())
    return cached_rows(
        split,
        list(distiller.teachers),
        folder,
        dtype="float32",
        views=1,
        augment=job.augment,
        seed=job.seed,
    )


def train(job: FitJob) -> Any:
    """Train, and return the epoch logs."""
    silent: Any = Silent()
    transfer = getattr(job.settings, "transfer", None)
    if transfer is None:
        return fit(job, silent)
    with job.strategy.scope():
        return fit_transfer(job, transfer, silent).history


def furthest(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(first, second, strict=True))


def alone(names: list[str], reference: Path) -> None:
    """Write down what one process makes of each case, computing each batch at once."""
    found = {}
    for name in names:
        case = {**CASES, **LOOSE, **DIVIDED}[name]
        whole = {k: v for k, v in case.train.items() if k != "accumulate"} if case.train else None
        found[name] = run(replace(case, train=whole), Single())
    reference.write_bytes(pickle.dumps(found))


def main() -> None:
    settings = Settings(**json.loads(sys.argv[1]))
    target, reference, names = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:]
    strategy = open_strategy(settings, find_place(os.environ))
    tf.config.experimental.enable_op_determinism()
    if settings.kind == "single":
        alone(names, reference)
        return
    expected = pickle.loads(reference.read_bytes())
    found: dict[str, Any] = {}
    for name in names:
        case = {**CASES, **LOOSE, **DIVIDED}[name]
        _, weights, history = expected[name]
        before, together, logs = run(case, strategy)
        found[name] = {
            "limit": case.limit,
            "apart": furthest(weights, together),
            "moved": furthest(before, together),
            "logs": {key: (history[key], logs[key]) for key in history},
            "spread": dict(strategy.spread().evidence),
            "weights": [float(np.sum(w, dtype=np.float64)) for w in together],
        }
    ranks = strategy.gather(found)
    strategy.close()
    if strategy.rank == 0:
        target.write_text(json.dumps({"replicas": strategy.replicas, "ranks": ranks}))


if __name__ == "__main__":
    main()
