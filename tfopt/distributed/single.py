"""One process on one device: nothing to share, nothing to wait for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from tfopt.config.distributed import StrategySettings as Settings
from tfopt.distributed.base import Spread, Steps
from tfopt.distributed.elastic.run_state import Journey
from tfopt.distributed.environment import Place


class Single:
    """The strategy of one process on one device; see ``Strategy`` for the contract."""

    name = "single"
    rank = 0
    size = 1
    replicas = 1
    local_replicas = 1
    copies = False
    random_stream = 0
    journey: Journey | None = None

    def scope(self) -> AbstractContextManager[Any]:
        """Return a context that does nothing."""
        return nullcontext()

    def distribute(self, batches: Any) -> Any:
        """Return the batches."""
        return batches

    def whole(self, batches: Any) -> Any:
        """Return the batches."""
        return batches

    def steps_of(self, model: Any) -> Steps | None:
        """Leave it to ``fit``."""
        return None

    def spread(self) -> Spread:
        """Say nothing more."""
        return Spread()

    def optimizer(self, optimizer: Any) -> Any:
        """Return the optimizer."""
        return optimizer

    def exchange_fraction(self) -> float | None:
        """Return that it is not known: nothing is exchanged."""
        return None

    def recorded(self, file: Path) -> AbstractContextManager[Any]:
        """Return a context that does nothing."""
        return nullcontext()

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the values."""
        return dict(values)

    def settle(self, variables: Sequence[Any]) -> None:
        """Do nothing: there is one copy of everything."""

    def copies_of(self, variable: Any) -> Sequence[Any]:
        """Return the variable."""
        return [variable]

    def gather(self, value: Any) -> list[Any]:
        """Return the value."""
        return [value]

    def from_chief(self, value: Any) -> Any:
        """Return the value."""
        return value

    def close(self) -> None:
        """Do nothing."""


def open_single(settings: Settings, place: Place) -> Single:
    """Return the strategy of one process."""
    return Single()
