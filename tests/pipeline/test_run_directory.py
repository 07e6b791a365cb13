"""The run folder: what is done in it, and what is refused."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tfopt import storage
from tfopt.errors import StorageError
from tfopt.pipeline.run_directory import (
    MANIFEST,
    RunDir,
    file_sha256,
    fresh_folder,
    latest_folder,
    open_run_dir,
)


def finished_stage(root: Path) -> RunDir:
    directory = open_run_dir(root, resume=False)
    folder = directory.start("prune", "01-prune", "key")
    (folder / "model").write_bytes(b"weights")
    directory.finish("prune", "01-prune", "key", ["model"])
    return directory


def test_a_finished_stage_is_known_after_a_restart(tmp_path: Path) -> None:
    finished_stage(tmp_path / "run")
    again = open_run_dir(tmp_path / "run", resume=True)
    assert again.is_done("prune", "01-prune", "key")
    assert not again.is_done("prune", "01-prune", "another key")
    assert not again.is_done("prune", "02-prune", "key")
    assert not again.is_done("cluster", "01-prune", "key")


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_stage_with_damaged_files_is_not_done(damage: str, tmp_path: Path) -> None:
    directory = finished_stage(tmp_path)
    model = tmp_path / "01-prune" / "model"
    if damage == "changed":
        model.write_bytes(b"weightz")
    else:
        model.unlink()
    assert not directory.is_done("prune", "01-prune", "key")
    directory.start("prune", "01-prune", "key")
    assert not model.exists()


def test_a_stage_begun_before_keeps_its_files_and_another_input_does_not(tmp_path: Path) -> None:
    directory = open_run_dir(tmp_path, resume=False)
    checkpoint = directory.start("train", "00-train", "key") / "checkpoint"
    checkpoint.touch()
    again = open_run_dir(tmp_path, resume=True)
    assert again.was_started("train", "00-train", "key")
    again.start("train", "00-train", "key")
    assert checkpoint.exists()
    again.start("train", "00-train", "changed")
    assert not checkpoint.exists()


def test_stages_that_share_a_folder_keep_each_others_files(tmp_path: Path) -> None:
    directory = open_run_dir(tmp_path, resume=False)
    for name in ("int8", "float16"):
        folder = directory.start(name, "export", name, keep_files=True)
        (folder / name).touch()
        directory.finish(name, "export", name, [name])
    assert directory.is_done("int8", "export", "int8")
    assert directory.is_done("float16", "export", "float16")


def test_the_manifest_is_the_first_file(tmp_path: Path) -> None:
    open_run_dir(tmp_path / "run", resume=False)
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == [MANIFEST]
    assert open_run_dir(tmp_path / "run", resume=True).root == tmp_path / "run"


def test_a_run_killed_before_its_first_file_was_whole_can_be_resumed(tmp_path: Path) -> None:
    (tmp_path / ".manifest.00ff.partial.json").write_text("{")
    open_run_dir(tmp_path, resume=True)
    assert [entry.name for entry in tmp_path.iterdir()] == [MANIFEST]


def test_resuming_what_does_not_exist_begins_it(tmp_path: Path) -> None:
    assert not open_run_dir(tmp_path / "new", resume=True).is_done("train", "00-train", "key")


def test_folders_of_other_things_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(StorageError, match=r"exists and is not empty\. Add --resume"):
        open_run_dir(tmp_path, resume=False)
    with pytest.raises(StorageError, match=r"holds no run \(manifest.json is missing\)"):
        open_run_dir(tmp_path, resume=True)
    with pytest.raises(StorageError, match=r"thesis.txt is a file; give the name of a folder"):
        open_run_dir(tmp_path / "thesis.txt", resume=True)
    with pytest.raises(StorageError, match="thesis.txt is a file"):
        open_run_dir(tmp_path / "thesis.txt" / "run", resume=False)
    with pytest.raises(StorageError, match="cannot be used: File name too long"):
        open_run_dir(tmp_path / ("a" * 300), resume=False)
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    with pytest.raises(StorageError, match="dangling is a file"):
        open_run_dir(tmp_path / "dangling", resume=False)
    assert {entry.name for entry in tmp_path.iterdir()} == {"thesis.txt", "dangling"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "\x00\xff",
        '{"schema": 2, "stages": []}',
        '{"schema": 1, "stages": [{"name": "a"}]}',
        '{"schema": 1, "stages": [{"name": "a", "folder": "b", "input_sha256": "c", "state": 1}]}',
        '{"schema": 1, "stages": [{"name": "a", "folder": "b", "input_sha256": "c", '
        '"state": "done", "files": []}]}',
    ],
)
def test_a_damaged_manifest_is_one_clear_error(text: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(
        StorageError, match=r"manifest.json is damaged \(.*another --output"
    ) as caught:
        open_run_dir(tmp_path, resume=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("resume", [False, True])
def test_a_read_only_folder(resume: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StorageError, match="is read-only"):
        open_run_dir(tmp_path, resume=resume)


def test_a_full_disk_leaves_the_manifest_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = finished_stage(tmp_path)
    before = (tmp_path / MANIFEST).read_bytes()

    def full(*_: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(StorageError, match=r"manifest.json cannot be written: No space left"):
        directory.start("cluster", "02-cluster", "key")
    assert (tmp_path / MANIFEST).read_bytes() == before
    assert json.loads(before)["stages"][0]["state"] == "done"


def test_fresh_and_latest_folders(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no run to resume in .*/lenet"):
        latest_folder(tmp_path, "lenet")
    for number, name in enumerate(("lenet", "lenet-2", "lenet-3")):
        made = fresh_folder(tmp_path, "lenet")
        assert made == tmp_path / name
        open_run_dir(made, resume=False)
        os.utime(made / MANIFEST, (number, number))
    (tmp_path / "lenet-4").mkdir()
    open_run_dir(tmp_path / "lenet-large", resume=False)
    assert latest_folder(tmp_path, "lenet") == tmp_path / "lenet-3"
    os.utime(tmp_path / "lenet" / MANIFEST, (10, 10))
    assert latest_folder(tmp_path, "lenet") == tmp_path / "lenet"


def test_the_hash_of_a_folder_covers_names_and_contents(tmp_path: Path) -> None:
    for name, content in (("one", b"x"), ("two", b"x"), ("three", b"y")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(content)
    one, two, three = (file_sha256(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two != three
    (tmp_path / "one" / "file").rename(tmp_path / "one" / "renamed")
    assert file_sha256(tmp_path / "one") != one
    with pytest.raises(StorageError, match="none cannot be read: No such file"):
        file_sha256(tmp_path / "none")
