"""Tiny recipes of distillation on the 8 x 8 digits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tfopt.config.load import parse_recipe
from tfopt.config.schema import Recipe
from tfopt.keras2.core import keras

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
def make_recipe() -> Callable[..., Recipe]:
    return recipe_of


@pytest.fixture(autouse=True)
def _builders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "builders_of_students.py").write_text(BUILDERS)
    yield
    keras.backend.clear_session()
