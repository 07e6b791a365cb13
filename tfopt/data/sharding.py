"""Divide every global batch among replicas, so that together they do the step of one.

Which rows a batch has is drawn as in one process. A process then takes its places of the
batch, and only those rows are read, decoded and augmented by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from tfopt.errors import DataError


class Part(NamedTuple):
    """The rows of a batch that a process trains on.

    Attributes:
        content: What stands for them, a nest of tensors ``(own rows, ...)``.
        first: Place of the first of them in the batch; places past its end begin again.
        rows: Rows of the whole batch.
    """

    content: Any
    first: Any
    rows: Any


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of every batch a process trains on.

    Replicas must have as many rows, since each takes the mean over its own, and so must parts. A
    batch that cannot be divided evenly is filled up with rows of its own; the filling has weight
    0, and the weights of the others grow by as much, so that the mean over all of them is the
    mean over the batch. So the last batch of an epoch has a row for every replica too.

    Attributes:
        replicas: Into how many blocks of consecutive rows a batch is divided.
        first: Number of this process's first block, from 0.
        count: Blocks of this process.
        parts: In how many parts each block is computed, one after the other.
    """

    replicas: int = 1
    first: int = 0
    count: int = 1
    parts: int = 1

    @property
    def is_whole(self) -> bool:
        """Return whether nothing is divided."""
        return self.replicas == self.parts == 1

    def own_rows(self, rows: Any) -> Any:
        """Return how many rows of a batch are this process's, filling included.

        Args:
            rows: Rows of the batch: a number, or an int tensor.
        """
        return rows if self.is_whole else self.count * self._block(rows)

    def first_place(self, rows: Any) -> Any:
        """Return the place in a batch of so many rows where this process's begin."""
        return self.first * self._block(rows)

    def part(self, whole: Any) -> Part:
        """Return this process's part of a batch.

        Args:
            whole: What stands for the rows of a batch: a nest of tensors ``(rows, ...)``.
        """
        rows = tf.shape(tf.nest.flatten(whole)[0], tf.int64)[0]
        first = tf.convert_to_tensor(self.first_place(rows))
        if self.is_whole:
            return Part(whole, first, rows)
        places = (first + tf.range(self.own_rows(rows))) % rows
        return Part(tf.nest.map_structure(lambda t: tf.gather(t, places), whole), first, rows)

    def weighed(self, batch: tuple[Any, ...], part: Part) -> tuple[Any, ...]:
        """Return a batch of this process with the weights that its rows have.

        Args:
            batch: ``(x, y)`` or ``(x, y, weight)`` of the part's rows.
            part: Where they stand in the whole batch.

        Returns:
            ``(x, y, weight)``; the batch as it is if nothing is divided.
        """
        if self.is_whole:
            return batch
        places = part.first + tf.range(self.own_rows(part.rows))
        filled = tf.cast(self.replicas * self._block(part.rows), tf.float32)
        grown = filled / tf.cast(part.rows, tf.float32)
        weight = tf.where(places < part.rows, grown, 0.0)
        if len(batch) == 3:
            own = batch[2]
            weight = own * tf.reshape(weight, [-1] + [1] * (own.shape.rank - 1))
        return batch[0], batch[1], weight

    def require_labels(self, batches: Any) -> None:
        """Raise if batches that are divided have no labels, to which weights could belong.

        Args:
            batches: A dataset.

        Raises:
            DataError: If so.
        """
        spec = batches.element_spec
        if not self.is_whole and (not isinstance(spec, tuple) or len(spec) < 2):
            raise DataError(
                "Batches without labels cannot be divided among replicas or parts. Give (x, y), or "
                "train with strategy: {kind: single} and accumulate: 1."
            )

    def in_turns(self, batches: Any) -> Any:
        """Return a dataset in which each of this process's blocks is an element of its own."""
        if self.count == 1:
            return batches
        return batches.map(lambda *batch: _stacked(batch, self.count)).unbatch()

    def _block(self, rows: Any) -> Any:
        return -(-rows // (self.replicas * self.parts)) * self.parts


WHOLE = Share()
"""The share of a process that trains alone."""


def _stacked(batch: tuple[Any, ...], count: int) -> Any:
    """Return blocks that lie one behind the other, on an axis of their own."""

    def stack(tensor: Any) -> Any:
        shape = tf.concat([[count, tf.shape(tensor)[0] // count], tf.shape(tensor)[1:]], axis=0)
        return tf.ensure_shape(tf.reshape(tensor, shape), [count, None, *tensor.shape[1:]])

    return tf.nest.map_structure(stack, batch)
