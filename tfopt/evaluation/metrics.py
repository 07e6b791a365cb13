"""The task metrics: what each row adds, the value, the name for people, and the Keras metric.

Rows are scored one by one, so that two models can be compared in pairs. A new metric is a
subclass of ``Metric`` and a line in ``tfopt.config.components.METRICS``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from tfopt.config.components import METRICS
from tfopt.errors import DataError, VerificationError
from tfopt.evaluation.comparison import Drop, paired_drop
from tfopt.registry import resolve
from tfopt.results import MetricInfo, MetricUnit

Array = npt.NDArray[np.generic]
Rows = npt.NDArray[np.float64]
LabelKind: TypeAlias = Literal["classes", "binary", "numbers"]
"""One of several classes, one output that tells two classes apart, or numbers to predict."""

CLASSES: frozenset[LabelKind] = frozenset({"classes", "binary"})
NUMBERS: frozenset[LabelKind] = frozenset({"numbers"})


@dataclass(frozen=True, slots=True)
class LabelForm:
    """How the labels of a task are written.

    Attributes:
        kind: What they are.
        one_hot: Whether they are one-hot rows rather than class numbers.
        by_position: Whether there is a class number for each position of an output, such
            as a token; those below 0 do not count.
        classes: Number of classes; None for numbers.
    """

    kind: LabelKind
    one_hot: bool = False
    by_position: bool = False
    classes: int | None = None


@dataclass(frozen=True)
class Metric(ABC):
    """A metric that follows from what each row adds to it.

    Class attributes:
        name: Name in recipes, logs and ``results.json``: ``top_5_accuracy``.
        label: Name in sentences: ``top-5 accuracy``.
        unit: How values and drops are written; ``points`` for a share in ``[0, 1]``.
        higher_is_better: Direction. The gate's ``max_drop`` is read in it, in units of
            the value: the worst allowed value is ``max_drop`` below or above the baseline.
        label_kinds: Kinds of labels that it can score.

    Attributes:
        threshold: With one output a row, the value above which it means class 1:
            0.5 for probabilities, 0 for logits.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    unit: ClassVar[MetricUnit] = "number"
    higher_is_better: ClassVar[bool]
    label_kinds: ClassVar[frozenset[LabelKind]]

    threshold: float = 0.5

    @abstractmethod
    def score(self, outputs: Array, labels: Array) -> Rows:
        """Return what each row adds; ``rows`` is for callers, and checks first.

        Args:
            outputs: As for ``rows``, finite.
            labels: As for ``rows``, as many as there are outputs.

        Returns:
            As for ``rows``.
        """

    @abstractmethod
    def training_metric(self, labels: LabelForm) -> Any:
        """Return the ``tf_keras`` metric, named ``name``, that is logged in training."""

    def unsuitable(self, outputs: int | None) -> str | None:
        """Return why the metric does not suit a model, or None if it does.

        Args:
            outputs: Entries of the last axis of the model's output.

        Returns:
            A clause for people that follows the metric's name.
        """
        return None

    def rows(self, outputs: Array, labels: Array) -> Rows:
        """Return what each row adds to the metric; ``value`` makes the metric of it.

        Args:
            outputs: Model outputs, shape ``(rows, ..., classes)`` for classes or the
                labels' shape for numbers. Logits or probabilities.
            labels: Class numbers of shape ``(rows, ...)``, one-hot rows of the outputs'
                shape, or numbers. Positions of a negative class number do not count.

        Returns:
            Scores, shape ``(rows,)``, whose mean is the metric; or sums, shape ``(rows,
            sums)``, of which ``of_sums`` makes the metric.

        Raises:
            DataError: If labels and outputs do not fit each other.
            VerificationError: If an output is NaN or infinite.

        Example:
            >>> Accuracy().rows(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
            array([1., 0.])
        """
        if len(outputs) != len(labels):
            raise DataError(f"{len(outputs)} rows of outputs, but {len(labels)} labels.")
        if outputs.dtype.kind == "f" and not np.isfinite(outputs).all():
            raise VerificationError(f"{self.name} cannot score outputs that hold NaN or infinity.")
        return self.score(outputs, labels)

    def of_sums(self, sums: Rows) -> Rows:
        """Return the metric of summed rows: the first sum over the second.

        Args:
            sums: Sums over rows, shape ``(..., sums)``.

        Returns:
            Shape ``(...)``; NaN where nothing was counted.
        """
        with np.errstate(invalid="ignore"):
            return np.asarray(sums[..., 0] / sums[..., 1])

    def value(self, rows: Rows) -> float:
        """Return the metric of rows.

        Args:
            rows: As from ``rows``, of all batches.

        Raises:
            DataError: If no position counts.

        Example:
            >>> Accuracy().value(np.array([[1.0, 2.0], [2.0, 2.0]]))
            0.75
        """
        if rows.ndim == 1:
            return float(rows.mean())
        value = float(self.of_sums(rows.sum(axis=0)))
        if np.isnan(value):
            raise DataError(f"{self.name}: every label is negative, so there is nothing to score.")
        return value

    def drop(self, reference: Rows, candidate: Rows) -> Drop:
        """Return how much worse a candidate scores than its reference on the same rows.

        Args:
            reference: As from ``rows``, through the reference.
            candidate: As from ``rows``, through the candidate.
        """
        return paired_drop(
            reference,
            candidate,
            higher_is_better=self.higher_is_better,
            of_sums=self.of_sums if candidate.ndim > 1 else None,
        )

    def info(self, examples: int) -> MetricInfo:
        """Return what readers of a result need to know of the metric.

        Args:
            examples: Rows that it was measured on.
        """
        return MetricInfo(
            name=self.name,
            higher_is_better=self.higher_is_better,
            examples=examples,
            label=self.label,
            unit=self.unit,
        )


