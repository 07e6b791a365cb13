"""Prepare this process for a run: TensorFlow's own noise goes to a log."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO


@contextmanager
def quiet_tensorflow(*, log_to: Path | None = None) -> Iterator[TextIO]:
    """Send what native code writes to standard error into a log; yield the real stream.

    TensorFlow, XLA and LiteRT write start-up notes to file descriptor 2 before any
    logging setting can reach them.

    Args:
        log_to: Where the log is moved at the end, if its folder exists.

    Yields:
        A stream to the real standard error.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    signal.signal(signal.SIGTERM, _interrupt)
    sys.stderr.flush()
    saved = os.dup(2)
    handle, name = tempfile.mkstemp(prefix="tfopt-", suffix=".log")
    os.dup2(handle, 2)
    os.close(handle)
    stream = os.fdopen(saved, "w", encoding=sys.stderr.encoding or "utf-8", buffering=1)
    try:
        yield stream
    finally:
        sys.stderr.flush()
        stream.flush()
        os.dup2(stream.fileno(), 2)
        _keep_log(Path(name), log_to)


def _keep_log(log: Path, log_to: Path | None) -> None:
    try:
        if log_to is not None and log_to.parent.is_dir():
            shutil.copyfile(log, log_to)
    except OSError as error:
        sys.stderr.write(f"warning: the log {log_to} cannot be written: {error}\n")
    finally:
        log.unlink(missing_ok=True)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
