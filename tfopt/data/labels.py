"""Tell classes from numbers, and bring labels into one form: int64 class numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfopt.data.checks import Array
from tfopt.data.split import ArraySplit, Split, StreamSplit
from tfopt.data.text.batches import IGNORED
from tfopt.errors import DataError
from tfopt.registry import did_you_mean

Task = Literal["auto", "classification", "regression"]

_MOST_OBVIOUS_CLASSES = 1000


def as_class_numbers(split: Split, *, task: Task, what: str) -> tuple[Split, int | None]:
    """Return the split with int64 class numbers, and the number of classes they need.

    One-hot rows and columns of shape ``(rows, 1)`` become ``(rows,)``. Of labels in
    several positions, those of -100 stay: they neither train nor count.

    Args:
        split: Has labels.
        task: ``auto`` takes text, one-hot rows and small whole numbers as classes, and
            fractional numbers as regression.
        what: How messages name the data.

    Returns:
        The split, and the highest class number plus one; or the split as it was, and
        None for regression.

    Raises:
        DataError: If the labels cannot be what ``task`` says, or ``auto`` cannot tell.
    """
    labels = split.class_numbers
    if task == "regression":
        if split.class_names is not None:
            raise DataError(f"{what}: task is regression, but the labels are text.")
        return _as_float(split), None
    if labels is None:
        if task == "auto":
            return split, None
        raise DataError(f"{what}: classification needs one array of labels.")
    if task == "auto" and labels.dtype.kind == "f" and not _is_one_hot(labels):
        return _as_float(split), None
    numbers = _numbers(labels)
    if numbers is None:
        raise DataError(
            f"{what}: classes must be whole numbers from 0, or one-hot rows. Received: dtype "
            f"{labels.dtype}, shape {labels.shape}, values such as {_some(labels)}. Number the "
            "classes from 0; or, if these are numbers to predict, set data.task: regression (in "
            "Python: give a model with one output)."
        )
    if task == "auto" and _is_unclear(numbers):
        raise DataError(
            f"{what}: labels of shape {labels.shape} with {len(np.unique(numbers))} different "
            f"whole numbers from {numbers.min()} to {numbers.max()} may be classes or amounts. Set "
            "data.task: classification or regression."
        )
    names = split.class_names
    return _with_numbers(split, numbers), len(names) if names else int(numbers.max()) + 1


def same_names(
    splits: Mapping[str, Split], *, order: tuple[str, ...] | None = None
) -> dict[str, Split]:
    """Return the splits with one numbering of class names.

    Text labels are numbered for each split by itself, so a class that is missing from
    one of them would shift its numbers.

    Args:
        splits: Splits by name; unchanged if all have numbers as labels.
        order: Names in label order; None sorts the names found.

    Returns:
        The splits, each with the same ``class_names``.

    Raises:
        DataError: If some splits have text labels and others numbers, or a label is not
            in ``order``.
    """
    named = [split.class_names for split in splits.values() if split.class_names is not None]
    if not named:
        return dict(splits)
    if len(named) < len(splits):
        kinds = ", ".join(
            f"{name}: {'numbers' if split.class_names is None else 'text'}"
            for name, split in splits.items()
        )
        raise DataError(f"The labels are of different kinds ({kinds}). Use one kind everywhere.")
    found = tuple(sorted({name for names in named for name in names}))
    unknown = [name for name in found if order is not None and name not in order]
    if order is not None and unknown:
        raise DataError(
            f"The label {unknown[0]!r} is not a class.{did_you_mean(unknown[0], order)} Known: "
            f"{', '.join(order)}."
        )
    return {name: _renumbered(split, order or found) for name, split in splits.items()}


def _numbers(labels: Array) -> Array | None:
    """Return class numbers of shape ``(rows, ...)``, or None if these are not classes."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and _is_one_hot(labels):
        return labels.argmax(axis=1).astype(np.int64)
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.round(labels)):
        return None
    if labels.dtype.kind not in "biuf":
        return None
    counted = labels[labels != IGNORED] if labels.ndim > 1 else labels
    if counted.size == 0 or counted.min() < 0:
        return None
    return labels.astype(np.int64)


def _is_one_hot(labels: Array) -> bool:
    zero_or_one = bool(np.all((labels == 0) | (labels == 1)))
    return zero_or_one and bool(np.all(labels.sum(axis=1) == 1))


def _is_unclear(numbers: Array) -> bool:
    """Return whether whole numbers may as well be amounts, or several labels a row."""
    classes = int(numbers.max()) + 1
    is_sparse = classes > _MOST_OBVIOUS_CLASSES and 2 * len(np.unique(numbers)) < classes
    return is_sparse or (numbers.ndim == 2 and classes <= 2 and numbers.min() >= 0)


def _with_numbers(split: Any, numbers: Array) -> Split:
    if isinstance(split, ArraySplit):
        return replace(split, labels=numbers)
    shape = numbers.shape[1:]
    width = split.class_numbers.shape[1] if split.class_numbers.ndim == 2 else 0

    def convert(label: Any) -> Any:
        if width > 1 and not shape:
            return tf.argmax(label, axis=-1, output_type=tf.int64)
        return tf.cast(label[0] if width == 1 else label, tf.int64)

    return _mapped(split, convert, tf.TensorSpec(shape, tf.int64), numbers)


def _as_float(split: Any) -> Split:
    def to_float(labels: Any) -> Any:
        return tf.nest.map_structure(lambda leaf: tf.cast(leaf, tf.float32), labels)

    if isinstance(split, ArraySplit):
        floats = tf.nest.map_structure(
            lambda array: array.astype(np.float32, copy=False), split.labels
        )
        return replace(split, labels=floats)
    spec = tf.nest.map_structure(
        lambda leaf: tf.TensorSpec(leaf.shape, tf.float32), split.label_spec
    )
    return _mapped(split, to_float, spec, None)


def _renumbered(split: Split, union: tuple[str, ...]) -> Split:
    names = split.class_names
    numbers = split.class_numbers
    if names is None or names == union:
        return split
    table = np.array([union.index(name) for name in names], np.int64)
    if isinstance(split, ArraySplit):
        own = np.asarray(split.labels)
        renumbered = np.where(own < 0, own, table[np.maximum(own, 0)])
        return replace(split, labels=renumbered, class_names=union)
    lookup = tf.constant(table)
    changed = _mapped(
        split,
        lambda label: tf.gather(lookup, label),
        split.label_spec,
        None if numbers is None else table[numbers],
    )
    return replace(changed, class_names=union)


def _mapped(
    split: Any, change: Callable[[Any], Any], spec: Any, numbers: Array | None
) -> StreamSplit:
    """Return a stream whose labels are changed after decoding."""
    decode = split.decode

    def decoded(*element: Any) -> Any:
        parts = element if decode is None else decode(*element)
        return (parts[0], change(parts[1]), *parts[2:])

    whole = (split.spec[0], spec, *split.spec[2:])
    return replace(split, decode=decoded, spec=whole, class_numbers=numbers)


def _some(labels: Array) -> str:
    return ", ".join(str(value) for value in np.unique(labels)[:3])