def metric_class(name: str) -> type[Metric]:
    """Return the metric that ``METRICS`` lists as ``name``.

    Raises:
        InputError: If there is none.
    """
    found: type[Metric] = resolve(METRICS, "metric", name)
    return found


class Accuracy(Metric):
    """Share of rows whose class is right.

    Of classes in several positions (a tag for each token) it is the share of all positions
    whose label is not negative.
    """

    name = "accuracy"
    label = "accuracy"
    unit = "points"
    higher_is_better = True
    label_kinds = CLASSES

    def score(self, outputs: Array, labels: Array) -> Rows:
        """Return 1 or 0 for each row; right and counted positions where there are several."""
        predicted, true = predicted_and_true(self, outputs, labels)
        return _hit_rows(np.asarray(predicted == true), _not_negative(true))

    def training_metric(self, labels: LabelForm) -> Any:
        """Return the accuracy of Keras that takes labels of this form."""
        from tfopt.evaluation.training_metrics import PositionAccuracy
        from tfopt.keras2.core import keras

        if labels.by_position:
            return PositionAccuracy(self.name)
        if labels.kind == "binary":
            return keras.metrics.BinaryAccuracy(self.name, threshold=self.threshold)
        if labels.one_hot:
            return keras.metrics.CategoricalAccuracy(self.name)
        return keras.metrics.SparseCategoricalAccuracy(self.name)


class Top5Accuracy(Metric):
    """Share of rows, or of positions, whose class is among the five largest outputs."""

    name = "top_5_accuracy"
    label = "top-5 accuracy"
    unit = "points"
    higher_is_better = True
    label_kinds = CLASSES

    def unsuitable(self, outputs: int | None) -> str | None:
        """Refuse up to five outputs."""
        if outputs is not None and outputs > 5:
            return None
        return f"needs more than five outputs; there are {outputs}, so every row would be right"

    def score(self, outputs: Array, labels: Array) -> Rows:
        """Return 1 or 0 for each row; right and counted positions where there are several."""
        labels = class_numbers(self, outputs, labels)
        best = np.argsort(-np.asarray(outputs, np.float64), axis=-1, kind="stable")[..., :5]
        return _hit_rows((best == labels[..., None]).any(axis=-1), _not_negative(labels))

    def training_metric(self, labels: LabelForm) -> Any:
        """Return the top-5 accuracy of Keras that takes labels of this form."""
        from tfopt.evaluation.training_metrics import PositionTopFive
        from tfopt.keras2.core import keras

        if labels.by_position:
            return PositionTopFive(5, self.name)
        if labels.one_hot:
            return keras.metrics.TopKCategoricalAccuracy(5, self.name)
        return keras.metrics.SparseTopKCategoricalAccuracy(5, self.name)


class MacroF1(Metric):
    """Mean over classes of ``2 hits / (predicted + true)``, counted over all rows.

    Classes that are neither predicted nor true do not count, as in scikit-learn's
    ``f1_score(average="macro", zero_division=0)``.
    """

    name = "macro_f1"
    label = "macro F1"
    unit = "points"
    higher_is_better = True
    label_kinds = CLASSES

    most_classes: ClassVar[int] = 1000
    """The rows hold three counts for each class."""

    def unsuitable(self, outputs: int | None) -> str | None:
        """Refuse more classes than ``most_classes``."""
        if outputs is None or outputs <= self.most_classes:
            return None
        return f"is for up to {self.most_classes} classes; there are {outputs}. Use accuracy"

    def score(self, outputs: Array, labels: Array) -> Rows:
        """Return hits, predicted and true of each class, shape ``(rows, 3 * classes)``."""
        predicted, true = predicted_and_true(self, outputs, labels)
        rows, classes = len(outputs), max(2, outputs.shape[-1] if outputs.ndim > 1 else 1)
        predicted, true = (
            np.asarray(part, np.int64).reshape(rows, -1) for part in (predicted, true)
        )
        counted = _not_negative(true)
        row = np.broadcast_to(np.arange(rows)[:, None], true.shape)
        counts = np.zeros((3, rows, classes))
        for place, (numbers, where) in enumerate(
            ((true, counted & (predicted == true)), (predicted, counted), (true, counted))
        ):
            np.add.at(counts[place], (row[where], numbers[where]), 1.0)
        return np.concatenate(counts, axis=1)

    def of_sums(self, sums: Rows) -> Rows:
        """Return the mean over the classes that occur."""
        hits, predicted, true = np.split(sums, 3, axis=-1)
        occurs = predicted + true
        scores = np.where(occurs > 0, 2 * hits / np.maximum(occurs, 1), 0.0)
        with np.errstate(invalid="ignore"):
            return np.asarray(scores.sum(axis=-1) / (occurs > 0).sum(axis=-1))

    def training_metric(self, labels: LabelForm) -> Any:
        """Return the metric that sums the counts over batches."""
        from tfopt.evaluation.training_metrics import MacroF1Score

        return MacroF1Score(
            self.name, classes=max(2, labels.classes or 0), threshold=self.threshold
        )


