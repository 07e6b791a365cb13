"""How fast the steps of an epoch are; the first epoch of a stage includes tracing the step."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfopt.distributed.base import Strategy

ROWS_PER_SECOND = "rows_per_second"
"""Name of the speed in epoch logs and evidence."""

EXCHANGE = "exchange_fraction"
"""Name of the share of a step in which a process waits for the gradients of others."""


class Speed:
    """Measures the steps of an epoch."""

    def __init__(self) -> None:
        self._begun = math.nan
        self._seconds = math.nan
        self._steps = 0
        self._exchange: float | None = None

    def begin(self) -> None:
        """Begin an epoch."""
        self._begun = time.monotonic()

    def end(self, steps: int, *, exchange: float | None) -> None:
        """End the steps of an epoch.

        Args:
            steps: How many there were.
            exchange: Which share of a step waited for other replicas, if that is measured.
        """
        self._seconds, self._steps = time.monotonic() - self._begun, steps
        self._exchange = exchange

    def logs(self, rows_per_step: float) -> dict[str, float]:
        """Return what was measured in the last epoch, for its logs.

        Args:
            rows_per_step: Rows that all replicas together see in a step, on average.
        """
        found = {ROWS_PER_SECOND: rows_per_step * self._steps / self._seconds}
        if self._exchange is not None:
            found[EXCHANGE] = self._exchange
        return found


def spread_evidence(strategy: Strategy, history: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return how training was spread, and what that cost; nothing for one replica.

    Every process must call it. The first epoch is left out, where there is another: it
    includes the tracing of the step.

    Args:
        strategy: The run's strategy.
        history: This process's epoch logs.

    Returns:
        ``replicas``; ``ranks_agree``, since training has compared them; ``rows_per_second`` of
        all; where it is known ``exchange_fraction``, the mean over processes of the share of
        a step that waits for the gradients of others; of several processes the same by rank;
        and ``scaling_efficiency``: the rows a second over what the processes would do
        together if none waited. What sharing a machine costs is not in it.
    """
    speeds = history.get(ROWS_PER_SECOND)
    if strategy.replicas == 1 or not speeds:
        return {}
    found = {
        "replicas": strategy.replicas,
        "ranks_agree": True,
        ROWS_PER_SECOND: _steady(speeds),
    }
    waits = history.get(EXCHANGE)
    by_rank = strategy.gather(_steady(waits) if waits else math.nan)
    if not np.isfinite(by_rank).all():
        return found
    # A process that waits for the share w of a step would do its rows in 1 - w of the time.
    free = float(np.mean([1 / max(1 - wait, 1e-3) for wait in by_rank]))
    found |= {EXCHANGE: float(np.mean(by_rank)), "scaling_efficiency": 1 / free}
    return found | ({"exchange_fraction_by_rank": by_rank} if strategy.size > 1 else {})


def _steady(values: Sequence[float]) -> float:
    known = [value for value in (values[1:] or values) if math.isfinite(value)]
    return float(np.median(known)) if known else math.nan
