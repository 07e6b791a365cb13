"""The strategy of Horovod: one replica a process, gradients averaged over all of them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.config.distributed import StrategySettings as Settings
from tfopt.distributed.communication_time import ExchangeClock
from tfopt.distributed.environment import Place
from tfopt.distributed.horovod.consistency import gather, mean_of_state
from tfopt.distributed.horovod.global_batch import WholeBatch
from tfopt.distributed.horovod.library import hvd
from tfopt.distributed.horovod.membership import enter
from tfopt.distributed.horovod.optimizer import DistributedOptimizer
from tfopt.distributed.horovod.reduction import restart_labels
from tfopt.distributed.keepalive import LOST_SECONDS, watch_peers
from tfopt.distributed.lost_peers import named_loss
from tfopt.distributed.replica_context import exchanging
from tfopt.distributed.single import Single
from tfopt.distributed.threads import share_cores
from tfopt.errors import StorageError

_WAITING = "waiting for all"


class Horovod(Single):
    """One of the processes of ``horovodrun`` or ``mpirun``; see ``Strategy`` for the contract.

    Args:
        horovod: Horovod for TensorFlow, initialized.
        has_timeline: Whether its timeline is asked for.
    """

    name = "horovod"

    def __init__(self, horovod: Any, *, has_timeline: bool = False) -> None:
        self._horovod = horovod
        self.rank = int(horovod.rank())
        self.size = self.replicas = int(horovod.size())
        self.random_stream = self.rank
        self._has_timeline = has_timeline
        self._clock: ExchangeClock | None = None

    def scope(self) -> AbstractContextManager[Any]:
        """Return the context in which layers and losses see the batch of all processes."""
        return exchanging(WholeBatch(self._horovod)) if self.size > 1 else nullcontext()

    def optimizer(self, optimizer: Any) -> Any:
        """Return the optimizer, which averages gradients over all processes."""
        averaging = DistributedOptimizer(optimizer)
        if self.size == 1:
            return averaging
        self._clock = ExchangeClock()
        return self._clock.measure(averaging)

    def exchange_fraction(self) -> float | None:
        """Return which share of a step waited for other ranks."""
        return None if self._clock is None else self._clock.take()

    @contextmanager
    def recorded(self, file: Path) -> Iterator[None]:
        """Write Horovod's timeline: every collective, for chrome://tracing or Perfetto.

        Raises:
            StorageError: If there is none at the end.
        """
        if not self._has_timeline:
            yield
            return
        if self.rank == 0:
            self._horovod.start_timeline(str(file))
        try:
            yield
        finally:
            if self.rank == 0:
                self._horovod.stop_timeline()
        if not self.from_chief(file.is_file()):
            raise StorageError(
                f"Horovod did not write its timeline {file}. The environment may say otherwise: "
                "unset HOROVOD_TIMELINE, or set strategy.timeline: false."
            )

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the mean of each value over all processes."""
        if self.size == 1:
            return dict(values)
        names = sorted(values)
        own = tf.constant([values[name] for name in names], tf.float64)
        # Numbers that are equal already, such as those of all validation rows, stay as they are.
        with named_loss("averaging the logs of an epoch"):
            mean, low, high = (
                self._horovod.allreduce(own, op=op, name=f"tfopt.logs.{number}").numpy()
                for number, op in enumerate(
                    (self._horovod.Average, self._horovod.Min, self._horovod.Max)
                )
            )
        kept = np.where(low == high, own.numpy(), mean)
        return dict(zip(names, kept.tolist(), strict=True))

    def settle(self, variables: Sequence[Any]) -> None:
        """Give all processes the mean of batch statistics, and the widest of ranges."""
        if self.size > 1:
            with named_loss("averaging statistics"):
                mean_of_state(variables)

    def gather(self, value: Any) -> list[Any]:
        """Return what each process gave."""
        if self.size == 1:
            return [value]
        with named_loss(_WAITING):
            everyone = gather(np.frombuffer(_packed(value), np.int64))
        return [pickle.loads(one.tobytes()) for one in everyone]

    def from_chief(self, value: Any) -> Any:
        """Return the chief's value."""
        if self.size == 1:
            return value
        with named_loss(_WAITING):
            return self._horovod.broadcast_object(value, root_rank=0, name="tfopt.from_chief")


def open_horovod(settings: Settings, place: Place) -> Horovod:
    """Return the strategy of this process among those that were launched.

    Raises:
        BackendMissing: If Horovod is missing, or does not know its launcher.
    """
    if settings.timeline:
        os.environ.setdefault("HOROVOD_TIMELINE", "DYNAMIC")  # read when Horovod starts
    if place.is_elastic:
        restart_labels()
        enter(settings.elastic.lost_seconds)
    elif hvd().size() > 1:
        watch_peers(LOST_SECONDS)
    horovod = hvd()
    share_cores(horovod.local_size())
    return Horovod(horovod, has_timeline=settings.timeline)


def _packed(value: Any) -> bytes:
    """Return a value as bytes that are whole numbers; reading it leaves the filling out."""
    raw = pickle.dumps(value)
    return raw + b"\0" * (-len(raw) % 8)