class MeanSquaredError(Metric):
    """Mean of the squared differences of numbers."""

    name = "mean_squared_error"
    label = "mean squared error"
    higher_is_better = False
    label_kinds = NUMBERS

    def score(self, outputs: Array, labels: Array) -> Rows:
        """Return the mean of each row."""
        return np.asarray((differences(self, outputs, labels) ** 2).mean(axis=1))

    def training_metric(self, labels: LabelForm) -> Any:
        """Return that of Keras."""
        from tfopt.keras2.core import keras

        return keras.metrics.MeanSquaredError(self.name)


class MeanAbsoluteError(Metric):
    """Mean of the magnitudes of the differences of numbers."""

    name = "mean_absolute_error"
    label = "mean absolute error"
    higher_is_better = False
    label_kinds = NUMBERS

    def score(self, outputs: Array, labels: Array) -> Rows:
        """Return the mean of each row."""
        return np.asarray(np.abs(differences(self, outputs, labels)).mean(axis=1))

    def training_metric(self, labels: LabelForm) -> Any:
        """Return that of Keras."""
        from tfopt.keras2.core import keras

        return keras.metrics.MeanAbsoluteError(self.name)


def predicted_and_true(metric: Metric, outputs: Array, labels: Array) -> tuple[Array, Array]:
    """Return the class numbers that outputs and labels mean, of one shape.

    Args:
        metric: Whose threshold decides on one output a row.
        outputs: As for ``Metric.rows``.
        labels: As for ``Metric.rows``.

    Raises:
        DataError: If labels and outputs do not fit each other.
    """
    if outputs.ndim > 1 and outputs.shape[-1] > 1:
        labels = class_numbers(metric, outputs, labels)
        return outputs.argmax(axis=-1), labels
    flat, truth = _flat_rows(metric, outputs, labels)
    if flat.shape[1] == 1:
        flat, truth = flat[:, 0], truth[:, 0]
    predicted_one = np.asarray(flat, np.float64) > metric.threshold
    numbers = np.asarray(truth, np.float64)
    true = np.where(numbers < 0, -1, numbers > 0.5).astype(np.int64)
    return predicted_one.astype(np.int64), true


def class_numbers(metric: Metric, outputs: Array, labels: Array) -> Array:
    """Return labels as class numbers, one for each position of the outputs.

    Raises:
        DataError: If labels and outputs do not fit each other.
    """
    if labels.shape == outputs.shape:
        labels = labels.argmax(axis=-1)
    elif labels.shape == (*outputs.shape[:-1], 1):
        labels = labels[..., 0]
    if labels.shape != outputs.shape[:-1]:
        raise _misfit(metric, outputs, labels)
    return labels


def differences(metric: Metric, outputs: Array, labels: Array) -> Rows:
    """Return outputs less labels, shape ``(rows, numbers)``.

    Raises:
        DataError: If they are of different shapes, sides of length 1 aside.
    """
    flat, truth = _flat_rows(metric, outputs, labels)
    return np.asarray(flat, np.float64) - np.asarray(truth, np.float64)


def _flat_rows(metric: Metric, outputs: Array, labels: Array) -> tuple[Array, Array]:
    """Return both as one row of numbers an example; sides of length 1 do not count."""
    if _sides(outputs) != _sides(labels):
        raise _misfit(metric, outputs, labels)
    rows = len(outputs)
    return outputs.reshape(rows, -1), labels.reshape(rows, -1)


def _hit_rows(hits: npt.NDArray[np.bool_], counted: npt.NDArray[np.bool_]) -> Rows:
    """Return hits of rows; of positions, how many of a row are right and how many count."""
    if hits.ndim == 1:
        return np.asarray(hits, np.float64)
    sums = [(hits & counted).reshape(len(hits), -1).sum(axis=1)]
    sums.append(counted.reshape(len(hits), -1).sum(axis=1))
    return np.stack(sums, axis=1).astype(np.float64)


def _not_negative(labels: Array) -> npt.NDArray[np.bool_]:
    return np.asarray(np.asarray(labels, np.float64) >= 0)


def _sides(array: Array) -> list[int]:
    return [side for side in array.shape[1:] if side != 1]


def _misfit(metric: Metric, outputs: Array, labels: Array) -> DataError:
    return DataError(
        f"{metric.name} cannot score outputs of shape {outputs.shape} against labels of shape "
        f"{labels.shape}. Give class numbers of shape {outputs.shape[:-1]}, or labels of the "
        "outputs' own shape."
    )
