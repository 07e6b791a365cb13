"""Processes that are started together, and end together."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

from tfopt.distributed.launch.horovodrun import how_it_ended
from tfopt.errors import ExitCode
from tfopt.storage import named_errors

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 8.0
_PR_SET_PDEATHSIG = 1  # prctl(2)


class Group:
    """Processes, each with children of its own, that end together.

    Attributes:
        first_failed: Number of the process that failed first; None if none did.
    """

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        self._processes = processes
        self.first_failed: int | None = None

    def wait(self) -> int:
        """Wait for all; return the code of the first one that failed, or 0."""
        try:
            while not self._has_ended():
                time.sleep(_POLL_SECONDS)
            if self.first_failed is None:
                return 0
            self._wait(_GRACE_SECONDS)
            return _exit_code(self._processes[self.first_failed].returncode)
        except KeyboardInterrupt:
            self._send(signal.SIGINT)
            self._wait(_GRACE_SECONDS)
            return int(ExitCode.INTERRUPTED)
        finally:
            self._end()

    def _has_ended(self) -> bool:
        """Return whether one has failed, or all are done."""
        codes = [process.poll() for process in self._processes]
        failed = [number for number, code in enumerate(codes) if code]
        self.first_failed = failed[0] if failed else None
        return bool(failed) or all(code == 0 for code in codes)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(p.poll() is None for p in self._processes):
            time.sleep(_POLL_SECONDS)

    def _end(self) -> None:
        """End what is left, and what those processes have started."""
        if any(process.poll() is None for process in self._processes):
            self._send(signal.SIGTERM)
            self._wait(_GRACE_SECONDS)
        self._send(signal.SIGKILL)
        for process in self._processes:
            process.wait()

    def _send(self, number: int) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)


class ServedGroup(Group):
    """A chief, workers and parameter servers: it is over with the chief.

    It goes on without a worker, but not without any, and not without a server.
    """

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]], workers: int) -> None:
        super().__init__(processes)
        self._workers = range(1, 1 + workers)
        self._told: set[int] = set()

    def _has_ended(self) -> bool:
        codes = [process.poll() for process in self._processes]
        if codes[0] is not None:
            self.first_failed = 0 if codes[0] else None
            return True
        gone = [number for number, code in enumerate(codes) if code is not None]
        left = [number for number in self._workers if number not in gone]
        for number in {*gone} & {*self._workers} - self._told:
            self._told.add(number)
            code = _exit_code(codes[number] or 0)
            sys.stderr.write(
                f"worker {number - 1} {how_it_ended(code)}; {len(left)} worker(s) go on\n"
            )
        servers = [number for number in gone if number not in self._workers]
        lost = servers or (gone if not left else [])
        self.first_failed = lost[0] if lost else None
        return bool(lost)


def start_process(
    command: Sequence[str], environment: Mapping[str, str], output: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that ends with this one, with a group of its own.

    Args:
        command: Program and arguments.
        environment: All of its variables.
        output: File for what it prints; None: where this process prints.

    Raises:
        StorageError: If it cannot be started.
    """
    with named_errors(f"{command[0]} cannot be started"):
        return subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output is not None else None,
            start_new_session=True,  # a group of its own, so that all of it can be ended
            preexec_fn=_end_with_parent,
        )


def _end_with_parent() -> None:
    """Let the kernel end this process when the launcher is gone, however it went."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _exit_code(code: int) -> int:
    """Return what a shell would: a process ended by signal 9 has 137."""
    return code if code >= 0 else 128 - code
