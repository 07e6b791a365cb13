"""How fast the steps of an epoch are; the first epoch of a stage includes tracing the step."""

from __future__ import annotations

import math
import time

ROWS_PER_SECOND = "rows_per_second"
"""Name of the speed in epoch logs and evidence."""


class Speed:
    """Measures the steps of an epoch."""

    def __init__(self) -> None:
        self._begun = math.nan
        self._steps_per_second = math.nan

    @property
    def steps_per_second(self) -> float:
        """Return the speed of the last epoch; NaN before there is one."""
        return self._steps_per_second

    def begin(self) -> None:
        """Begin an epoch."""
        self._begun = time.monotonic()

    def end(self, steps: int) -> None:
        """End the steps of an epoch."""
        self._steps_per_second = steps / (time.monotonic() - self._begun)
