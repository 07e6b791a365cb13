"""Labelled data that the Python functions are given, read for a model."""

from __future__ import annotations

from typing import Any, Literal

from tfopt.data.labels import as_class_numbers
from tfopt.data.split import Split, split_from
from tfopt.errors import DataError
from tfopt.keras2.core import Model
from tfopt.training.task import Task, read_task, require_inputs


def labelled_split(model: Model, train: Any) -> tuple[Split, Task]:
    """Return training data as a split, and what the model is trained for on it.

    Args:
        model: A built tf_keras model with one output.
        train: ``(x, y)`` arrays or a batched ``tf.data.Dataset``.

    Raises:
        DataError: If there are no labels, or the data does not fit the model.
        ModelError: If the model has several outputs.
    """
    split = split_from(train, what="training data")
    if not split.has_labels:
        raise DataError("The training data has no labels. Give a tuple (x, y), or a dataset of it.")
    require_inputs(model, split, what="training data")
    split, classes = as_class_numbers(split, task=task_of(model, split), what="training data")
    return split, read_task(model, split, classes=classes)


def task_of(model: Model, split: Split) -> Literal["auto", "classification", "regression"]:
    """Return what labels must be for a model, where its output settles that.

    Class numbers are often stored as floats, and amounts as whole numbers.
    """
    output, labels = model.outputs[0].shape, split.label_spec
    if len(model.outputs) != 1 or labels is None or not hasattr(labels, "shape"):
        return "auto"
    if output[-1] == 1:
        numbers = split.class_numbers
        return "auto" if numbers is None or numbers.max(initial=0) <= 1 else "regression"
    is_number_each = labels.shape.rank == output.rank - 2 or labels.shape[-1] == 1
    return "classification" if is_number_each else "auto"
