"""Examples read from a ``tf.data.Dataset``, for data that does not fit in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.data.arrays import ArraySplit, check_count
from tfopt.data.augment import make_augment
from tfopt.data.checks import Array, Nested, bytes_per_example
from tfopt.data.epochs import EpochPlan, check_batch_size, epoch_batches
from tfopt.data.sharding import Part, Share
from tfopt.data.statistics import InputStatistics, input_statistics
from tfopt.errors import DataError

_SHUFFLE_BYTES = 256 * 1024**2
_STATISTICS_EXAMPLES = 10_000
_READ_BATCH = 256
_GRAPH_SEED = 1


@dataclass(frozen=True, eq=False)
class StreamSplit:
    """Examples from a dataset; see ``tfopt.data.split.Split`` for the contract.

    Attributes:
        elements: Dataset of single examples, in tuples ``(x,)``, ``(x, y)`` or
            ``(x, y, weight)``, before ``decode``.
        examples: How many it yields.
        what: How messages name it.
        decode: Applied to each element after shuffling, so that the shuffle buffer holds
            file names or encoded bytes; None if ``elements`` are final.
        spec: ``element_spec`` after ``decode``.
        class_names: Names of the classes in label order, if labels were text.
        class_numbers: All labels in order, if known; for stratified selection.
        is_stable: Whether reading twice gives the same examples in the same order; false
            if the user's pipeline shuffles or augments by itself.
        is_pipeline: Whether ``elements`` are computed examples of the user's pipeline, all of
            which each of several processes runs to keep its own.
        shuffle_buffer: Elements in the shuffle buffer of an epoch; None takes as many as
            256 MB hold.
    """

    elements: Any
    examples: int
    what: str
    spec: tuple[Nested, ...]
    decode: Callable[..., Any] | None = None
    class_names: tuple[str, ...] | None = None
    class_numbers: Array | None = None
    is_stable: bool = True
    is_pipeline: bool = False
    shuffle_buffer: int | None = None

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise DataError(f"{self.what}: there are no examples.")

    @property
    def has_labels(self) -> bool:
        """Return whether there are labels."""
        return len(self.spec) > 1

    @property
    def input_spec(self) -> Nested:
        """Return the nested ``tf.TensorSpec`` of one example's inputs."""
        return self.spec[0]

    @property
    def label_spec(self) -> Nested | None:
        """Return the nested ``tf.TensorSpec`` of one example's label, or None."""
        return self.spec[1] if self.has_labels else None

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the batches in an epoch, the last smaller one included."""
        check_batch_size(batch_size)
        return math.ceil(self.examples / batch_size)

    def training_batches(self, plan: EpochPlan) -> Any:
        """Return shuffled, augmented batches; see ``Split``."""
        buffer = self.shuffle_buffer or shuffle_buffer(bytes_per_example(self.spec))

        def shuffled_epoch(epoch_seed: Any) -> Any:
            if not tf.executing_eagerly():
                # Sets the seed of the graph being traced, not of the process. Without it
                # shuffle() mixes in the global seed, and fails if that is 0.
                tf.random.set_seed(_GRAPH_SEED)
            shuffled = self.elements.shuffle(
                min(buffer, self.examples),
                seed=epoch_seed[0] ^ epoch_seed[1],
                reshuffle_each_iteration=False,
            )
            return self._parts(shuffled, plan)

        return epoch_batches(
            plan,
            examples=self.examples,
            one_epoch=shuffled_epoch,
            finish=lambda batch: batch,
            augment=make_augment(plan.augment, self.input_spec),
        )

    def batches(self, batch_size: int) -> Any:
        """Return the batches in order, unchanged, as a ``tf.data.Dataset``."""
        check_batch_size(batch_size)
        batches = self._decoded(self.elements).batch(batch_size)
        counted = tf.data.experimental.assert_cardinality(self.steps_per_epoch(batch_size))
        return batches.apply(counted).prefetch(tf.data.AUTOTUNE)

    def numpy_batches(self, batch_size: int) -> Iterator[tuple[Nested, Nested | None]]:
        """Yield ``(inputs, labels)`` in order; DataError if the dataset fails."""
        for batch in read(self.batches(batch_size), self.what):
            yield batch[0], batch[1] if len(batch) > 1 else None

    def sample_inputs(self, count: int, *, seed: int) -> Nested:
        """Return the inputs of ``count`` random rows, or of all if there are fewer."""
        order = np.random.default_rng(seed).permutation(self.examples)[: check_count(count)]
        return in_memory(self.select(np.sort(order))).inputs

    def take(self, limit: int) -> StreamSplit:
        """Return the first ``limit`` rows."""
        return self.select(np.arange(min(check_count(limit), self.examples)))

    def select(self, rows: Array) -> StreamSplit:
        """Return the rows with the given numbers, in the order of the stream."""
        wanted = np.zeros(self.examples, bool)
        wanted[rows] = True
        keep = tf.constant(wanted)
        picked = self.elements.take(self.examples).enumerate().filter(lambda row, _: keep[row])
        numbers = None if self.class_numbers is None else self.class_numbers[wanted]
        return replace(
            self,
            elements=picked.map(lambda _, element: element),
            examples=int(wanted.sum()),
            class_numbers=numbers,
        )

    def statistics(self) -> tuple[InputStatistics, ...]:
        """Return the spread of each input over up to 10,000 random rows."""
        sample = self.sample_inputs(_STATISTICS_EXAMPLES, seed=0)
        return tuple(input_statistics(array) for array in tf.nest.flatten(sample))

    def _parts(self, elements: Any, plan: EpochPlan) -> Any:
        """Return a process's part of every batch of an epoch; no other rows are decoded."""
        share, size = plan.share, plan.batch_size
        if not share.is_whole:
            elements = elements.batch(size).map(lambda *whole: _own(whole, share)).unbatch()
        batches = self._decoded(elements).batch(share.own_rows(size))

        def part(step: Any, *batch: Any) -> Part:
            rows = tf.minimum(tf.constant(size, tf.int64), self.examples - step * size)
            return Part(batch, share.first_place(rows), rows)

        return tf.data.Dataset.zip((tf.data.Dataset.range(plan.steps(self.examples)), batches)).map(
            lambda step, batch: part(step, *batch)
        )

    def _decoded(self, elements: Any) -> Any:
        if self.decode is None:
            return elements
        return elements.map(self.decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _own(whole: tuple[Any, ...], share: Share) -> Any:
    """Return a process's elements of a batch of them, as the dataset had them."""
    content = share.part(whole).content
    return content if len(whole) > 1 else content[0]


def in_memory(split: StreamSplit) -> ArraySplit:
    """Read a stream once and return its examples as arrays.

    Args:
        split: A stream.

    Returns:
        The same examples in the same order.

    Raises:
        DataError: If the dataset fails while it is read, or examples differ in shape.
    """
    batches = list(read(split.batches(_READ_BATCH), split.what))
    try:
        parts = tf.nest.map_structure(lambda *arrays: np.concatenate(arrays), *batches)
    except ValueError as error:
        raise DataError(
            f"{split.what}: the examples differ in shape: {error}. Resize or pad them."
        ) from error
    return replace(ArraySplit(*parts), class_names=split.class_names)


def shuffle_buffer(element_bytes: int) -> int:
    """Return how many elements of this size a shuffle buffer of 256 MB holds, ``>= 1``."""
    return max(1, _SHUFFLE_BYTES // max(1, element_bytes))


def memory_bytes(split: StreamSplit) -> int:
    """Return the bytes that ``in_memory`` would take."""
    return split.examples * bytes_per_example(split.spec)


def read(dataset: Any, what: str) -> Iterator[tuple[Nested, ...]]:
    """Read a dataset, with errors that name it.

    Args:
        dataset: A ``tf.data.Dataset``.
        what: How the message names it.

    Yields:
        Its elements as NumPy arrays.

    Raises:
        DataError: If the dataset fails; the message is the first line of the cause.
    """
    iterator = dataset.as_numpy_iterator()
    while True:
        try:
            element = next(iterator)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            raise DataError(f"{what} cannot be read: {_cause(error)}") from error
        yield element


def _cause(error: Any) -> str:
    """Return the line of TensorFlow's message that names the cause."""
    lines = [line.strip() for line in str(error.message).splitlines() if line.strip()]
    told = [line for line in lines if "DataError: " in line]
    return told[0].partition("DataError: ")[2] if told else (lines or ["unknown error"])[0]
