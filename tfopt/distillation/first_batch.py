"""Look at the first rows of whatever ``fit`` is given, without losing them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfopt.errors import DataError
from tfopt.keras2.core import keras

_ROWS = 32


class TaughtInputs(NamedTuple):
    """Inputs together with what the teachers say about them, as the cache gives them.

    Attributes:
        inputs: A batch of inputs of the student.
        teachers: One ``TeacherResult`` for each teacher.
    """

    inputs: Any
    teachers: Any


def first_rows(x: Any) -> tuple[Any, Any]:
    """Return the first inputs as tensors, and data to go on with in place of ``x``.

    Args:
        x: What Keras takes: arrays, a dataset, a ``Sequence``, a generator.

    Returns:
        At most 32 rows of inputs or ``TaughtInputs``; and ``x``, or an iterator that gives
        the batch again that had to be taken out of a generator.

    Raises:
        DataError: If there are no rows.
    """
    rest = x
    if isinstance(x, tf.data.Dataset | tf.distribute.DistributedDataset):
        batch = _inputs_of(_next(iter(x)))
    elif isinstance(x, keras.utils.Sequence):
        if not len(x):
            raise DataError("The training data has no batches.")
        batch = _inputs_of(x[0])
    elif isinstance(x, Iterator):
        taken = _next(x)
        batch, rest = _inputs_of(taken), itertools.chain([taken], x)
        # Keras takes generators, and a chain is none.
        rest = (one for one in rest)
    else:
        batch = x
    rows = tf.nest.map_structure(_head, batch)
    if not tf.nest.flatten(rows) or any(t.shape[0] == 0 for t in tf.nest.flatten(rows)):
        raise DataError("The training data has no rows.")
    return rows, rest


def _next(batches: Iterator[Any]) -> Any:
    found = next(batches, None)
    if found is None:
        raise DataError("The training data has no batches.")
    # A distributed dataset gives a value for each replica; the first has rows.
    strategy = tf.distribute.get_strategy()
    return tf.nest.map_structure(lambda v: strategy.experimental_local_results(v)[0], found)


def _inputs_of(batch: Any) -> Any:
    return keras.utils.unpack_x_y_sample_weight(batch)[0]


def _head(value: Any) -> Any:
    if isinstance(value, tf.RaggedTensor):
        return value[:_ROWS]
    try:
        tensor = tf.convert_to_tensor(value[:_ROWS])
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise DataError(
            f"The inputs must be arrays or tensors with rows first. Received: {type(value)}."
        ) from error
    # Keras feeds single precision.
    return tf.cast(tensor, tf.float32) if tensor.dtype == tf.float64 else tensor


def mask_from(mask: Any, inputs: Any) -> Any:
    """Return which positions are real, ``(rows, positions)``, or None.

    Args:
        mask: None, the name of an input that is 1 there, or a function of the inputs.
        inputs: A batch of them.

    Raises:
        DataError: If there is no such input.
    """
    if mask is None:
        return None
    if callable(mask):
        return tf.cast(mask(inputs), tf.bool)
    if not isinstance(inputs, Mapping) or mask not in inputs:
        known = sorted(inputs) if isinstance(inputs, Mapping) else "no names"
        raise DataError(f"There is no input {mask!r} to be the mask. The inputs have: {known}.")
    return tf.cast(inputs[mask], tf.bool)


def agree(one: Any, other: Any, *, tolerance: float) -> bool:
    """Return whether two structures of arrays agree, NaN never.

    Args:
        one: Arrays.
        other: Arrays of the same names.
        tolerance: Largest allowed difference over the largest magnitude.
    """
    for ours, theirs in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        first, second = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        if first.shape != second.shape:
            return False
        limit = tolerance * max(1.0, float(np.abs(first).max(initial=0)))
        if not float(np.abs(first - second).max(initial=0)) <= limit:
            return False
    return True
