"""A stream that speaks aloud while its process is the first of a run, and else into a log."""

from __future__ import annotations

import io
from typing import TextIO


class Voice(io.StringIO):
    """Standard error of a process that may become the first one of a run later.

    Args:
        aloud: What the user reads.
        aside: The process's log.

    Attributes:
        now: Where it writes now.
    """

    def __init__(self, aloud: TextIO, aside: TextIO) -> None:
        super().__init__()
        self._aloud, self._aside = aloud, aside
        self.now = aside

    def speak(self, is_aloud: bool) -> None:  # noqa: FBT001  # one fact, told by position
        """Write to the user from now on, or to the log."""
        self.now = self._aloud if is_aloud else self._aside

    def write(self, text: str) -> int:
        """Write a text; return its length."""
        return self.now.write(text)

    def flush(self) -> None:
        """Flush what was written."""
        self.now.flush()
