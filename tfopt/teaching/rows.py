"""Training rows together with what the teachers said about them once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfopt.config.schema import Augment
from tfopt.data.arrays import ArraySplit
from tfopt.data.augment import make_augment
from tfopt.data.bundle import CACHE_LIMIT_BYTES
from tfopt.data.epochs import EpochPlan, epoch_batches
from tfopt.data.split import Split, StreamSplit, in_memory, memory_bytes
from tfopt.distillation.cache import TeacherCache, cache_teacher
from tfopt.errors import DataError

_VIEW_STREAM = 1
_BLOCK_ROWS = 1024


@dataclass(frozen=True, eq=False)
class TaughtRows:
    """Epochs of rows from a cache; rows come in the order of ``ArraySplit``.

    Attributes:
        cache: All versions of the rows, one version after the other, with the teachers'
            outputs.
        views: Versions of each row.
    """

    cache: TeacherCache
    views: int

    @property
    def examples(self) -> int:
        """Return the number of rows, each counted once."""
        return self.cache.rows // self.views

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the batches in an epoch, the last smaller one included."""
        return math.ceil(self.examples / batch_size)

    def sample_inputs(self, count: int, *, seed: int) -> Any:
        """Return the inputs of ``count`` random rows, or of all if there are fewer."""
        order = np.random.default_rng(seed).permutation(self.examples)[:count]
        taught = self.cache.batch(tf.constant(order), tf.zeros_like(order))[0]
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), taught.inputs)

    def training_batches(
        self, *, batch_size: int, seed: int, first_epoch: int, epochs: int, augment: Augment
    ) -> Any:
        """Return batches of ``TaughtInputs``; see ``Split``.

        The augmentation is in the cached versions of the rows, one of which is drawn for each
        row and epoch, so ``augment`` is not applied again.
        """
        del augment
        rows = self.examples
        plan = EpochPlan(rows, batch_size, seed, first_epoch, epochs)

        def order_of_epoch(epoch_seed: Any) -> Any:
            order = tf.random.experimental.stateless_shuffle(
                tf.range(rows, dtype=tf.int64), epoch_seed
            )
            views = tf.random.stateless_uniform(
                [rows],
                tf.random.experimental.stateless_fold_in(epoch_seed, _VIEW_STREAM),
                maxval=self.views,
                dtype=tf.int64,
            )
            places = order + rows * views
            starts = tf.data.Dataset.range(0, rows, batch_size)
            return starts.map(lambda start: places[start : start + batch_size])

        return epoch_batches(
            plan,
            one_epoch=order_of_epoch,
            finish=lambda places: self.cache.batch(places, tf.zeros_like(places)),
            augment=None,
        )


def cached_rows(  # noqa: PLR0913  # keyword-only, each its own
    split: Split,
    teachers: Any,
    folder: Path,
    *,
    dtype: Literal["float32", "float16"],
    views: int,
    augment: Augment,
    seed: int,
) -> TaughtRows:
    """Run the teachers over training rows, as far as the folder does not know yet.

    Args:
        split: The training rows.
        teachers: The teachers, bound to the features that losses want.
        folder: Where their outputs are kept.
        dtype: Number format on disk.
        views: Augmented versions of each row; 1 if ``augment`` changes nothing.
        augment: Random changes to images.
        seed: Seed of these.

    Raises:
        DataError: If the rows cannot be held in memory, or differ at each reading.
        StorageError: If the folder cannot be written.
    """
    change = make_augment(augment, split.input_spec)
    views = views if change is not None else 1
    rows = rows_in_memory(split, views=views)
    inputs, labels, weights = rows.inputs, rows.labels, rows.sample_weight
    if change is not None:
        versions = [_version(rows, change, [seed, view]) for view in range(views)]
        inputs = tf.nest.map_structure(lambda *arrays: np.concatenate(arrays), *versions)
        labels, weights = (_repeated(part, views) for part in (labels, weights))
    cache = cache_teacher(teachers, (inputs, labels, weights), folder, dtype=dtype)
    return TaughtRows(cache, views)


def rows_in_memory(split: Split, *, views: int = 1) -> ArraySplit:
    """Return a split's rows as arrays.

    Args:
        split: The rows.
        views: How many versions of each will be held.

    Raises:
        DataError: If they cannot be held in memory, or differ at each reading.
    """
    advice = "Set distill.cache: false, which runs the teacher on each batch."
    if isinstance(split, StreamSplit):
        if not split.is_stable:
            raise DataError(
                f"{split.what}: the pipeline gives other rows each time it is read, so a teacher's "
                f"outputs cannot be kept. {advice}"
            )
        total = memory_bytes(split)
    elif isinstance(split, ArraySplit):
        total = sum(array.nbytes for array in tf.nest.flatten(split.inputs))
    else:
        raise DataError(f"Rows of this kind of data cannot be cached with a teacher. {advice}")
    if total * views > CACHE_LIMIT_BYTES and (views > 1 or isinstance(split, StreamSplit)):
        raise DataError(
            f"{views} version(s) of the rows take {total * views / 1024**3:.1f} GB in memory, and "
            f"2 GB are the limit. Lower distill.augment_views, or: {advice}"
        )
    return split if isinstance(split, ArraySplit) else in_memory(split)


def _version(rows: ArraySplit, change: Any, key: list[int]) -> Any:
    """Return the inputs of all rows, augmented in one of their versions."""
    parts = []
    for number, (inputs, _) in enumerate(rows.numpy_batches(_BLOCK_ROWS)):
        seed = tf.random.experimental.stateless_fold_in(tf.constant(key, tf.int64), number)
        tensors = tf.nest.map_structure(tf.constant, inputs)
        parts.append(tf.nest.map_structure(lambda t: t.numpy(), change(tensors, seed)))
    return tf.nest.map_structure(lambda *arrays: np.concatenate(arrays), *parts)


def _repeated(part: Any, times: int) -> Any:
    if part is None:
        return None
    return tf.nest.map_structure(lambda array: np.concatenate([array] * times), part)
