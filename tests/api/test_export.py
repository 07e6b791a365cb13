"""``tfopt.export_litert``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfopt
from tfopt.errors import DataError, GateMissed, InputError, RecipeError, StorageError
from tfopt.keras2.core import Model

Rows = tuple[np.ndarray, np.ndarray]


def test_evaluation_may_lack_classes(model: Model, test: Rows, tmp_path: Path) -> None:
    images, labels = test
    artifact = tfopt.export_litert(
        model,
        tmp_path / "m.tflite",
        precision="float32",
        evaluation=(images[labels < 8], labels[labels < 8]),
        max_drop=0.0,
    )
    assert artifact.drop == 0.0
    assert artifact.metric is not None
    assert 0.7 < artifact.metric <= 1.0


def test_a_missed_gate_keeps_the_file(
    model: Model, train: Rows, test: Rows, tmp_path: Path
) -> None:
    file = tmp_path / "m.tflite"
    with pytest.raises(
        GateMissed, match=r"is worse by .*; the gate allows -0.5000. The file is kept."
    ):
        tfopt.export_litert(model, file, calibration=train[0], evaluation=test, max_drop=-0.5)
    assert file.stat().st_size > 0


EXPORTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "precision": (
        {"precision": "int4"},
        RecipeError,
        "tfopt.export_litert: 1 problem.*\n.*precision",
    ),
    "no calibration": ({}, DataError, "needs calibration rows"),
    "gate without rows": ({"max_drop": 0.1}, InputError, r"max_drop needs evaluation=\(x, y\)"),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_that_cannot_be(name: str, model: Model, tmp_path: Path) -> None:
    given, kind, message = EXPORTS[name]
    with pytest.raises(kind, match=message):
        tfopt.export_litert(model, tmp_path / "m.tflite", **given)
    assert list(tmp_path.iterdir()) == []


def test_exports_whose_rows_cannot_be(
    model: Model, train: Rows, test: Rows, tmp_path: Path
) -> None:
    file = tmp_path / "m.tflite"
    with pytest.raises(DataError, match="max_drop needs a metric: evaluation"):
        tfopt.export_litert(model, file, calibration=train[0], evaluation=test[0], max_drop=0.1)
    with pytest.raises(DataError, match="The likely cause is a wrong scale"):
        tfopt.export_litert(model, file, calibration=train[0] * 255, evaluation=test)
    assert list(tmp_path.iterdir()) == []
    file.touch()
    with pytest.raises(StorageError, match="exists already"):
        tfopt.export_litert(model, file, precision="float32")
