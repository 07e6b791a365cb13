from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tfopt.errors import BackendMissing, DataError, ExportError, InputError
from tfopt.runtimes.onnx import open_onnx


class FakeSession:
    """The part of ``onnxruntime.InferenceSession`` that is used: doubles its first input."""

    def __init__(self, path: str, providers: list[str]) -> None:
        if Path(path).read_bytes() != b"model":
            raise RuntimeError("protobuf parsing failed")

    def get_inputs(self) -> list[Any]:
        return [
            SimpleNamespace(name="a", shape=["batch", 2], type="tensor(float)"),
            SimpleNamespace(name="b", shape=[None, 1], type="tensor(int64)"),
        ]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="y", shape=["batch", 2], type="tensor(float)")]

    def run(self, names: Any, feed: dict[str, Any]) -> list[Any]:
        if feed["b"].max() > 5:
            raise RuntimeError("index out of range")
        return [feed["a"] * 2]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=FakeSession))
    path = tmp_path / "model.onnx"
    path.write_bytes(b"model")
    return path


def test_rows_in_rows_out(file: Path) -> None:
    model = open_onnx(file)
    a, b = np.ones((3, 2)), np.zeros((3, 1), np.int32)
    np.testing.assert_array_equal(model.predict([a, b]), np.full((3, 2), 2))
    found = model.predict({"b": b, "a": a})
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    assert [info.shape for info in model.inputs] == [(None, 2), (None, 1)]


def test_what_does_not_fit(file: Path) -> None:
    model = open_onnx(file)
    a, b = np.ones((3, 2)), np.zeros((3, 1), np.int32)
    for inputs, message in (
        ([a], "takes 2 inputs. Received: 1"),
        ({"a": a, "c": b}, r"takes \['a', 'b'\]"),
        ([a[:, :1], b], "'a' must be float32 of shape"),
    ):
        with pytest.raises(DataError, match=message):
            model.predict(inputs)
    with pytest.raises(ExportError, match="index out of range"):
        model.predict([a, b + 9])


def test_files_that_cannot_be_opened(file: Path) -> None:
    file.write_bytes(b"no model")
    with pytest.raises(InputError, match="no ONNX model that can be loaded: protobuf"):
        open_onnx(file)
    with pytest.raises(InputError, match="There is no ONNX file"):
        open_onnx(file.with_name("gone.onnx"))


def test_the_runtime_is_missing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendMissing, match="pip install onnxruntime"):
        open_onnx(file)
