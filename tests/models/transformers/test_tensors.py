"""Weights come from safetensors and PyTorch files, whole or in shards, and become float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from tfopt.errors import ModelError
from tfopt.models.transformers.tensors import open_tensors


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_floats_become_float32(tmp_path: Path, dtype: Any) -> None:
    values = np.array([[1.5, -2.0, 0.25]])
    save_file({"w": values.astype(dtype)}, tmp_path / "model.safetensors")
    entry = open_tensors(tmp_path)["w"]
    assert entry.shape == (1, 3)
    assert entry.read().dtype == np.float32
    np.testing.assert_array_equal(entry.read(), values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.arange(3), "'w' is of type I64. Weights of float16, bfloat16"),
        (np.array([1.0, np.nan]), "'w' holds numbers that are not finite"),
        (np.array([1e300]), "'w' holds numbers that are not finite"),
    ],
)
def test_other_numbers_are_refused(tmp_path: Path, values: Any, message: str) -> None:
    save_file({"w": values}, tmp_path / "model.safetensors")
    entry = open_tensors(tmp_path)["w"]
    with np.errstate(over="ignore"), pytest.raises(ModelError, match=message):
        entry.read()


def _shards(folder: Path, places: dict[str, str]) -> None:
    save_file({"a": np.ones(2, np.float32)}, folder / "model-1.safetensors")
    save_file({"b": np.zeros(3, np.float32)}, folder / "model-2.safetensors")
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_shards(tmp_path: Path) -> None:
    _shards(tmp_path, {"a": "model-1.safetensors", "b": "model-2.safetensors"})
    found = open_tensors(tmp_path)
    assert {name: entry.shape for name, entry in found.items()} == {"a": (2,), "b": (3,)}
    np.testing.assert_array_equal(found["b"].read(), np.zeros(3))


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"a": "model-1.safetensors", "b": "model-3.safetensors"}, "'model-3.safetensors', which"),
        ({"b": "model-1.safetensors"}, "lacks 'b', which model.safetensors.index.json"),
        ({"a": "../model-1.safetensors"}, "is not a file beside it"),
    ],
)
def test_shards_that_do_not_fit_their_index(
    tmp_path: Path, places: dict[str, str], message: str
) -> None:
    _shards(tmp_path, places)
    with pytest.raises(ModelError, match=message):
        open_tensors(tmp_path)


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    _shards(tmp_path, {"a": "model-1.safetensors", "b": "model-2.safetensors"})
    both = {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)}
    save_file(both, tmp_path / "model-2.safetensors")
    with pytest.raises(ModelError, match="holds 'a', which another file holds too"):
        open_tensors(tmp_path)


def test_no_weights_and_broken_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no weights. Looked for: model\.safetensors, pytorch"):
        open_tensors(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(ModelError, match="not a safetensors file"):
        open_tensors(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(ModelError, match="not an index of weights"):
        open_tensors(tmp_path)
