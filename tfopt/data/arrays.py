"""Examples held in memory as NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.data.augment import make_augment
from tfopt.data.checks import Array, Nested, check_lengths, spec_of
from tfopt.data.epochs import EpochPlan, check_batch_size, epoch_batches
from tfopt.data.statistics import InputStatistics, input_statistics
from tfopt.errors import DataError


@dataclass(frozen=True, eq=False)
class ArraySplit:
    """Examples in memory; see ``tfopt.data.split.Split`` for the contract.

    Attributes:
        inputs: One array ``(rows, ...)``, or a tuple or dict of arrays.
        labels: The same for labels; None if there are none.
        sample_weight: Weight of each row in the loss, shape ``(rows,)``, float32.
        class_names: Names of the classes in label order, if labels were text.
    """

    inputs: Nested
    labels: Nested | None = None
    sample_weight: Array | None = None
    class_names: tuple[str, ...] | None = None

    is_stable = True

    def __post_init__(self) -> None:
        parts = {"inputs": self.inputs, "labels": self.labels, "sample_weight": self.sample_weight}
        check_lengths({name: part for name, part in parts.items() if part is not None})

    @property
    def examples(self) -> int:
        """Return the number of rows."""
        return len(tf.nest.flatten(self.inputs)[0])

    @property
    def has_labels(self) -> bool:
        """Return whether there are labels."""
        return self.labels is not None

    @property
    def input_spec(self) -> Nested:
        """Return the nested ``tf.TensorSpec`` of one example's inputs."""
        return spec_of(self.inputs)

    @property
    def label_spec(self) -> Nested | None:
        """Return the nested ``tf.TensorSpec`` of one example's label, or None."""
        return None if self.labels is None else spec_of(self.labels)

    @property
    def class_numbers(self) -> Array | None:
        """Return the labels if they are a single array, else None."""
        return self.labels if isinstance(self.labels, np.ndarray) else None

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the batches in an epoch, the last smaller one included."""
        check_batch_size(batch_size)
        return math.ceil(self.examples / batch_size)

    def training_batches(self, plan: EpochPlan) -> Any:
        """Return shuffled, augmented batches; see ``Split``."""
        rows = self._tensors

        def order_of_epoch(epoch_seed: Any) -> Any:
            order = tf.random.experimental.stateless_shuffle(
                tf.range(self.examples, dtype=tf.int64), epoch_seed
            )
            starts = tf.data.Dataset.range(0, self.examples, plan.batch_size)
            return starts.map(lambda start: plan.share.part(order[start : start + plan.batch_size]))

        def gather(numbers: Any) -> Any:
            return tf.nest.map_structure(lambda array: tf.gather(array, numbers), rows)

        return epoch_batches(
            plan,
            examples=self.examples,
            one_epoch=order_of_epoch,
            finish=gather,
            augment=make_augment(plan.augment, self.input_spec),
        )

    def batches(self, batch_size: int) -> Any:
        """Return the batches in order, unchanged, as a ``tf.data.Dataset``."""
        check_batch_size(batch_size)
        rows = self._tensors

        def slice_rows(start: Any) -> Any:
            return tf.nest.map_structure(lambda array: array[start : start + batch_size], rows)

        starts = tf.data.Dataset.range(0, self.examples, batch_size)
        return starts.map(slice_rows).prefetch(tf.data.AUTOTUNE)

    def numpy_batches(self, batch_size: int) -> Iterator[tuple[Nested, Nested | None]]:
        """Yield ``(inputs, labels)`` in order as NumPy arrays."""
        check_batch_size(batch_size)
        for start in range(0, self.examples, batch_size):
            part = self._rows(slice(start, start + batch_size))
            yield part.inputs, part.labels

    def sample_inputs(self, count: int, *, seed: int) -> Nested:
        """Return the inputs of ``count`` random rows, or of all if there are fewer."""
        order = np.random.default_rng(seed).permutation(self.examples)
        return self._rows(order[: check_count(count)]).inputs

    def take(self, limit: int) -> ArraySplit:
        """Return the first ``limit`` rows."""
        return self._rows(slice(0, check_count(limit)))

    def select(self, rows: Array) -> ArraySplit:
        """Return the rows with the given numbers."""
        return self._rows(rows)

    def statistics(self) -> tuple[InputStatistics, ...]:
        """Return the spread of each input, in the order of ``tf.nest.flatten``."""
        return tuple(input_statistics(array) for array in tf.nest.flatten(self.inputs))

    def _rows(self, rows: Any) -> ArraySplit:
        def pick(nested: Nested | None) -> Nested | None:
            if nested is None:
                return None
            return tf.nest.map_structure(lambda array: array[rows], nested)

        weight = None if self.sample_weight is None else self.sample_weight[rows]
        return replace(
            self, inputs=pick(self.inputs), labels=pick(self.labels), sample_weight=weight
        )

    @cached_property
    def _tensors(self) -> tuple[Any, ...]:
        """Return (x,), (x, y) or (x, y, weight) as tensors, copied once."""
        parts = [self.inputs, self.labels, self.sample_weight]
        used = parts[: 3 if self.sample_weight is not None else 2 if self.has_labels else 1]
        with tf.device("CPU:0"):
            return tuple(tf.nest.map_structure(tf.constant, part) for part in used)


def check_count(count: int) -> int:
    """Return ``count`` if at least one row is asked for.

    Args:
        count: Rows asked for.

    Returns:
        The same number.

    Raises:
        DataError: If ``count < 1``.
    """
    if count < 1:
        raise DataError(f"At least 1 example must be asked for. Received: {count}.")
    return count
