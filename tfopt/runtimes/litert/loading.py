"""Read a ``.tflite`` file and hand it to the runtime, or say what is wrong with it."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tfopt.errors import ExportError, InputError

_IDENTIFIER = b"TFL3"
_OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive, such as a .keras file",
    b"\x89HDF": "an HDF5 file, such as .h5 weights",
    b"vers": "perhaps a Git LFS pointer",
}


def read_litert(path: Path) -> bytes:
    """Return the bytes of a ``.tflite`` file.

    They are read once and handed to the runtime, so that a file that changes meanwhile
    cannot hurt.

    Raises:
        InputError: If it is missing, empty, unreadable or of another format.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"There is no LiteRT model {str(path)!r}.") from None
    except OSError as error:
        raise InputError(f"The LiteRT model {str(path)!r} cannot be read: {error}") from error
    if not content:
        raise InputError(f"{path} is not a LiteRT model: it is empty (0 bytes).")
    if content[4:8] != _IDENTIFIER:
        other = _OTHER_FORMATS.get(content[:4])
        looks = f" It looks like {other}." if other else ""
        raise InputError(
            f"{path} is not a LiteRT model: bytes 4 to 8 are {content[4:8]!r} where 'TFL3' belongs "
            f"({len(content):,} bytes in all).{looks}"
        )
    return content


def create_interpreter(path: Path, content: bytes, threads: int) -> Any:
    """Return an interpreter of the content; its tensors are not allocated yet.

    Raises:
        InputError: If the content is damaged.
        ExportError: If it is newer than the runtime.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        return Interpreter(model_content=content, num_threads=threads)
    except (ValueError, RuntimeError) as error:
        if "Op builtin_code out of range" in str(error) or "Didn't find op" in str(error):
            raise ExportError(failure_message(path, error)) from error
        raise InputError(
            f"{path} is not a valid LiteRT model: it is truncated or damaged ({_first_line(error)})"
        ) from error


def missing_operators_message(path: Path, names: Sequence[str]) -> str:
    """Return one line on a file with operators outside the built-in set."""
    flex = [name for name in names if name.startswith("Flex")]
    if len(flex) == len(names):
        # Neither ai_edge_litert 2.3 nor tf.lite.Interpreter of tensorflow 2.21 links it in.
        cause = "TensorFlow operators outside the built-in set"
        action = "Replace those layers, or run the file where the Flex delegate is linked in"
    else:
        cause = "custom operators outside the built-in set"
        action = "Run it with a runtime that has them"
    return (
        f"{path} needs {', '.join(names)}, {cause}; the LiteRT runtime here lacks them. {action}."
    )


def failure_message(path: Path, error: BaseException) -> str:
    """Return one line for a failed allocation or run."""
    text = str(error)
    if "XNNPackDelegate" in text or "failed to delegate" in text:
        return (
            f"{path} fails in LiteRT's default CPU path, XNNPACK ({_first_line(error)}), so phones "
            "would refuse it as well. A known cause is sparse weight encoding combined with "
            "dynamic-range quantization: convert again without EXPERIMENTAL_SPARSITY."
        )
    return f"{path} cannot be run by LiteRT: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    # The runtime glues messages together: "...node #1Node number 6 (X) failed to prepare."
    text = re.sub(r"(?<=[\w.])(?=Node number )", "; ", str(error).strip())
    line = text.splitlines()[0] if text else type(error).__name__
    return line if len(line) <= 300 else line[:300] + "..."


@contextmanager
def quiet_start() -> Iterator[None]:
    """Drop the runtime's INFO lines ("Created TensorFlow Lite XNNPACK delegate").

    The runtime has no switch for them: its logger's threshold is a private symbol and no
    environment variable sets it. Anything else written meanwhile is passed on.
    """
    try:
        saved = os.dup(2)
    except OSError:  # a process without standard error has nothing to keep clean
        yield
        return
    with tempfile.TemporaryFile() as capture:
        os.dup2(capture.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            capture.seek(0)
            kept = [line for line in capture.readlines() if not line.startswith(b"INFO: ")]
            if kept:
                os.write(2, b"".join(kept))
