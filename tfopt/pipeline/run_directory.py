"""A run's folder: its paths, its manifest, and what is already done in it.

Every file is written under a temporary name and renamed, and a stage counts as done only
once the manifest says so, so a kill at any instant leaves a folder that can be resumed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tfopt.errors import StorageError
from tfopt.pipeline.lock import LOCK, held_alone, require_free
from tfopt.results import to_json
from tfopt.storage import (
    is_partial,
    make_folder,
    named_errors,
    remove_folder,
    remove_partial_files,
    write_whole,
)

MANIFEST = "manifest.json"
_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class StageRecord:
    """One stage in the manifest.

    Attributes:
        name: Stage name, such as ``prune`` or ``export-litert-int8``.
        folder: Its folder, relative to the run's.
        input_sha256: Hash of everything the stage depends on.
        state: ``running`` or ``done``.
        files: Result files, relative to the stage's folder, to their SHA-256.
    """

    name: str
    folder: str
    input_sha256: str
    state: str
    files: Mapping[str, str] = field(default_factory=dict)


class RunDir:
    """The folder of one run.

    Attributes:
        root: Its path.
        is_locked: Whether no other process can open it meanwhile.
    """

    def __init__(self, root: Path, stages: list[StageRecord]) -> None:
        self.root = root
        self.is_locked = False
        self._stages = stages

    @property
    def results(self) -> Path:
        """Return the path of ``results.json``."""
        return self.root / "results.json"

    @property
    def report(self) -> Path:
        """Return the path of ``report.html``."""
        return self.root / "report.html"

    def folder(self, name: str) -> Path:
        """Return a folder inside the run's, made if missing.

        Raises:
            StorageError: If it cannot be made.
        """
        path = self.root / name
        make_folder(path)
        return path

    def write(self, name: str, text: str) -> Path:
        """Write a text file inside the run's folder, whole or not at all.

        Raises:
            StorageError: If it cannot be written.
        """
        path = self.root / name
        write_whole(path, text.encode("utf-8"))
        return path

    def is_done(self, name: str, folder: str, input_sha256: str) -> bool:
        """Return whether a stage is finished, from the same input, and its files whole.

        Raises:
            StorageError: If a file cannot be read.
        """
        for record in self._stages:
            if (record.name, record.folder, record.state) != (name, folder, "done"):
                continue
            if record.input_sha256 != input_sha256:
                return False
            base = self.root / folder
            return all(
                (base / file).is_file() and file_sha256(base / file) == digest
                for file, digest in record.files.items()
            )
        return False

    def was_started(self, name: str, folder: str, input_sha256: str) -> bool:
        """Return whether a stage was begun from the same input and not finished."""
        return any(
            (record.name, record.folder, record.state, record.input_sha256)
            == (name, folder, "running", input_sha256)
            for record in self._stages
        )

    def start(self, name: str, folder: str, input_sha256: str, *, keep_files: bool = False) -> Path:
        """Record that a stage runs; return its folder.

        Args:
            name: Stage name.
            folder: Its folder, relative to the run's.
            input_sha256: Hash of everything the stage depends on.
            keep_files: Whether other stages have files there too. Otherwise the folder
                is emptied, unless this very stage was begun before.

        Raises:
            StorageError: If the folder or the manifest cannot be written.
        """
        path = self.root / folder
        begun = keep_files or self.was_started(name, folder, input_sha256)
        if not begun:
            remove_folder(path)
        make_folder(path)
        self._record(StageRecord(name, folder, input_sha256, "running"))
        return path

    def finish(self, name: str, folder: str, input_sha256: str, files: list[str]) -> None:
        """Record that a stage is done, with the hashes of its result files.

        Raises:
            StorageError: If the manifest cannot be written.
        """
        base = self.root / folder
        hashes = {file: file_sha256(base / file) for file in files}
        self._record(StageRecord(name, folder, input_sha256, "done", hashes))

    def save_manifest(self) -> None:
        """Write the manifest.

        Raises:
            StorageError: If it cannot be written.
        """
        content = {"schema": _SCHEMA, "stages": [asdict(entry) for entry in self._stages]}
        write_whole(self.root / MANIFEST, to_json(content).encode())

    def _record(self, record: StageRecord) -> None:
        kept = [
            entry
            for entry in self._stages
            if (entry.name, entry.folder) != (record.name, record.folder)
        ]
        self._stages = [*kept, record]
        self.save_manifest()


def check_run_dir(root: Path, *, resume: bool) -> None:
    """Raise unless a run can be written to a folder; nothing is written yet.

    Args:
        root: The folder.
        resume: Whether the run in it, if there is one, is taken up.

    Raises:
        StorageError: If it holds something and ``resume`` is false, holds no run and
            ``resume`` is true, is another process's, is a file, or cannot be written.
    """
    _check_folder(root, resume=resume)
    if resume and root.is_dir():
        require_free(root)
        _read_manifest(root)


def _check_folder(root: Path, *, resume: bool) -> None:
    with named_errors(f"The output folder {root} cannot be used"):
        if (root.exists() or root.is_symlink()) and not root.is_dir():
            raise StorageError(f"The output {root} is a file; give the name of a folder.")
        if not resume and root.is_dir() and any(file.name != LOCK for file in root.iterdir()):
            raise StorageError(
                f"The output folder {root} exists and is not empty. Add --resume to go on with "
                "the run in it, or give another --output."
            )
        existing = next(path for path in (root, *root.absolute().parents) if path.exists())
        if not existing.is_dir():
            raise StorageError(f"The output folder {root} cannot be made: {existing} is a file.")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise StorageError(f"The output folder {root} cannot be made: {existing} is read-only.")


@contextmanager
def held_run_dir(root: Path, *, resume: bool, patience_seconds: float = 0.1) -> Iterator[RunDir]:
    """Open a run folder as ``open_run_dir`` does, and keep other processes out of it.

    Args:
        root: The folder.
        resume: Take up the run in it, if there is one.
        patience_seconds: How long another process may still be at work in it.

    Yields:
        The folder; ``is_locked`` is false where the file system has no locks.

    Raises:
        StorageError: If another process is at work in it, and as ``open_run_dir``.
    """
    _check_folder(root, resume=resume)
    make_folder(root)
    with held_alone(root, patience_seconds=patience_seconds) as is_locked:
        directory = open_run_dir(root, resume=resume)
        directory.is_locked = is_locked
        yield directory


def open_run_dir(root: Path, *, resume: bool) -> RunDir:
    """Return the run folder, new or taken up again.

    The manifest is the first file in it besides the lock, so that a run killed at any
    instant can be told from a folder of something else.

    Args:
        root: The folder.
        resume: Take up the run in it, if there is one.

    Raises:
        StorageError: If it holds something and ``resume`` is false, is no run's folder,
            or cannot be written.
    """
    _check_folder(root, resume=resume)
    make_folder(root)
    directory = RunDir(root, _read_manifest(root) if resume else [])
    remove_partial_files(root)
    directory.save_manifest()
    return directory


def fresh_folder(parent: Path, name: str) -> Path:
    """Return ``parent/name``, or the first free of ``name-2``, ``name-3``, ..."""
    path, number = parent / name, 1
    while path.exists():
        number += 1
        path = parent / f"{name}-{number}"
    return path


def latest_folder(parent: Path, name: str) -> Path:
    """Return the folder of the latest run among ``name``, ``name-2``, ``name-3``, ...

    Raises:
        StorageError: If there is none.
    """
    with named_errors(f"The runs in {parent} cannot be listed"):
        runs = [
            path
            for path in parent.glob(f"{name}*")
            if path.name.removeprefix(name).removeprefix("-").isdigit() or path.name == name
        ]
        runs = [path for path in runs if (path / MANIFEST).is_file()]
        if not runs:
            raise StorageError(
                f"There is no run to resume in {parent / name}. Give its folder with --output."
            )
        return max(runs, key=lambda path: (path / MANIFEST).stat().st_mtime_ns)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files in a folder, as 64 hexadecimal digits.

    Raises:
        StorageError: If a file cannot be read.
    """
    digest = hashlib.sha256()
    with named_errors(f"{path} cannot be read"):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_dir():
                continue
            if path.is_dir():
                digest.update(str(file.relative_to(path)).encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def _read_manifest(root: Path) -> list[StageRecord]:
    path = root / MANIFEST
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema"] != _SCHEMA:
            raise ValueError(f"schema {raw['schema']}, expected {_SCHEMA}")
        return [_stage_record(entry) for entry in raw["stages"]]
    except FileNotFoundError:
        if any(not is_partial(file) and file.name != LOCK for file in root.iterdir()):
            raise StorageError(
                f"The folder {root} holds no run ({MANIFEST} is missing), so it cannot be resumed. "
                "Give the folder of a run, or start one in an empty folder."
            ) from None
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"The manifest {path} is damaged ({error}), so the run cannot be resumed. Start it "
            "again with another --output."
        ) from error


def _stage_record(raw: Any) -> StageRecord:
    record = StageRecord(**raw)
    texts = (record.name, record.folder, record.input_sha256, record.state)
    if not all(isinstance(text, str) for text in texts) or not isinstance(record.files, dict):
        raise ValueError(f"the stage {record.name!r} is not recorded as it should be")
    return record
