"""Checkpoints are whole, or named as damaged."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from tfopt.errors import StorageError
from tfopt.training.checkpoint import Checkpoint, CheckpointFile, Progress, read_checkpoint


def checkpoint(value: float = 1.5) -> Checkpoint:
    progress = Progress(epochs_done=2, history={"loss": [1.0, float("nan")]}, best_score=-np.inf)
    arrays = [np.full((3, 2), value, np.float32), np.array(7)]
    return Checkpoint(progress=progress, weights=arrays, optimizer=arrays[:1], best=[])


def require_equal(stored: Checkpoint | None) -> None:
    """Raise unless a checkpoint holds what was written."""
    assert stored is not None
    expected = checkpoint()
    assert str(stored.progress) == str(expected.progress)
    for name in ("weights", "optimizer", "best"):
        pairs = zip(getattr(stored, name), getattr(expected, name), strict=True)
        assert all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def reading(path: Path) -> str:
    """Return the error of reading a file, or nothing if it reads as it was written."""
    try:
        require_equal(read_checkpoint(path))
    except StorageError as error:
        return str(error)
    return ""


def written(path: Path) -> Path:
    file = CheckpointFile(path)
    file.write(checkpoint())
    file.close()
    return path


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    require_equal(read_checkpoint(written(tmp_path / "c.npz")))


def test_the_last_of_many_is_kept(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "c.npz")
    for value in range(5):
        file.write(checkpoint(value))
    file.close()
    stored = read_checkpoint(tmp_path / "c.npz")
    assert stored is not None
    assert stored.weights[0][0, 0] == 4
    assert list(tmp_path.iterdir()) == [tmp_path / "c.npz"]


def test_no_file_is_no_checkpoint(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "none.npz") is None


def test_an_error_in_the_background_comes_with_the_next_call(tmp_path: Path) -> None:
    for call in ("write", "close"):
        file = CheckpointFile(tmp_path / "missing" / "c.npz")
        file.write(checkpoint())
        with pytest.raises(StorageError, match=r"c.npz cannot be written: No such file"):
            file.write(checkpoint()) if call == "write" else file.close()


def test_damage_is_always_one_clear_error(tmp_path: Path) -> None:
    whole = written(tmp_path / "c.npz").read_bytes()
    path = tmp_path / "damaged.npz"
    draws = random.Random(3)
    errors = []
    for _ in range(400):
        damaged = bytearray(whole)
        if draws.random() < 0.3:
            damaged = damaged[: draws.randrange(len(whole))]
        else:
            damaged[draws.randrange(len(whole))] ^= draws.randrange(1, 256)
        path.write_bytes(damaged)
        errors.append(reading(path))
    found = [error for error in errors if error]
    # The rest reads as it was: a flipped bit in the time stamp of the archive harms nothing.
    assert len(found) > 200
    assert all("is damaged" in error and "Delete it to train" in error for error in found)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\x03\x04", b"hello"])
def test_files_of_another_kind(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="is damaged"):
        read_checkpoint(path)


def test_an_array_file_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(StorageError, match="is damaged"):
        read_checkpoint(path)
