"""Prepare this process for a run: TensorFlow's own noise goes to a log."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from tfopt.storage import make_folder, named_errors


@contextmanager
def quiet_tensorflow(*, log_to: Path | None = None, beside: str | None = None) -> Iterator[TextIO]:
    """Send what native code writes to standard error into a log; yield the real stream.

    TensorFlow, XLA and LiteRT write start-up notes to file descriptor 2 before any
    logging setting can reach them.

    Args:
        log_to: Where the log is copied at the end; None keeps none.
        beside: A file that must be in that folder by then; where no run began, no log is
            left, and the next try can use the folder.

    Yields:
        A stream to the real standard error.

    Raises:
        StorageError: If there is no room for the log.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    sys.stderr.flush()
    with named_errors("No temporary file can be made for the log"):
        handle, name = tempfile.mkstemp(prefix="tfopt-", suffix=".log")
    saved = os.dup(2)
    os.dup2(handle, 2)
    os.close(handle)
    stream = os.fdopen(saved, "w", encoding=sys.stderr.encoding or "utf-8", buffering=1)
    try:
        yield stream
    finally:
        sys.stderr.flush()
        os.dup2(stream.fileno(), 2)
        with suppress(OSError):  # the reader of a pipe may be gone
            stream.close()
        is_wanted = log_to is not None and (beside is None or (log_to.parent / beside).exists())
        _keep_log(Path(name), log_to if is_wanted else None)


def log_into(path: Path) -> None:
    """Send standard error, which is a log by now, to a file that keeps all of it.

    Args:
        path: The file; its folder is made if missing.

    Raises:
        StorageError: If it cannot be written.
    """
    make_folder(path.parent)
    sys.stderr.flush()
    with named_errors(f"The log {path} cannot be written"), path.open("wb") as file:
        offset = 0
        while block := os.pread(2, 1 << 20, offset):
            file.write(block)
            offset += len(block)
        file.flush()
        os.dup2(file.fileno(), 2)


@contextmanager
def terminable() -> Iterator[None]:
    """Make a SIGTERM end the block as Ctrl-C does, so that a run is left resumable."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may change what a signal does
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _keep_log(log: Path, log_to: Path | None) -> None:
    try:
        if log_to is not None:
            shutil.copyfile(log, log_to)
    except OSError as error:
        sys.stderr.write(f"warning: the log {log_to} cannot be written: {error}\n")
    finally:
        log.unlink(missing_ok=True)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
