"""How the processes of ``tfopt launch`` tell it why they end, so that the cause is said once.

Each of them would say it otherwise, after its own fashion: the one that failed, those that it told,
and those that were ended. Where the file of the launcher is not seen (on another host), a process
says it itself.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tfopt.errors import ExitCode

ENDS = "TFOPT_ENDS_FILE"
"""Variable with the file to which every process that fails adds a line."""

_SECOND_HAND = (ExitCode.PEERS_LOST, ExitCode.INTERRUPTED)


@dataclass(frozen=True, slots=True)
class RankEnd:
    """How one process ended.

    Attributes:
        rank: Its number.
        code: Its exit code.
        text: What it has to say.
    """

    rank: int
    code: int
    text: str

    @property
    def is_cause(self) -> bool:
        """Return whether it failed by itself, and not since another one did."""
        return self.code not in _SECOND_HAND


def report_end(rank: int, code: int, text: str) -> bool:
    """Tell ``tfopt launch`` how this process ends; return whether it will say so.

    Args:
        rank: Number of this process.
        code: Its exit code.
        text: What went wrong.
    """
    path = os.environ.get(ENDS)
    if not path:
        return False
    line = json.dumps(asdict(RankEnd(rank, code, text))) + "\n"
    with suppress(OSError):
        # The launcher has made the file; one write of a line is not torn by others.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            return os.write(descriptor, line.encode()) == len(line.encode())
        finally:
            os.close(descriptor)
    return False


def read_cause(path: Path) -> RankEnd | None:
    """Return the end that tells most: a failure, then a lost peer, then an interruption.

    Args:
        path: The file that the processes wrote to.
    """
    found = []
    with suppress(OSError, ValueError):  # the last line may be of a process that was killed
        for line in path.read_text(encoding="utf-8").splitlines():
            found.append(RankEnd(**json.loads(line)))
    order = {code: number for number, code in enumerate(_SECOND_HAND, start=1)}
    return min(found, key=lambda end: (order.get(ExitCode(end.code), 0), end.rank), default=None)
