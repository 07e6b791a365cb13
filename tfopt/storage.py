"""Write files whole or not at all, and say clearly when that is not possible."""

from __future__ import annotations

import errno
import gzip
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tfopt.errors import StorageError

_PARTIAL = ".partial"


def check_target(path: Path, *, overwrite: bool = False) -> None:
    """Raise unless a file can be written at ``path``; called before any slow work.

    Raises:
        StorageError: If something is there already and ``overwrite`` is False, it is a
            folder, or the folder it belongs in is missing or read-only.
    """
    with named_errors(f"{path} cannot be written"):
        if path.is_dir():
            raise StorageError(f"{path} is a folder; give the name of a file to write.")
        if path.exists() and not overwrite:
            raise StorageError(
                f"{path} exists already. Add --overwrite (in Python overwrite=True) to replace it, "
                "or give another --output (path)."
            )
        if not path.parent.is_dir():
            raise StorageError(
                f"{path} cannot be written: there is no folder {path.parent}. Make it first, or "
                "give another --output (path)."
            )
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise StorageError(f"{path} cannot be written: the folder {path.parent} is read-only.")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; what is written there becomes ``path`` at the end.

    The file is flushed to disk and renamed, so a kill or a crash of the machine leaves
    the old file or the new one. If the block raises, nothing is left.

    Args:
        path: The file; its folder exists.

    Yields:
        A free path in the same folder, with the same suffix.

    Raises:
        StorageError: If the file cannot be written, such as on a full disk.
    """
    # The name starts with a dot and ends in the file's own suffix, by which Keras picks a format.
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{_PARTIAL}{path.suffix}")
    try:
        with named_errors(f"{path} cannot be written"):
            yield partial
            _flush(partial)
            os.replace(partial, path)
            _flush(path.parent)
    finally:
        with suppress(OSError):
            partial.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; see ``whole_file``.

    Raises:
        StorageError: If it cannot be written; nothing is left.
    """
    with whole_file(path) as partial:
        partial.write_bytes(content)


def remove_partial_files(folder: Path) -> None:
    """Delete what killed processes left behind in a folder and below.

    Raises:
        StorageError: If a file cannot be deleted.
    """
    with named_errors(f"{folder} cannot be cleaned"):
        for file in sorted(folder.rglob(f".*{_PARTIAL}*")):
            if is_partial(file):
                file.unlink(missing_ok=True)


def is_partial(path: Path) -> bool:
    """Return whether a file has a name that ``whole_file`` gives."""
    return path.name.startswith(".") and _PARTIAL in path.suffixes[-2:]


def make_folder(path: Path) -> None:
    """Make a folder and those above it; nothing happens if it is there.

    Raises:
        StorageError: If it cannot be made.
    """
    with named_errors(f"The folder {path} cannot be made"):
        path.mkdir(parents=True, exist_ok=True)


def remove_folder(path: Path) -> None:
    """Delete a folder and all in it; nothing happens if it is not there.

    Raises:
        StorageError: If it cannot be deleted.
    """
    with named_errors(f"The folder {path} cannot be removed"), suppress(FileNotFoundError):
        shutil.rmtree(path)


@contextmanager
def named_errors(what: str) -> Iterator[None]:
    """Turn an ``OSError`` of the block into a ``StorageError`` that begins with ``what``.

    Raises:
        StorageError: If the block raises ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(f"{what}: {_reason(error)}.") from error


def gzip_bytes(path: Path) -> int:
    """Return the size of a file after gzip at level 9, without name and time stamp.

    Raises:
        StorageError: If it cannot be read.
    """
    with named_errors(f"{path} cannot be read"):
        return len(gzip.compress(path.read_bytes(), compresslevel=9, mtime=0))


def _reason(error: OSError) -> str:
    text = error.strerror or str(error)
    # h5py tells its whole story; this is the part of it that matters.
    full = os.strerror(errno.ENOSPC)
    return full if full in text else text.partition("\n")[0].rstrip(".")


def _flush(path: Path) -> None:
    """Ask the system to write a file, or a folder's entries, to disk now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
