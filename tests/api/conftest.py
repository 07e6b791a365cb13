"""A small trained model and the digits it knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tfopt
from tfopt.keras2.core import Model

Rows = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def model(shelf: Path) -> Model:
    return tfopt.load(shelf / "model.keras")


@pytest.fixture(scope="module")
def train(shelf: Path) -> Rows:
    found = np.load(shelf / "rows.npz")
    return found["x_train"], found["y_train"]


@pytest.fixture(scope="module")
def test(shelf: Path) -> Rows:
    found = np.load(shelf / "rows.npz")
    return found["x_test"], found["y_test"]
