"""``tfopt.load`` and ``tfopt.save``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tfopt
from tfopt.errors import ModelError, StorageError
from tfopt.keras2.core import Model

Rows = tuple[np.ndarray, np.ndarray]


def test_a_model_in_the_middle_is_saved_whole(model: Model, train: Rows, tmp_path: Path) -> None:
    ready = tfopt.quantize(model, train, epochs=0)
    tfopt.save(ready, tmp_path / "q.keras")
    again = tfopt.load(tmp_path / "q.keras")
    assert np.array_equal(again.predict(train[0], verbose=0), ready.predict(train[0], verbose=0))


def test_files_that_cannot_be(model: Model) -> None:
    with pytest.raises(ModelError, match="no model 'nosuch"):
        tfopt.load("nosuch.keras")
    with pytest.raises(StorageError, match=r"\.keras or \.h5"):
        tfopt.save(model, "m.pb")
