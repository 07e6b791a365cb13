from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfopt.distributed.elastic.commits import Commit, CommitFile
from tfopt.errors import InputError, StorageError

COMMIT = Commit(20, 1280, [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7, np.int64)])


def written(folder: Path) -> CommitFile:
    file = CommitFile(folder / "last.npz", seed=3, examples=100)
    file.write(COMMIT)
    return file


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = written(tmp_path).read(2)
    assert found is not None
    assert (found.step, found.position) == (20, 1280)
    for value, expected in zip(found.values, COMMIT.values, strict=True):
        assert value.dtype == expected.dtype
        assert np.array_equal(value, expected)
    assert [file.name for file in tmp_path.iterdir()] == ["last.npz"]


def test_no_file_is_no_commit(tmp_path: Path) -> None:
    assert CommitFile(tmp_path / "last.npz", seed=3, examples=100).read(2) is None


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = written(tmp_path)
    file.path.write_bytes(file.path.read_bytes()[:100])
    with pytest.raises(StorageError, match="last.npz cannot be read"):
        file.read(2)


def test_the_file_of_another_run_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path)
    with pytest.raises(InputError, match=r"belongs to another run.*2 values. This one.*3 values"):
        file.read(3)
    with pytest.raises(InputError, match="'seed': 3.*This one has {'seed': 4"):
        CommitFile(file.path, seed=4, examples=100).read(2)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    file = CommitFile(tmp_path / "no such folder" / "last.npz", seed=3, examples=100)
    with pytest.raises(StorageError, match="cannot be written"):
        file.write(COMMIT)
