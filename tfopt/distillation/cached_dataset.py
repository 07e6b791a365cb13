"""Training rows together with what the teachers said about them once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfopt.config.schema import Augment
from tfopt.data.arrays import ArraySplit
from tfopt.data.augment import make_augment
from tfopt.data.epochs import EpochPlan, epoch_batches
from tfopt.data.load import CACHE_LIMIT_BYTES
from tfopt.data.split import Split, StreamSplit, in_memory, memory_bytes
from tfopt.data.text.batches import TokenSplit
from tfopt.distillation.cache import TeacherCache, cache_teacher
from tfopt.distillation.first_batch import TaughtInputs
from tfopt.distillation.teachers import KerasTeacher, Teacher
from tfopt.errors import DataError
from tfopt.training.token_checks import fixed_lengths

Axes = tuple[tuple[int, ...], ...]
"""For each tensor some of its axes."""

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

    def training_batches(self, plan: EpochPlan) -> Any:
        """Return batches of ``TaughtInputs``; see ``Split``.

        The augmentation is in the cached versions of the rows, one of which is drawn for each
        row and epoch, so ``plan.augment`` is not applied again.
        """
        rows = self.examples

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
            starts = tf.data.Dataset.range(0, rows, plan.batch_size)
            return starts.map(
                lambda start: plan.share.part(places[start : start + plan.batch_size])
            )

        return epoch_batches(
            plan,
            examples=rows,
            one_epoch=order_of_epoch,
            finish=lambda places: self.cache.batch(places, tf.zeros_like(places)),
            augment=None,
        )


@dataclass(frozen=True, eq=False)
class TaughtTokens(TaughtRows):
    """The same of texts: batches are those of ``TokenSplit``, of similar length and cut to it.

    Attributes:
        texts: The rows.
        axes: Which axes of what the teachers say are as long as the text; see ``token_axes``.
    """

    texts: TokenSplit
    axes: Axes

    def training_batches(self, plan: EpochPlan) -> Any:
        """Return batches of ``TaughtInputs``; see ``Split``. Text is not augmented."""
        return epoch_batches(
            plan,
            examples=self.examples,
            one_epoch=self.texts.row_numbers(plan),
            finish=self._cut_batch,
            augment=None,
        )

    def _cut_batch(self, content: tuple[Any, Any]) -> tuple[Any, ...]:
        numbers, length = content
        taught, *rest = self.cache.batch(numbers, tf.zeros_like(numbers))
        inputs, *rest = self.texts.cut((taught.inputs, *rest), length)
        said = tf.nest.flatten(taught.teachers)
        said = [_cut(tensor, axes, length) for tensor, axes in zip(said, self.axes, strict=True)]
        return (TaughtInputs(inputs, tf.nest.pack_sequence_as(taught.teachers, said)), *rest)


def _cut(tensor: Any, axes: tuple[int, ...], length: Any) -> Any:
    ends = [slice(length if axis in axes else None) for axis in range(tensor.shape.rank)]
    return tensor[tuple(ends)]


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
    if isinstance(rows, TokenSplit):
        axes = token_axes(teachers, rows)
        if axes is not None:
            return TaughtTokens(cache, views, rows, axes)
    return TaughtRows(cache, views)


def token_axes(teachers: Sequence[Teacher], rows: TokenSplit) -> Axes | None:
    """Return which axes of what teachers say are as long as the text, or None if unknown.

    They are those that change with the length of the text. It is not known of a teacher that
    takes one length, such as a file, so that the student then sees rows of the whole length.

    Args:
        teachers: The teachers, bound to the features that losses want.
        rows: Texts.

    Returns:
        The axes of each tensor, in the order of ``tf.nest.flatten``; None without buckets too.
    """
    takes_any = all(isinstance(t, KerasTeacher) and not fixed_lengths(t.model) for t in teachers)
    if not rows.is_bucketed or not takes_any:
        return None
    one = tf.nest.map_structure(tf.constant, (rows.take(1).inputs,))
    lengths = (rows.lengths[0], rows.max_tokens)
    shapes = [_shapes(teachers, rows.cut(one, length)[0]) for length in lengths]
    axes = []
    for short, whole in zip(*shapes, strict=True):
        pairs = list(zip(short, whole, strict=True))
        changed = tuple(axis for axis, (few, many) in enumerate(pairs) if few != many)
        if any(pairs[axis] != lengths for axis in changed):
            return None
        axes.append(changed)
    return tuple(axes)


def _shapes(teachers: Sequence[Teacher], inputs: Any) -> list[tuple[int, ...]]:
    said = [teacher(inputs) for teacher in teachers]
    return [tuple(tensor.shape) for tensor in tf.nest.flatten(said)]


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
