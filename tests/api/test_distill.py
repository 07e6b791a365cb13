"""``tfopt.distill`` in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras as keras3
import numpy as np
import pytest

import tfopt
from tfopt.distillation import FeatureLoss, SoftTargets
from tfopt.errors import DataError, InputError, VerificationError
from tfopt.keras2.core import Model, keras

L = keras.layers


@pytest.fixture(scope="module")
def rows(digits: Any) -> tuple[np.ndarray, np.ndarray]:
    images, labels = digits
    return images[:400], labels[:400]


@pytest.fixture(scope="module")
def teacher(shelf: Path) -> Model:
    return tfopt.load(shelf / "model.keras")


def student(library: Any = keras) -> Any:
    library.utils.set_random_seed(2)
    layers = library.layers
    return library.Sequential(
        [
            library.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(16, activation="relu", name="narrow"),
            layers.Dense(10, name="logits"),
        ]
    )


def agreement(one: Any, other: Any, images: np.ndarray) -> float:
    choices = [np.asarray(model(images)).argmax(-1) for model in (one, other)]
    return float(np.mean(choices[0] == choices[1]))


def test_a_student_comes_back_taught_and_the_given_one_is_as_it_was(
    teacher: Model, rows: Any, tmp_path: Path
) -> None:
    given = student()
    before = given.get_weights()
    options: dict[str, Any] = {"epochs": 4, "learning_rate": 0.02, "batch_size": 16}
    taught = tfopt.distill(given, teacher, rows, **options, cache="float32", folder=tmp_path)
    assert agreement(taught, teacher, rows[0]) > 0.5
    assert list(tmp_path.rglob("*.shard"))
    for one, two in zip(before, given.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert taught.optimizer is None


def test_a_keras_3_student_comes_back_in_keras_3(teacher: Model, rows: Any) -> None:
    taught = tfopt.distill(
        student(keras3), teacher, rows, epochs=8, learning_rate=0.02, batch_size=32
    )
    assert isinstance(taught, keras3.Model)
    assert agreement(taught, teacher, rows[0]) > 0.5


def test_losses_of_ones_own_and_a_function_as_teacher(teacher: Model, rows: Any) -> None:
    losses = [SoftTargets(2.0), FeatureLoss("narrow", "hidden", projection=True)]
    options: dict[str, Any] = {"epochs": 8, "learning_rate": 0.02, "batch_size": 32}
    assert tfopt.distill(student(), teacher, rows, losses=losses, **options).count_params() == 1210
    taught = tfopt.distill(student(), lambda x: teacher(x, training=False), rows, **options)
    assert agreement(taught, teacher, rows[0]) > 0.5


def test_what_is_refused(teacher: Model, rows: Any) -> None:
    with pytest.raises(DataError, match="The training data has no labels"):
        tfopt.distill(student(), teacher, rows[0])
    with pytest.raises(InputError, match="epochs: must be greater than or equal to 1"):
        tfopt.distill(student(), teacher, rows, epochs=0)
    with pytest.raises(InputError, match="alpha: must be from 0 to 1. Received: 2"):
        tfopt.distill(student(), teacher, rows, alpha=2)
    with pytest.raises(VerificationError, match="chance alone would give"):
        tfopt.distill(student(), teacher, rows, epochs=1, learning_rate=1e-9)
