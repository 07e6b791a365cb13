"""Run a Python child process of our own under a time limit."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path


def run_child(
    command: Sequence[str], *, time_limit_seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a Python child of ours to its end, and stop its whole process group if it is late.

    Args:
        command: Program and arguments; it can import this ``tfopt``.
        time_limit_seconds: Limit after which the child is killed.

    Returns:
        Exit status (negative: the signal), standard output and error.

    Raises:
        subprocess.TimeoutExpired: If the limit passed; the child is gone by then.
    """
    package_root = str(Path(__file__).resolve().parents[2])
    paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    ) as child:
        try:
            output, errors = child.communicate(timeout=time_limit_seconds)
        except BaseException:  # also Ctrl-C: the child is in a session of its own
            _kill_group(child.pid)
            raise
    return subprocess.CompletedProcess(list(command), child.returncode, output, errors)


def signal_name(number: int) -> str:
    """Return ``SIGSEGV`` for 11.

    Example:
        >>> signal_name(9)
        'SIGKILL'
    """
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)  # the child is its group's leader
    except ProcessLookupError:
        return
