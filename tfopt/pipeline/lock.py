"""One process at a time works in a run's folder.

The kernel holds the lock, and lets it go when the process ends, however it ends: after
``kill -9`` there is nothing to clean up. The file stays; that it exists says nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfopt.errors import StorageError
from tfopt.storage import named_errors

LOCK = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
# require_free takes the lock for an instant, which must not fail a process that wants to hold it.
_PAUSE_SECONDS = 0.02


@contextmanager
def held_alone(folder: Path, *, patience_seconds: float = 0.1) -> Iterator[bool]:
    """Hold the lock of a folder during the block.

    Args:
        folder: It exists and can be written.
        patience_seconds: How long another process may still hold it.

    Yields:
        Whether the lock is held; False on file systems that have no locks.

    Raises:
        StorageError: If another process holds it, or its file cannot be made.
    """
    with named_errors(f"The lock {folder / LOCK} cannot be taken"):
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        is_held = _take(
            descriptor,
            folder,
            kind=fcntl.LOCK_EX,
            tries=1 + round(patience_seconds / _PAUSE_SECONDS),
        )
        if is_held:
            with named_errors(f"The lock {folder / LOCK} cannot be written"):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()} {platform.node()}\n".encode(), 0)
        yield is_held
    finally:
        os.close(descriptor)


def require_free(folder: Path) -> None:
    """Raise if another process holds the lock of a folder; nothing is written.

    Raises:
        StorageError: Naming the folder and the process.
    """
    with named_errors(f"The lock {folder / LOCK} cannot be read"):
        try:
            descriptor = os.open(folder / LOCK, os.O_RDONLY)
        except FileNotFoundError:
            return
    try:
        _take(descriptor, folder, kind=fcntl.LOCK_SH, tries=1)
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: Path, *, kind: int, tries: int) -> bool:
    """Return whether the file system has locks; raise if this one is another's."""
    for attempt in range(1, tries + 1):
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if attempt < tries:
                time.sleep(_PAUSE_SECONDS)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return False
            raise StorageError(
                f"The folder {folder} cannot be locked: {error.strerror}."
            ) from error
    raise StorageError(
        f"The run in {folder} is already being worked on by {_holder(descriptor)}. Wait for it to "
        "end or stop it, or give another --output."
    )


def _holder(descriptor: int) -> str:
    number, _, host = os.pread(descriptor, 300, 0).decode(errors="replace").strip().partition(" ")
    return f"process {number} on {host}" if number.isdigit() else "another process"
