"""Ends one process that stands still, or whose launcher is gone; a program of its own.

    python watchdog.py PID SECONDS

A process that was stopped (SIGSTOP) keeps its connections, so the other ranks wait for it, and its
launcher does not see it end. One that ssh started on another host is not told when that ssh
ends (there is no terminal, so no SIGHUP). It imports only the standard library, and reads
Linux's /proc.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PERIOD_SECONDS = 0.25
_GRACE_SECONDS = 5.0
_SERVER = "sshd"  # also sshd-session, since OpenSSH 9.8
_STOPPED = "T"


@dataclass(frozen=True, slots=True)
class Process:
    """A process as /proc shows it.

    Attributes:
        number: Its number, which another one may have later.
        name: The first 15 letters of its program.
        state: One letter; ``T``: stopped, ``Z``: ended.
        parent: Number of its parent.
        start: When it began, in ticks after the start of the machine.
    """

    number: int
    name: str
    state: str
    parent: int
    start: int


def look_at(number: int) -> Process | None:
    """Return the process of a number, or None if there is none.

    Args:
        number: Its number.
    """
    try:
        text = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return None
    # The name stands in parentheses and may hold any letter (man 5 proc).
    before, _, after = text.rpartition(")")
    fields = after.split()
    return Process(number, before.partition("(")[2], fields[0], int(fields[1]), int(fields[19]))


def ssh_server_of(process: Process) -> Process | None:
    """Return the ssh session in which a process runs, or None if it was started otherwise."""
    found: Process | None = process
    while found is not None and found.number > 1:
        if found.name.startswith(_SERVER):
            return found
        found = look_at(found.parent)
    return None


def is_there(process: Process) -> bool:
    """Return whether it is still the same process, and has not ended."""
    found = look_at(process.number)
    return found is not None and found.start == process.start and found.state not in "ZX"


def watch(process: Process, stopped_seconds: float) -> str | None:
    """Wait until a process ends, or return why it must be ended.

    Args:
        process: The one to watch.
        stopped_seconds: How long it may be stopped, in seconds.
    """
    server = ssh_server_of(process)
    still_since: float | None = None
    while is_there(process):
        now = time.monotonic()
        found = look_at(process.number)
        if found is None or found.state != _STOPPED:
            still_since = None
        elif still_since is None:
            still_since = now
        elif now - still_since >= stopped_seconds:
            return f"it was stopped by a signal for {stopped_seconds:g} s, and the other ranks wait"
        if server is not None and not is_there(server):
            return "the ssh session of its launcher ended"
        time.sleep(_PERIOD_SECONDS)
    return None


def end(process: Process) -> None:
    """End a process, at first by asking."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + _GRACE_SECONDS
        with suppress(ProcessLookupError):
            os.kill(process.number, sign)
        stopped = look_at(process.number)
        while is_there(process) and time.monotonic() < until:
            if stopped is not None and stopped.state == _STOPPED:
                break  # a stopped process takes no signal but SIGKILL
            time.sleep(_PERIOD_SECONDS / 5)


def main() -> None:
    """Watch the process that the command line names."""
    process = look_at(int(sys.argv[1]))
    if process is None:
        return
    reason = watch(process, float(sys.argv[2]))
    if reason is not None:
        with suppress(OSError):
            sys.stderr.write(f"tfopt: process {process.number} is ended: {reason}.\n")
        end(process)


if __name__ == "__main__":
    main()
