"""What the replicas that share a batch tell each other inside of a training step.

Layers and losses that look at a whole batch ask here, and so know neither ``tf.distribute`` nor
Horovod. With one replica nothing is asked and nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import tensorflow as tf


class Exchange(Protocol):
    """How processes exchange numbers that ``tf.distribute`` knows nothing of."""

    def mean(self, value: Any) -> Any:
        """Return the mean of a tensor over all processes."""

    def largest(self, value: Any) -> Any:
        """Return the largest of each number of a tensor over all processes."""

    def rows_of_all(self, value: Any) -> Any:
        """Return the rows of a tensor of all processes."""


_exchange: ContextVar[Exchange | None] = ContextVar("tfopt_exchange", default=None)


@contextmanager
def exchanging(exchange: Exchange) -> Iterator[None]:
    """Let steps that are traced inside the block exchange numbers this way.

    Args:
        exchange: That of the strategy.
    """
    token = _exchange.set(exchange)
    try:
        yield
    finally:
        _exchange.reset(token)


def are_several() -> bool:
    """Return whether there is another replica."""
    replica = tf.distribute.get_replica_context()
    is_one_of_many = replica is not None and replica.num_replicas_in_sync > 1
    return is_one_of_many or _exchange.get() is not None


def mean(value: Any) -> Any:
    """Return the mean of a tensor over all replicas; it has no gradient.

    Args:
        value: Of this replica, any shape, floating; equal shapes everywhere.
    """
    return _asked(
        value,
        lambda exchange: exchange.mean,
        lambda replica, own: replica.all_reduce(tf.distribute.ReduceOp.MEAN, own),
    )


def largest(value: Any) -> Any:
    """Return the largest of each number over all replicas; it has no gradient.

    Args:
        value: Of this replica, shape ``(n,)``, floating; equal shapes everywhere.
    """
    return _asked(value, lambda exchange: exchange.largest, _largest_of_replicas)


def rows_of_all(value: Any) -> Any:
    """Return the rows of a tensor of all replicas, in their order; they have no gradient.

    Args:
        value: Of this replica, shape ``(rows, ...)``, equal everywhere.
    """
    return _asked(
        value,
        lambda exchange: exchange.rows_of_all,
        lambda replica, own: replica.all_gather(own, axis=0),
    )


def _asked(
    value: Any,
    by_processes: Callable[[Exchange], Callable[[Any], Any]],
    by_replicas: Callable[[Any, Any], Any],
) -> Any:
    """Return what all replicas say together, without a gradient; with one, what it says."""
    value = tf.stop_gradient(value)
    exchange, replica = _exchange.get(), tf.distribute.get_replica_context()
    if exchange is not None:
        return tf.stop_gradient(by_processes(exchange)(value))
    if replica is None or replica.num_replicas_in_sync == 1:
        return value
    return tf.stop_gradient(by_replicas(replica, value))


def _largest_of_replicas(replica: Any, own: Any) -> Any:
    # Replicas of tf.distribute add up only: each puts its numbers in a row of its own.
    is_own = tf.range(replica.num_replicas_in_sync) == replica.replica_id_in_sync_group
    placed = tf.where(is_own[:, None], own[None, :], 0.0)
    rows = replica.all_reduce(tf.distribute.ReduceOp.SUM, placed)
    return tf.reduce_max(rows, axis=0)
