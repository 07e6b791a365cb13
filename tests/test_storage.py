"""Files are written whole or not at all, whatever fails."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tfopt import storage
from tfopt.errors import StorageError


def fail_with(number: int) -> Any:
    def failing(*_: Any) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return failing


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a folder on a file system of 64 kB."""
    folder = tmp_path / "full"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_file_is_replaced_and_gets_the_usual_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    storage.write_whole(path, b"new")
    (tmp_path / "usual").touch()
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.txt", "usual"}


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    monkeypatch.setattr(storage.os, call, fail_with(errno.ENOSPC))
    with pytest.raises(StorageError) as caught:
        storage.write_whole(path, b"new")
    assert str(caught.value) == f"{path} cannot be written: No space left on device."
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_really_full(full_disk: Path) -> None:
    storage.write_whole(full_disk / "small", b"x")
    with pytest.raises(StorageError, match=r"big cannot be written: No space left on device\.$"):
        storage.write_whole(full_disk / "big", b"x" * 200_000)
    assert [entry.name for entry in full_disk.iterdir()] == ["small"]


@pytest.mark.parametrize(
    ("place", "reason"), [("missing/a", "No such file"), ("file/a", "Not a directory")]
)
def test_a_folder_that_is_none(place: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=reason):
        storage.write_whole(tmp_path / place, b"x")


def test_another_error_in_the_block_passes_and_leaves_nothing(tmp_path: Path) -> None:
    def write_half() -> None:
        with storage.whole_file(tmp_path / "model.keras") as partial:
            assert partial.suffix == ".keras"
            partial.write_bytes(b"half")
            raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        write_half()
    assert not list(tmp_path.iterdir())


def test_threads_that_write_leave_the_umask_alone(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        threads = [
            threading.Thread(
                target=lambda n=n: [
                    storage.write_whole(tmp_path / f"{n}-{i}", b"x") for i in range(20)
                ]
            )
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {entry.stat().st_mode & 0o777 for entry in tmp_path.iterdir()} == {0o640}
        assert len(list(tmp_path.iterdir())) == 80
    finally:
        assert os.umask(before) == 0o027


def test_only_own_partial_files_are_removed(tmp_path: Path) -> None:
    kept = [tmp_path / ".hidden", tmp_path / "a.partial", tmp_path / "deep" / "model.keras"]
    left = [tmp_path / ".a.0f0f.partial", tmp_path / "deep" / ".model.0f0f.partial.keras"]
    (tmp_path / "deep").mkdir()
    for path in (*kept, *left):
        path.touch()
    storage.remove_partial_files(tmp_path)
    assert [path for path in (*kept, *left) if path.exists()] == kept


def test_a_killed_write_is_known_as_partial(tmp_path: Path) -> None:
    with storage.whole_file(tmp_path / "manifest.json") as partial:
        partial.touch()
        assert storage.is_partial(partial)
    assert not storage.is_partial(tmp_path / "manifest.json")


def test_targets_that_cannot_be_written_are_refused_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    there.touch()
    storage.check_target(there, overwrite=True)
    storage.check_target(tmp_path / "free")
    with pytest.raises(StorageError, match="exists already"):
        storage.check_target(there)
    with pytest.raises(StorageError, match="is a folder; give the name of a file"):
        storage.check_target(tmp_path)
    with pytest.raises(StorageError, match="there is no folder"):
        storage.check_target(tmp_path / "none" / "a")
    with pytest.raises(StorageError, match="File name too long"):
        storage.check_target(tmp_path / ("a" * 300))
    monkeypatch.setattr(storage.os, "access", lambda *_: False)
    with pytest.raises(StorageError, match="is read-only"):
        storage.check_target(tmp_path / "free")


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"The folder .*file/a cannot be made: Not a directory"):
        storage.make_folder(tmp_path / "file" / "a")
    storage.remove_folder(tmp_path / "none")
    storage.make_folder(tmp_path / "a" / "b")
    storage.remove_folder(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    storage.make_folder(tmp_path / "a")
    monkeypatch.setattr(storage.shutil, "rmtree", fail_with(errno.EROFS))
    with pytest.raises(StorageError, match="cannot be removed: Read-only file system"):
        storage.remove_folder(tmp_path / "a")


def test_gzip_size_does_not_depend_on_name_or_time(tmp_path: Path) -> None:
    sizes = []
    for name in ("a", "a-much-longer-name"):
        (tmp_path / name).write_bytes(b"0" * 10_000)
        sizes.append(storage.gzip_bytes(tmp_path / name))
    assert sizes[0] == sizes[1] < 100
    with pytest.raises(StorageError, match="none cannot be read: No such file"):
        storage.gzip_bytes(tmp_path / "none")
