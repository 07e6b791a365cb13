"""Horovod's launcher, with one line in place of its traceback; a program of its own.

    python -m tfopt.distributed.launch.horovodrun -np 2 -H localhost:2 python train.py

Its exit code is that of the process that ended first, which ``horovodrun`` turns into 1.
"""

from __future__ import annotations

import re
import signal
import sys

from tfopt.errors import ExitCode

_FIRST = re.compile(r"Process name: (?P<name>.*)\nExit code: (?P<code>-?\d+)")
_SIGNALLED = 128
_SSH = 255  # of ssh, whatever the signal was


def main() -> int:
    """Run the launcher with the words of the command line; return its exit code."""
    from horovod.runner.launch import run_commandline

    try:
        run_commandline()
    except (RuntimeError, ValueError) as error:  # what it raises of ranks, hosts and options
        code, text = told(str(error))
        sys.stderr.write(f"horovodrun: {text}\n")
        return code
    return int(ExitCode.OK)


def told(error: str) -> tuple[int, str]:
    r"""Return the exit code and a line for an error of the launcher.

    Example:
        >>> told("Horovod detected ... so was:\nProcess name: 1\nExit code: 137\n")
        (137, 'rank 1 was ended by signal 9 (SIGKILL), and with it the others.')
        >>> told("could not connect to some hosts via ssh")
        (2, 'could not connect to some hosts via ssh')
    """
    found = _FIRST.search(error)
    if found is None:
        return int(ExitCode.BAD_INPUT), " ".join(error.split())
    code = int(found["code"])
    code = code if code >= 0 else _SIGNALLED - code
    return code, f"rank {found['name']} {how_it_ended(code)}, and with it the others."


def how_it_ended(code: int) -> str:
    """Return what an exit code of a shell says.

    Example:
        >>> how_it_ended(2)
        'ended with exit code 2'
    """
    if code == _SSH:
        return f"ended with exit code {code}: over ssh, a signal ended it or the connection broke"
    number = code - _SIGNALLED
    if number in {int(one) for one in signal.Signals}:
        return f"was ended by signal {number} ({signal.Signals(number).name})"
    return f"ended with exit code {code}"


if __name__ == "__main__":
    sys.exit(main())
