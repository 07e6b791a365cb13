"""Rows of token ids: padded to one length, trained on in batches of similar length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.data.arrays import ArraySplit
from tfopt.data.augment import make_augment
from tfopt.data.checks import Array, Nested
from tfopt.data.epochs import EpochPlan, epoch_batches

IDS, MASK, SEGMENTS = "input_ids", "attention_mask", "token_type_ids"
"""Names of the inputs of text models, each int32 of shape ``(rows, tokens)``."""

IGNORED = -100
"""Label of a position that neither trains nor counts, as in Hugging Face data."""


@dataclass(frozen=True, eq=False)
class TokenSplit(ArraySplit):
    """Rows of token ids, padded on the right; see ``tfopt.data.split.Split``.

    Rows read in order have the whole length, so that scores depend neither on buckets nor
    on the batch, and a model meets in evaluation what its exported file will meet.

    Attributes:
        lengths: Lengths that training batches may have, rising to that of the arrays;
            with a single one nothing is cut.
        labels_by_token: Whether labels are one a token, shape ``(rows, tokens)``.
    """

    lengths: tuple[int, ...] = ()
    labels_by_token: bool = False

    @property
    def is_bucketed(self) -> bool:
        """Return whether training batches differ in length."""
        return len(self.lengths) > 1

    @property
    def max_tokens(self) -> int:
        """Return the length of every row, padding included."""
        return int(self.inputs[IDS].shape[1])

    @property
    def input_spec(self) -> Nested:
        """Return the specs of one example's inputs; the length is None with buckets."""
        return self._open(super().input_spec)

    @property
    def label_spec(self) -> Nested | None:
        """Return the spec of one example's label, of unknown length if it is by token."""
        spec = super().label_spec
        return self._open(spec) if self.labels_by_token else spec

    def training_batches(self, plan: EpochPlan) -> Any:
        """Return batches of rows of similar length, cut to what they need; see ``Split``.

        Each epoch shuffles the rows, sorts them by bucket, cuts the sequence into
        batches (the smaller one at a random place) and shuffles these. So every row comes
        once, and there are as many batches as without buckets.
        """
        if not self.is_bucketed:
            return super().training_batches(plan)
        make_augment(plan.augment, self.input_spec)  # refuses to augment text
        rows = self._tensors
        return epoch_batches(
            plan,
            examples=self.examples,
            one_epoch=self.row_numbers(plan),
            finish=lambda content: self.cut(
                tf.nest.map_structure(lambda array: tf.gather(array, content[0]), rows),
                content[1],
            ),
            augment=None,
        )

    def row_numbers(self, plan: EpochPlan) -> Callable[[Any], Any]:
        """Return a function from the seed of an epoch to a dataset of its batches.

        The content of a part is its row numbers, and the length that the whole batch needs.
        """
        buckets = self._bucket_of_row

        def part_of(numbers: Any) -> Any:
            part = plan.share.part(numbers)
            return part._replace(content=(part.content, self.length_of(numbers)))

        return lambda epoch_seed: _batches_of_rows(buckets, plan, epoch_seed).map(part_of)

    def length_of(self, numbers: Any) -> Any:
        """Return the length that a batch of these rows needs, an int64 tensor."""
        bucket = tf.reduce_max(tf.gather(self._bucket_of_row, numbers))
        return tf.gather(tf.constant(self.lengths, tf.int64), bucket)

    def cut(self, batch: tuple[Any, ...], length: Any) -> tuple[Any, ...]:
        """Return a batch ``(x,)``, ``(x, y)`` or ``(x, y, weight)`` with so many tokens."""
        inputs, *rest = batch
        inputs = {name: array[:, :length] for name, array in inputs.items()}
        if self.labels_by_token and rest:
            rest[0] = rest[0][:, :length]
        return (inputs, *rest)

    @cached_property
    def _bucket_of_row(self) -> Any:
        tokens = self.inputs[MASK].sum(axis=1)
        return tf.constant(np.searchsorted(np.array(self.lengths), tokens), tf.int64)

    def _open(self, nested: Nested) -> Nested:
        if not self.is_bucketed:
            return nested
        return tf.nest.map_structure(
            lambda leaf: tf.TensorSpec([None, *leaf.shape[1:]], leaf.dtype), nested
        )


def _batches_of_rows(buckets: Any, plan: EpochPlan, seed: Any) -> Any:
    """Return a dataset of the row numbers of each batch of one epoch."""
    row_seed, batch_seed, short_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    examples = len(buckets)
    steps = plan.steps(examples)
    rows = tf.range(examples, dtype=tf.int64)
    order = tf.random.experimental.stateless_shuffle(rows, row_seed)
    # The place in the shuffled order breaks ties, so that the sort is the same everywhere.
    by_bucket = tf.argsort(tf.gather(buckets, order) * examples + rows)
    grouped = tf.gather(order, by_bucket)
    short = tf.random.stateless_uniform([], short_seed, maxval=steps, dtype=tf.int64)
    missing = steps * plan.batch_size - examples
    edges = tf.range(steps + 1, dtype=tf.int64)
    edges = edges * plan.batch_size - tf.where(edges > short, tf.constant(missing, tf.int64), 0)
    batches = tf.random.experimental.stateless_shuffle(tf.range(steps, dtype=tf.int64), batch_seed)
    return tf.data.Dataset.from_tensor_slices(batches).map(
        lambda number: grouped[edges[number] : edges[number + 1]]
    )


def token_inputs(
    ids: Array, lengths: Array, segments: Array | None, *, padding_id: int
) -> dict[str, Array]:
    """Return the inputs of a text model.

    Args:
        ids: Token ids, int32 of shape ``(rows, tokens)``; what follows a row's length is
            replaced.
        lengths: Real tokens of each row, shape ``(rows,)``.
        segments: 0 and 1 for the sentences of a pair, same shape as ``ids``; or None.
        padding_id: Id that fills rows up.

    Returns:
        ``input_ids``, ``attention_mask`` and, of pairs, ``token_type_ids``.
    """
    is_real = np.arange(ids.shape[1]) < lengths[:, None]
    inputs = {IDS: np.where(is_real, ids, np.int32(padding_id)), MASK: is_real.astype(np.int32)}
    return inputs if segments is None else {**inputs, SEGMENTS: np.where(is_real, segments, 0)}
