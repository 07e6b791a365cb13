"""Small students, teachers, rows and recipes for the distillation tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfopt.config.load import parse_recipe
from tfopt.config.schema import Recipe
from tfopt.keras2.core import Model, keras

L = keras.layers


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session()


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    """24 rows of 6 numbers, and their classes of 4."""
    random = np.random.default_rng(0)
    return random.normal(size=(24, 6)).astype(np.float32), random.integers(0, 4, 24)


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(16, 8, 8, 2)).astype(np.float32), random.integers(0, 4, 16)


@pytest.fixture
def dense() -> Callable[..., Model]:
    """Make a model of rows: ``dense(width, units=4, activation=None)``."""

    def make(width: int, units: int = 4, activation: Any = None, **settings: Any) -> Model:
        inputs = keras.Input((6,), name="row")
        hidden = L.Dense(width, activation="relu", name="hidden", **settings)(inputs)
        return keras.Model(inputs, L.Dense(units, activation=activation, name="out")(hidden))

    return make


@pytest.fixture
def convolution() -> Callable[..., Model]:
    """Make a model of images with batch normalization: ``convolution(channels)``."""

    def make(channels: int, **settings: Any) -> Model:
        inputs = keras.Input((8, 8, 2))
        x = L.Conv2D(channels, 3, padding="same", name="conv", **settings)(inputs)
        x = L.BatchNormalization(name="bn", momentum=0.5)(x)
        x = L.ReLU(name="relu")(x)
        x = L.GlobalAveragePooling2D(name="pool")(x)
        return keras.Model(inputs, L.Dense(4, name="out")(x))

    return make


@pytest.fixture
def logits_loss() -> Any:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


BUILDERS = """
import tf_keras as keras

L = keras.layers


def small(input_shape, classes, width=12, ending="linear"):
    image = keras.Input(input_shape, name="image")
    x = L.Flatten(name="flatten")(image)
    x = L.Dense(width, activation="relu", name="dense1")(x)
    x = L.Dense(100, activation="relu", name="dense2")(x)
    return keras.Model(image, L.Dense(classes, activation=ending, name="output")(x), name="small")


def of_units(input_shape, units):
    image = keras.Input(input_shape)
    return keras.Model(image, L.Dense(units, name="odd")(L.Flatten()(image)))
"""


def recipe_of(distill: Any = None, **changed: Any) -> Recipe:
    """Return a recipe in which ``lenet300`` teaches a smaller model, ``small``."""
    student = {"builder": "builders_of_students:small"}
    settings = {"student": student, "epochs": 2, "learning_rate": 0.01}
    raw = {
        "name": "taught",
        "data": {"source": "digits", "limit": 256, "batch_size": 16},
        "model": {"builder": "lenet300"},
        "train": {"epochs": 2, "learning_rate": 0.003},
        "steps": [{"distill": {**settings, **(distill or {})}}],
        **changed,
    }
    return parse_recipe(raw, origin="test")


@pytest.fixture
def make_recipe(student_builders: None) -> Callable[..., Recipe]:
    return recipe_of


@pytest.fixture
def student_builders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder with a module of student builders."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "builders_of_students.py").write_text(BUILDERS)
