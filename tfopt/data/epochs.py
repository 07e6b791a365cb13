"""Build the training pipeline: epochs whose order depends on (seed, epoch) and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfopt.config.schema import Augment
from tfopt.data.sharding import WHOLE, Part, Share
from tfopt.errors import DataError

_SHUFFLE_STREAM = 0  # batch b uses stream b + 1


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """Which batches a training pipeline yields.

    Attributes:
        batch_size: Rows in a batch; the last batch of an epoch may be smaller.
        seed: Seed of order and augmentation.
        first_epoch: First epoch to yield, counted from 0.
        epochs: End of the epochs to yield (exclusive).
        augment: Random changes to the image input.
        share: What this process takes of every batch. Order and changes are those of the
            whole batch, of which no other rows are read.
    """

    batch_size: int
    seed: int
    first_epoch: int
    epochs: int
    augment: Augment = Augment()
    share: Share = WHOLE

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)
        if not 0 <= self.first_epoch <= self.epochs:
            raise DataError(
                "Training batches need 0 <= first_epoch <= epochs. Received: first_epoch="
                f"{self.first_epoch}, epochs={self.epochs}."
            )

    def steps(self, examples: int) -> int:
        """Return the batches in an epoch of so many rows."""
        return math.ceil(examples / self.batch_size)


def check_batch_size(batch_size: int) -> None:
    """Raise unless a batch holds at least one row.

    Args:
        batch_size: Rows in a batch.

    Raises:
        DataError: If ``batch_size < 1``.
    """
    if batch_size < 1:
        raise DataError(f"batch_size must be at least 1. Received: {batch_size}.")


def epoch_batches(
    plan: EpochPlan,
    *,
    examples: int,
    one_epoch: Callable[[Any], Any],
    finish: Callable[[Any], Any],
    augment: Callable[[Any, Any, Part], Any] | None,
) -> Any:
    """Return a process's part of the batches of every epoch, one epoch after the other.

    Args:
        plan: Which epochs, how large batches, and whose part.
        examples: Rows in an epoch.
        one_epoch: From a seed, an int64 tensor of shape ``(2,)``, to the dataset of one
            epoch's ``Part``s, one a batch.
        finish: From the content of a part to ``(x,)``, ``(x, y)`` or ``(x, y, weight)``;
            run in parallel.
        augment: From inputs, a seed and their part to changed inputs; None changes nothing.

    Returns:
        A ``tf.data.Dataset`` of ``(epochs - first_epoch) * steps`` batches, each of them in
        as many elements as the process has blocks; with weights if batches are divided.

    Raises:
        DataError: If batches are to be divided that have no labels.
    """
    share, steps = plan.share, plan.steps(examples)

    def numbered_epoch(epoch: Any) -> Any:
        seed = tf.stack([tf.constant(plan.seed, tf.int64), epoch])
        parts = one_epoch(_fold_in(seed, _SHUFFLE_STREAM))
        numbers = tf.data.Dataset.range(1, steps + 1)
        return tf.data.Dataset.zip((numbers, parts)).map(lambda number, part: (seed, number, part))

    def finish_batch(seed: Any, number: Any, part: Part) -> Any:
        batch = finish(part.content)
        if augment is not None:
            batch = (augment(batch[0], _fold_in(seed, number), part), *batch[1:])
        return batch if len(batch) == 1 else share.weighed(batch, part)

    epochs = tf.data.Dataset.range(plan.first_epoch, plan.epochs).flat_map(numbered_epoch)
    batches = epochs.map(finish_batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    share.require_labels(batches)
    total = (plan.epochs - plan.first_epoch) * steps * share.count
    counted = tf.data.experimental.assert_cardinality(total)
    return share.in_turns(batches).apply(counted).prefetch(tf.data.AUTOTUNE)


def _fold_in(seed: Any, stream: Any) -> Any:
    return tf.random.experimental.stateless_fold_in(seed, tf.cast(stream, tf.int64))
