"""Average a loss over rows and positions, the same on one replica and on many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from tfopt.distributed import replica_context
from tfopt.errors import DataError


class Average(NamedTuple):
    """One replica's part of a mean over the global batch.

    Attributes:
        share: Sum over the rows here, over the real positions everywhere. The shares of
            all replicas add up to the mean, as their gradients are added up. A plain mean over
            the rows here would make the gradient as many times too large as there
            are replicas.
        everywhere: Real positions of the global batch.
    """

    share: Any
    everywhere: Any


def show(metric: Any, average: Average) -> None:
    """Let a ``Mean`` metric count a global mean, of which each replica knows a share."""
    count = tf.distribute.get_strategy().num_replicas_in_sync
    metric.update_state(average.share * count, sample_weight=average.everywhere / count)


def average(values: Any, *, weight: Any, mask: Any) -> Average:
    """Return this replica's part of the weighted mean of a loss.

    As in Keras, sample weights scale the sum and not the count; padding is left out of both.

    Args:
        values: ``(rows, ...)``, float32.
        weight: Sample weights, ``(rows,)`` or of the same leading axes; or None.
        mask: Real positions ``(rows, positions)``, or None.

    Raises:
        DataError: If weights do not fit.
    """
    counted = tf.ones_like(values)
    if mask is not None and values.shape.rank > 1:
        counted *= _aligned(tf.cast(mask, tf.float32), values, what="mask")
    # A loss of padding may be anything, NaN too, and NaN times 0 is NaN.
    kept = tf.where(counted > 0, values, 0.0)
    if weight is not None:
        kept *= _aligned(weight, values, what="sample_weight")
    everywhere = sum_of_replicas(tf.reduce_sum(counted))
    return Average(tf.math.divide_no_nan(tf.reduce_sum(kept), everywhere), everywhere)


def sum_of_replicas(value: Any) -> Any:
    """Return the sum of a number over all replicas; what it is made of has no gradient.

    Over the processes of Horovod it is the mean, since gradients are averaged over them and not
    added up.
    """
    return replica_context.mean(value) * tf.distribute.get_strategy().num_replicas_in_sync


def weight_for(output: str | None, sample_weight: Any) -> Any:
    """Return the sample weights that apply to a loss, float32, or None.

    Args:
        output: A name of the student's outputs, or None for a loss between hidden tensors: if each
            output has its own weights, these get the mean of them for each row.
        sample_weight: One tensor for all, or output name to tensor or None.
    """
    if not isinstance(sample_weight, Mapping):
        return None if sample_weight is None else tf.cast(sample_weight, tf.float32)
    if output is not None:
        found = sample_weight.get(output)
        return None if found is None else tf.cast(found, tf.float32)
    given = [tf.cast(weight, tf.float32) for weight in sample_weight.values() if weight is not None]
    rows = [tf.reduce_mean(weight, axis=list(range(1, weight.shape.rank))) for weight in given]
    return tf.add_n(rows) / len(rows) if rows else None


def _aligned(weight: Any, values: Any, *, what: str) -> Any:
    """Return weights with the rank of the values, to be multiplied with them."""
    rank = values.shape.rank
    if weight.shape.rank > rank:  # weights of positions, and one loss for each row
        weight = tf.reduce_mean(weight, axis=list(range(rank, weight.shape.rank)))
    for own, other in zip(weight.shape, values.shape, strict=False):
        if own not in (None, 1, other) and other is not None:
            raise DataError(
                f"{what} of shape {tuple(weight.shape)} does not fit a loss of shape "
                f"{tuple(values.shape)}. Give one number for each row, or for each position."
            )
    return tf.reshape(weight, [*tf.unstack(tf.shape(weight)), *([1] * (rank - weight.shape.rank))])
