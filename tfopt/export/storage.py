"""Put an exported file in its place: all of it, or nothing."""

from __future__ import annotations

import gzip
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from tfopt.errors import StorageError


def check_target(path: Path, *, overwrite: bool = False) -> None:
    """Raise unless a file can be written at ``path``; called before any slow work.

    Raises:
        StorageError: If something is there already and ``overwrite`` is False, it is a
            folder, or the folder it belongs in is missing or read-only.
    """
    if path.is_dir():
        raise StorageError(f"{path} is a folder; give the name of a file to write.")
    if path.exists() and not overwrite:
        raise StorageError(f"{path} exists already. Remove it, or give another name.")
    if not path.parent.is_dir():
        raise StorageError(f"{path} cannot be written: there is no folder {path.parent}.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise StorageError(f"{path} cannot be written: the folder {path.parent} is read-only.")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name in the same folder, then rename it.

    Raises:
        StorageError: If it cannot be written, such as on a full disk; nothing is left.
    """
    partial: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        partial = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o666 & ~_umask())  # mkstemp makes files private
        os.replace(partial, path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        if partial is not None:
            with suppress(FileNotFoundError):
                partial.unlink()


def gzip_bytes(path: Path) -> int:
    """Return the size of a file after gzip at level 9, without name and time stamp.

    Raises:
        StorageError: If it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}.") from error
    return len(gzip.compress(content, compresslevel=9, mtime=0))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
