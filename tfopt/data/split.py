"""Examples of one kind (training, evaluation, validation), however they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfopt.data.arrays import ArraySplit
from tfopt.data.checks import (
    Array,
    Nested,
    as_input_arrays,
    as_label_arrays,
    check_finite,
    check_lengths,
    named_leaves,
)
from tfopt.data.epochs import EpochPlan
from tfopt.data.statistics import InputStatistics
from tfopt.data.stream import StreamSplit, in_memory, memory_bytes, read
from tfopt.errors import DataError

__all__ = ["ArraySplit", "Split", "StreamSplit", "in_memory", "memory_bytes", "split_from"]


class Split(Protocol):
    """Examples that can be trained on, evaluated and sampled.

    Inputs are one array, or a tuple or dict of arrays for models with several inputs.
    Batches are tuples ``(x,)``, ``(x, y)`` or ``(x, y, sample_weight)``.
    """

    @property
    def examples(self) -> int:
        """Return the number of rows, ``>= 1``."""

    @property
    def has_labels(self) -> bool:
        """Return whether there are labels."""

    @property
    def input_spec(self) -> Nested:
        """Return the nested ``tf.TensorSpec`` of one example's inputs, without batch axis."""

    @property
    def label_spec(self) -> Nested | None:
        """Return the nested ``tf.TensorSpec`` of one example's label, or None."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Return the names of the classes in label order, if labels were text."""

    @property
    def class_numbers(self) -> Array | None:
        """Return all labels in order if they are one array and known, else None."""

    @property
    def is_stable(self) -> bool:
        """Return whether two readings in order give the same examples."""

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the batches in an epoch; the last may be smaller and counts."""

    def training_batches(self, plan: EpochPlan) -> Any:
        """Return the shuffled, augmented batches of some epochs.

        Order and augmentation of an epoch depend on the seed and its number only, so a
        run resumed at an epoch sees the batches of an uninterrupted run, bit for bit.

        Args:
            plan: Which epochs, how large batches, and whose part of them.

        Returns:
            A ``tf.data.Dataset`` of known cardinality, ``steps_per_epoch`` batches an
            epoch; of a share, batches ``(x, y, weight)``, ``plan.share.count`` of them a step.

        Raises:
            DataError: If the augmentation does not fit the inputs, or there are no labels
                in what is divided.
        """

    def batches(self, batch_size: int) -> Any:
        """Return the batches in order, unchanged, as a ``tf.data.Dataset``."""

    def numpy_batches(self, batch_size: int) -> Iterator[tuple[Nested, Nested | None]]:
        """Yield ``(inputs, labels)`` in order; labels are None if there are none."""

    def sample_inputs(self, count: int, *, seed: int) -> Nested:
        """Return the inputs of up to ``count`` rows, drawn over the whole split."""

    def take(self, limit: int) -> Split:
        """Return the first ``limit`` rows, or all if there are fewer."""

    def select(self, rows: Array) -> Split:
        """Return the rows with the given numbers (ascending, without repeats)."""

    def statistics(self) -> tuple[InputStatistics, ...]:
        """Return the spread of each input, in the order of ``tf.nest.flatten``."""


def split_from(data: Any, *, what: str = "training data", fixed_order: bool = False) -> Split:
    """Return a split of whatever a user passes as data.

    Args:
        data: An array; ``(x, y)``; ``(x, y, sample_weight)``, where ``x`` may be an
            array, a tuple or list of arrays, or a dict of arrays; a ``tf.data.Dataset``
            batched as for ``model.fit``; or a split, which is returned as it is.
        what: How messages name it.
        fixed_order: Read a dataset into memory if it shuffles or augments by itself,
            so that every reading gives the same rows in the same order.

    Returns:
        The split.

    Raises:
        DataError: If the data is of another kind, empty, endless, not numeric, not
            finite, not batched, or its parts differ in length.
    """
    if isinstance(data, ArraySplit | StreamSplit):
        split: Split = data
    elif isinstance(data, tf.data.Dataset):
        split = _from_dataset(data, what)
    elif isinstance(data, tuple):
        split = _from_tuple(data, what)
    elif isinstance(data, list) and any(
        np.ndim(entry) and hasattr(entry, "shape") for entry in data
    ):
        raise DataError(
            f"{what}: a list of arrays may mean (x, y) or several inputs. Write a tuple (x, y), or "
            "((x1, x2), y) for a model with two inputs."
        )
    else:
        split = ArraySplit(as_input_arrays(data, f"{what}: inputs"))
    if fixed_order and isinstance(split, StreamSplit) and not split.is_stable:
        return in_memory(split)
    return split


def _from_tuple(data: tuple[Any, ...], what: str) -> ArraySplit:
    if not 1 <= len(data) <= 3:
        raise DataError(
            f"{what}: expected (x, y) or (x, y, sample_weight). Received: a tuple of {len(data)}. "
            "Several inputs go in a tuple of their own: ((x1, x2, x3), y)."
        )
    inputs = as_input_arrays(data[0], f"{what}: inputs")
    labels, names, weight = None, None, None
    if len(data) > 1 and data[1] is not None:
        labels, names = as_label_arrays(data[1], f"{what}: labels")
    if len(data) > 2 and data[2] is not None:
        weight = _sample_weight(data[2], f"{what}: sample_weight")
        if labels is None:
            raise DataError(f"{what}: sample_weight needs labels. Give (x, y, sample_weight).")
    parts = {"inputs": inputs, "labels": labels, "sample_weight": weight}
    check_lengths({f"{what}: {name}": part for name, part in parts.items() if part is not None})
    return ArraySplit(inputs, labels, weight, class_names=names)


def _sample_weight(value: Any, what: str) -> Array:
    weight = as_input_arrays(value, what)
    if isinstance(weight, np.ndarray) and weight.ndim == 2 and weight.shape[1] == 1:
        weight = weight[:, 0]
    if not isinstance(weight, np.ndarray) or weight.ndim != 1:
        shape = weight.shape if isinstance(weight, np.ndarray) else type(weight).__name__
        raise DataError(f"{what}: give one number a row. Received: {shape}.")
    return weight.astype(np.float32, copy=False)


def _from_dataset(dataset: Any, what: str) -> StreamSplit:
    batched = _as_tuples(dataset, what)
    if int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise DataError(
            f"{what}: the dataset never ends. Remove .repeat(); tfopt repeats the epochs itself."
        )
    _check_batch_axis(batched.element_spec, what)
    examples, numbers = _scan(batched, what)
    spec = tf.nest.map_structure(
        lambda leaf: tf.TensorSpec(leaf.shape[1:], leaf.dtype), batched.element_spec
    )
    return StreamSplit(
        elements=batched.unbatch(),
        examples=examples,
        what=what,
        spec=spec,
        class_numbers=numbers,
        is_stable=_reads_the_same(batched, what),
        is_pipeline=True,
    )


def _as_tuples(dataset: Any, what: str) -> Any:
    """Return the dataset with elements ``(x,)``, ``(x, y)`` or ``(x, y, weight)``."""
    spec = dataset.element_spec
    if not isinstance(spec, tuple):
        return dataset.map(lambda inputs: (inputs,))
    if not 1 <= len(spec) <= 3:
        raise DataError(
            f"{what}: the dataset must yield x, (x, y) or (x, y, sample_weight). Received: tuples "
            f"of {len(spec)}. Several inputs go in a tuple of their own: ((x1, x2), y)."
        )
    return dataset


def _check_batch_axis(spec: tuple[Nested, ...], what: str) -> None:
    for index, part in enumerate(spec):
        for name, leaf in named_leaves(part, ("inputs", "labels", "sample_weight")[index]):
            if not isinstance(leaf, tf.TensorSpec):
                raise DataError(
                    f"{what}: {name} must be dense tensors. Received: {type(leaf).__name__}."
                )
            if leaf.shape.rank is None:
                raise DataError(
                    f"{what}: the shape of {name} is unknown. Give the dataset an output_signature "
                    "with shapes, or call tensor.set_shape() in a map."
                )
            if leaf.shape.rank == 0:
                raise DataError(
                    f"{what}: the dataset is not batched ({name} has no row axis). Call .batch(n) "
                    "on it, as for model.fit."
                )
            if not (leaf.dtype.is_floating or leaf.dtype.is_integer or leaf.dtype.is_bool):
                raise DataError(
                    f"{what}: {name} must be numbers. Received: dtype {leaf.dtype.name}. Map text "
                    "to numbers in the dataset."
                )


def _scan(batched: Any, what: str) -> tuple[int, Array | None]:
    """Read the dataset once: count and check its rows, and keep single labels."""
    examples = 0
    kept: list[Array] = []
    has_class_numbers = (
        len(batched.element_spec) > 1
        and isinstance(batched.element_spec[1], tf.TensorSpec)
        and batched.element_spec[1].shape.rank <= 2
    )
    for batch in read(batched, what):
        names = ("inputs", "labels", "sample_weight")
        parts = {f"{what}: {name}": part for name, part in zip(names, batch, strict=False)}
        try:
            rows = check_lengths(parts)
        except DataError as error:
            raise DataError(f"{error} Is the dataset batched? Call .batch(n) on it.") from error
        for name, part in parts.items():
            for leaf_name, leaf in named_leaves(part, name):
                check_finite(leaf, f"{leaf_name}, batch from row {examples}")
        if has_class_numbers:
            kept.append(batch[1])
        examples += rows
    if examples == 0:
        raise DataError(f"{what}: there are no examples (the dataset is empty).")
    return examples, np.concatenate(kept) if kept else None


def _reads_the_same(batched: Any, what: str) -> bool:
    """Return whether two readings of the first batch agree."""
    first, second = (tf.nest.flatten(next(read(batched.take(1), what))) for _ in range(2))
    return all(np.array_equal(left, right) for left, right in zip(first, second, strict=True))
