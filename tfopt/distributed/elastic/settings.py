"""What an elastic run is told, and what it reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from tfopt.distributed.elastic.row_order import Rows
from tfopt.distributed.keepalive import LOST_SECONDS
from tfopt.errors import InputError

Scaling: TypeAlias = Literal["none", "linear", "sqrt"]
Batch: TypeAlias = Callable[[Rows], tuple[Any, Any]]
OnStep: TypeAlias = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True, slots=True)
class Elastic:
    """How an elastic run trains.

    Attributes:
        steps: Updates in all, ``>= 1``.
        batch_size: Rows of an update, on all ranks together; each takes its part.
        commit_every_steps: Updates between two commits, ``>= 1``: what a lost rank costs at most.
        seed: Chooses the order of the rows.
        learning_rate_scaling: What the learning rate is multiplied by: ``linear`` by the number
            of ranks at the time, ``sqrt`` by its root. The batch is the same for every number
            of ranks, so ``none`` gives the model of one process.
        lost_seconds: How long a peer may be silent, in seconds, ``> 2``.
        checkpoint: A file to which the chief writes every commit, and from which a new job goes on.
    """

    steps: int
    batch_size: int
    commit_every_steps: int = 10
    seed: int = 0
    learning_rate_scaling: Scaling = "none"
    lost_seconds: int = LOST_SECONDS
    checkpoint: Path | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the ranks.

    Attributes:
        cause: ``lost`` or ``hosts changed``.
        reached: Updates done when it was noticed.
        resumed: Update from which training went on.
        size: Ranks from then on.
        seconds: From the notice to the moment that training could go on.
    """

    cause: str
    reached: int
    resumed: int
    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ElasticResult:
    """What an elastic run did; the same on every rank but for ``changes``.

    Attributes:
        steps: Updates done, as every surviving rank has confirmed.
        loss: Mean loss of the ranks at the last update.
        rank: Number of this rank at the end; the chief is 0.
        size: Ranks at the end.
        changes: Changes of the ranks since this process began.
    """

    steps: int
    loss: float
    rank: int
    size: int
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class NumberedRows:
    """Rows by number.

    Attributes:
        batch: From row numbers to ``(x, y)``.
        examples: Number of rows.
    """

    batch: Batch
    examples: int

    @classmethod
    def of(cls, data: tuple[Any, Any] | Batch, examples: int | None) -> NumberedRows:
        """Return the rows of arrays, or of a function.

        Raises:
            InputError: If there are no rows, or not as many of ``x`` as of ``y``.
        """
        if callable(data):
            if examples is None or examples < 1:
                raise InputError(
                    "Data that is a function needs examples, the number of its rows, >= 1. "
                    f"Received: {examples!r}."
                )
            return cls(data, examples)
        x, y = data
        if not len(x) or len(x) != len(y):
            raise InputError(f"x has {len(x)} rows and y has {len(y)}; both need as many, >= 1.")
        return cls(lambda rows: (x[rows], y[rows]), len(x))


def require_rows_for_all(rows: int, size: int) -> None:
    """Raise unless every rank gets a row of a batch.

    Raises:
        InputError: If there are more ranks than rows.
    """
    if rows < size:
        raise InputError(
            f"A batch of {rows} rows cannot be divided among {size} ranks. Raise batch_size, or "
            "start fewer ranks."
        )


def require_valid(settings: Elastic) -> None:
    """Raise unless the settings are possible.

    Raises:
        InputError: With the first that is not.
    """
    for name in ("steps", "batch_size", "commit_every_steps"):
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be a whole number >= 1. Received: {value!r}.")
    if settings.learning_rate_scaling not in get_args(Scaling):
        raise InputError(
            f"learning_rate_scaling must be one of {', '.join(get_args(Scaling))}. Received: "
            f"{settings.learning_rate_scaling!r}."
        )
    if settings.lost_seconds <= 2:  # the first probe is sent after 2 s
        raise InputError(f"lost_seconds must be > 2. Received: {settings.lost_seconds!r}.")
