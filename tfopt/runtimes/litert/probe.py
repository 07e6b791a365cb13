"""Try a file in a child process, then open it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tfopt.errors import ExportError, InputError
from tfopt.runtimes.child_process import run_child, signal_name
from tfopt.runtimes.litert.loading import read_litert
from tfopt.runtimes.litert.model import LitertModel

ProbeKind = Literal["ok", "invalid", "missing_ops", "failed", "crashed", "hung"]

PROBE_SECONDS = 120.0
"""Time limit of the trial run in a child process."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a trial run in a child process found.

    Attributes:
        kind: ``ok``, or how it failed.
        message: One line for the user; empty when ok.
    """

    kind: ProbeKind
    message: str = ""

    def require_ok(self) -> None:
        """Raise unless the file ran.

        Raises:
            InputError: If the file is not a LiteRT model or is damaged.
            ExportError: If it cannot be run.
        """
        if self.kind == "invalid":
            raise InputError(self.message)
        if self.kind != "ok":
            raise ExportError(self.message)


def open_litert(
    path: str | Path, *, threads: int = 1, probe: bool = True, to_run: bool = True
) -> LitertModel:
    """Open a ``.tflite`` file, after a trial run in a child process.

    Args:
        path: The file.
        threads: Interpreter threads, ``>= 1``.
        probe: Run it in a child process first; False when that has just been done.
        to_run: False opens a file only to look at it, even one whose operators the
            runtime lacks; it cannot then be run.

    Returns:
        The model.

    Raises:
        InputError: If the file is missing, empty, damaged or no LiteRT model.
        ExportError: If the runtime cannot run it; the message says why.
    """
    content = read_litert(Path(path))
    if threads < 1:
        raise InputError(f"threads must be at least 1. Received: {threads}.")
    if probe and to_run:
        probe_litert(path).require_ok()
    return LitertModel(Path(path), content, threads=threads, to_run=to_run)


def probe_litert(
    path: str | Path,
    *,
    rows: Sequence[int] = (1,),
    samples: Path | None = None,
    time_limit_seconds: float = PROBE_SECONDS,
) -> ProbeResult:
    """Run a file in a child process, so that a crash or a hang is a finding.

    Args:
        path: The file.
        rows: Batch sizes to try; a fixed-batch file accepts any number, in a loop.
        samples: An ``.npz`` with real rows for each input (``input_0``, ...); without it
            zeros and random values in range are used.
        time_limit_seconds: The child is stopped after this long.

    Returns:
        The finding; never raises for a bad file.
    """
    job = {
        "path": str(path),
        "rows": list(rows),
        "samples": str(samples) if samples else None,
    }
    command = [sys.executable, "-P", "-m", "tfopt.runtimes.litert.trial", json.dumps(job)]
    try:
        done = run_child(command, time_limit_seconds=time_limit_seconds)
    except subprocess.TimeoutExpired:
        return ProbeResult(
            "hung",
            f"{path} did not finish one trial run within {time_limit_seconds:g} s in the LiteRT "
            "runtime, and was stopped.",
        )
    if done.returncode < 0:
        name = signal_name(-done.returncode)
        return ProbeResult(
            "crashed",
            f"{path} crashes the LiteRT runtime ({name}). The file is damaged, or uses an operator "
            "in a way that the runtime cannot handle.",
        )
    try:
        return ProbeResult(**json.loads(done.stdout.strip().splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        tail = done.stderr.strip().splitlines()[-1:] or ["no message"]
        return ProbeResult("crashed", f"{path}: the trial run ended early: {tail[0]}")
