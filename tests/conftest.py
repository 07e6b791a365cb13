"""What many tests share: the command in this process, and a small trained model with files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def tfopt(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run the command line in this process."""
    from tfopt.cli.main import main

    def run(*words: Any) -> Outcome:
        capfd.readouterr()
        code = main([str(word) for word in words])
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """All 1,797 digits of scikit-learn: float32 images of 8 x 8 x 1 in [0, 1], int64 labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return (found.images / 16).astype(np.float32)[..., None], found.target.astype(np.int64)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory, digits: Any) -> Path:
    """A folder with model.keras (trained), rows.npz that fit it, and other.keras that does not."""
    from tfopt.keras2.core import keras

    folder = tmp_path_factory.mktemp("shelf")
    images, labels = digits
    np.savez(
        folder / "rows.npz",
        x_train=images[:300],
        y_train=labels[:300],
        x_test=images[1600:],
        y_test=labels[1600:],
    )
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            keras.layers.Conv2D(8, 3, activation="relu", name="conv"),
            keras.layers.Flatten(name="flat"),
            keras.layers.Dense(32, activation="relu", name="hidden"),
            keras.layers.Dense(10, activation="softmax", name="probabilities"),
        ],
        name="small",
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images[:1500], labels[:1500], epochs=4, verbose=0)
    model.save(folder / "model.keras")
    other = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    keras.Sequential(other, name="other").save(folder / "other.keras")
    return folder
