"""Divide every global batch among replicas, so that together they do the step of one.

The division comes after order, augmentation and batching, which know nothing of replicas:
all replicas together see what one process sees, in the same global order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfopt.errors import DataError


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of every batch a process trains on.

    Attributes:
        replicas: Into how many blocks of consecutive rows a batch is divided.
        first: Number of this process's first block, from 0.
        count: Blocks of this process.
    """

    replicas: int = 1
    first: int = 0
    count: int = 1


def divided(batches: Any, share: Share) -> Any:
    """Return a process's blocks of every batch.

    Replicas must have as many rows, since each takes the mean over its own. A batch that
    cannot be divided evenly is filled up with rows of its own; the filling has weight 0, and
    the weights of the others grow by as much, so that the mean over all replicas is the mean
    over the batch. So the last batch of an epoch has a row for every replica too.

    Args:
        batches: A dataset of ``(x, y)`` or ``(x, y, weight)``; nested ``x`` and ``y``.
        share: The division.

    Returns:
        A dataset of ``(x, y, weight)``, ``share.count`` elements for each batch; unchanged
        batches if there is one replica.

    Raises:
        DataError: If there are no labels, to which weights could belong.
    """
    if share.replicas == 1:
        return batches
    if not isinstance(batches.element_spec, tuple) or len(batches.element_spec) < 2:
        raise DataError(
            "Batches without labels cannot be divided among replicas. Give (x, y), or train with "
            "strategy: {kind: single}."
        )

    def blocks(*batch: Any) -> Any:
        return _blocks(batch, share)

    parts = batches.map(blocks, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if share.count > 1:
        parts = parts.map(lambda *part: _stacked(part, share.count)).unbatch()
    return parts.prefetch(tf.data.AUTOTUNE)


def _blocks(batch: tuple[Any, ...], share: Share) -> tuple[Any, Any, Any]:
    rows = tf.shape(tf.nest.flatten(batch[0])[0])[0]
    block = -(-rows // share.replicas)
    places = tf.range(share.first * block, (share.first + share.count) * block)
    taken = tf.nest.map_structure(lambda tensor: tf.gather(tensor, places % rows), batch)
    grown = tf.cast(block * share.replicas, tf.float32) / tf.cast(rows, tf.float32)
    weight = tf.where(places < rows, grown, 0.0)
    if len(taken) == 3:
        own = taken[2]
        weight = own * tf.reshape(weight, [-1] + [1] * (own.shape.rank - 1))
    return taken[0], taken[1], weight


def _stacked(part: tuple[Any, ...], count: int) -> Any:
    """Return blocks that lie one behind the other, on an axis of their own."""

    def stack(tensor: Any) -> Any:
        shape = tf.concat([[count, tf.shape(tensor)[0] // count], tf.shape(tensor)[1:]], axis=0)
        return tf.ensure_shape(tf.reshape(tensor, shape), [count, None, *tensor.shape[1:]])

    return tf.nest.map_structure(stack, part)
