"""Tiny models, data and jobs for the training tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.config.schema import Augment, Train
from tfopt.data.arrays import ArraySplit
from tfopt.keras2.core import Model, keras
from tfopt.training.job import FitJob
from tfopt.training.task import read_task

CLASSES = 3
ROWS = 24


class Listener:
    """A reporter that remembers; every event but these is ignored."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.warnings: list[str] = []
        self.epochs: list[Mapping[str, float]] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def epoch_done(self, epoch: int, logs: Mapping[str, float]) -> None:
        self.epochs.append(dict(logs))

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def toy_split(rows: int = ROWS, *, seed: int = 0) -> ArraySplit:
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, CLASSES, rows)
    images = draws.normal(size=(rows, 6, 6, 1)) + labels[:, None, None, None]
    return ArraySplit(images.astype(np.float32), labels.astype(np.int64))


def toy_model(*layers: Any, seed: int = 3) -> Model:
    """Return a small model with fixed weights, with extra layers before the last."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((6, 6, 1), name="image")
    x = keras.layers.Dense(8, name="hidden")(keras.layers.Flatten(name="flat")(image))
    x = keras.layers.ReLU(name="relu")(keras.layers.BatchNormalization(name="norm")(x))
    for layer in layers:
        x = layer(x)
    return keras.Model(image, keras.layers.Dense(CLASSES, name="logits")(x))


def toy_job(model: Model | None = None, **changes: Any) -> FitJob:
    """Return a job of three steps an epoch; ``judged`` adds validation rows."""
    model = toy_model() if model is None else model
    settings = Train(**{"epochs": 2, "learning_rate": 1e-2, **changes.pop("train", {})})
    split = changes.pop("split", None) or toy_split()
    if changes.pop("judged", False):
        changes["validation"] = toy_split(seed=1)
    job = FitJob(
        model=model,
        train=split,
        validation=None,
        settings=settings,
        task=read_task(model, split, classes=CLASSES, train=settings),
        batch_size=8,
        augment=Augment(),
        seed=4,
    )
    return replace(job, **changes)


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def make_model() -> Callable[..., Model]:
    return toy_model


@pytest.fixture
def make_job() -> Callable[..., FitJob]:
    return toy_job


@pytest.fixture
def make_split() -> Callable[..., ArraySplit]:
    return toy_split


@pytest.fixture(autouse=True, scope="session")
def _deterministic_ops() -> None:
    tf.config.experimental.enable_op_determinism()
