"""Score outputs against labels row by row, so that two models can be compared in pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tfopt.errors import DataError, VerificationError

Array = npt.NDArray[np.generic]
Rows = npt.NDArray[np.float64]

CLASS_METRICS = ("accuracy", "top_5_accuracy", "macro_f1")
"""Metrics of class numbers; the others are of numbers."""


@dataclass(frozen=True, slots=True)
class TaskMetric:
    """A metric that follows from what each row adds to it.

    Accuracies and errors are means over rows; of class numbers in several positions (a
    tag for each token) they are means over all positions whose label is not negative.
    ``macro_f1`` is the mean over classes of ``2 hits / (said + true)``, with hits, said
    and true counted over all rows; classes that are neither said nor true do not count
    (as in scikit-learn's ``f1_score(average="macro", zero_division=0)``).

    Attributes:
        name: ``accuracy``, ``top_5_accuracy``, ``macro_f1``, ``mean_squared_error`` or
            ``mean_absolute_error``.
        threshold: With one output a row, the value above which it means class 1:
            0.5 for probabilities, 0 for logits.
    """

    name: str
    threshold: float = 0.5

    @property
    def higher_is_better(self) -> bool:
        """Return whether a larger value is better."""
        return self.name in CLASS_METRICS

    def rows(self, outputs: Array, labels: Array) -> Rows:
        """Return what each row adds to the metric; ``value`` makes the metric of it.

        Args:
            outputs: Model outputs, shape ``(rows, ..., classes)`` for classes or the
                labels' shape for numbers. Logits or probabilities.
            labels: Class numbers of shape ``(rows, ...)``, one-hot rows of the outputs'
                shape, or numbers. Positions of a negative class number do not count.

        Returns:
            Scores, shape ``(rows,)``, whose mean is the metric; or sums, shape ``(rows,
            sums)``: right and counted positions, or the counts of ``macro_f1``.

        Raises:
            DataError: If labels and outputs do not fit each other.
            VerificationError: If an output is NaN or infinite.

        Example:
            >>> TaskMetric("accuracy").rows(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
            array([1., 0.])
        """
        if len(outputs) != len(labels):
            raise DataError(f"{len(outputs)} rows of outputs, but {len(labels)} labels.")
        if outputs.dtype.kind == "f" and not np.isfinite(outputs).all():
            raise VerificationError(f"{self.name} cannot score outputs that hold NaN or infinity.")
        if self.name == "macro_f1":
            return self._class_counts(outputs, labels)
        if self.name not in CLASS_METRICS:
            return self._errors(outputs, labels).reshape(len(labels), -1).mean(axis=1)
        hits, counted = self._hits(outputs, labels)
        if hits.ndim == 1:
            return np.asarray(hits, np.float64)
        sums = [(hits & counted).reshape(len(hits), -1).sum(axis=1)]
        sums.append(counted.reshape(len(hits), -1).sum(axis=1))
        return np.stack(sums, axis=1).astype(np.float64)

    def value(self, rows: Rows) -> float:
        """Return the metric of rows.

        Args:
            rows: As from ``rows``, of all batches.

        Raises:
            DataError: If no position counts.

        Example:
            >>> TaskMetric("accuracy").value(np.array([[1.0, 2.0], [2.0, 2.0]]))
            0.75
        """
        if rows.ndim == 1:
            return float(rows.mean())
        value = float(self.of_sums(rows.sum(axis=0)))
        if np.isnan(value):
            raise DataError(f"{self.name}: every label is negative, so there is nothing to score.")
        return value

    def of_sums(self, sums: Rows) -> Rows:
        """Return the metric of summed rows.

        Args:
            sums: Sums over rows, shape ``(..., sums)``.

        Returns:
            Shape ``(...)``; NaN where nothing was counted.
        """
        if self.name != "macro_f1":
            with np.errstate(invalid="ignore"):
                return np.asarray(sums[..., 0] / sums[..., 1])
        hits, said, true = np.split(sums, 3, axis=-1)
        occurs = said + true
        scores = np.where(occurs > 0, 2 * hits / np.maximum(occurs, 1), 0.0)
        with np.errstate(invalid="ignore"):
            return np.asarray(scores.sum(axis=-1) / (occurs > 0).sum(axis=-1))

    def _hits(self, outputs: Array, labels: Array) -> tuple[npt.NDArray[np.bool_], ...]:
        """Return where outputs are right and where labels count, of the labels' shape."""
        if outputs.ndim > 1 and outputs.shape[-1] > 1 and self.name == "top_5_accuracy":
            labels = _class_numbers(self.name, outputs, labels)
            best = np.argsort(-np.asarray(outputs, np.float64), axis=-1, kind="stable")[..., :5]
            return (best == labels[..., None]).any(axis=-1), _not_negative(labels)
        said, true = self._said_and_true(outputs, labels)
        hits = np.asarray(said == true)
        return hits, _not_negative(true)

    def _said_and_true(self, outputs: Array, labels: Array) -> tuple[Array, Array]:
        """Return the class numbers that outputs and labels mean, of one shape."""
        if outputs.ndim > 1 and outputs.shape[-1] > 1:
            labels = _class_numbers(self.name, outputs, labels)
            return outputs.argmax(axis=-1), labels
        flat, truth = self._same_shape(outputs, labels)
        if flat.shape[1] == 1:
            flat, truth = flat[:, 0], truth[:, 0]
        said_one = np.asarray(flat, np.float64) > self.threshold
        numbers = np.asarray(truth, np.float64)
        return said_one.astype(np.int64), np.where(numbers < 0, -1, numbers > 0.5).astype(np.int64)

    def _class_counts(self, outputs: Array, labels: Array) -> Rows:
        """Return hits, said and true of each class, shape ``(rows, 3 * classes)``."""
        said, true = self._said_and_true(outputs, labels)
        rows, classes = len(outputs), max(2, outputs.shape[-1] if outputs.ndim > 1 else 1)
        said, true = (np.asarray(part, np.int64).reshape(rows, -1) for part in (said, true))
        counted = _not_negative(true)
        row = np.broadcast_to(np.arange(rows)[:, None], true.shape)
        counts = np.zeros((3, rows, classes))
        for place, (numbers, where) in enumerate(
            ((true, counted & (said == true)), (said, counted), (true, counted))
        ):
            np.add.at(counts[place], (row[where], numbers[where]), 1.0)
        return np.concatenate(counts, axis=1)

    def _errors(self, outputs: Array, labels: Array) -> Rows:
        flat, truth = self._same_shape(outputs, labels)
        difference = np.asarray(flat, np.float64) - np.asarray(truth, np.float64)
        return np.abs(difference) if self.name == "mean_absolute_error" else difference**2

    def _same_shape(self, outputs: Array, labels: Array) -> tuple[Array, Array]:
        """Return both as one row of numbers an example; sides of length 1 do not count."""
        if _sides(outputs) != _sides(labels):
            raise _misfit(self.name, outputs, labels)
        rows = len(outputs)
        return outputs.reshape(rows, -1), labels.reshape(rows, -1)


def _class_numbers(metric: str, outputs: Array, labels: Array) -> Array:
    if labels.shape == outputs.shape:
        labels = labels.argmax(axis=-1)
    elif labels.shape == (*outputs.shape[:-1], 1):
        labels = labels[..., 0]
    if labels.shape != outputs.shape[:-1]:
        raise _misfit(metric, outputs, labels)
    return labels


def _not_negative(labels: Array) -> npt.NDArray[np.bool_]:
    return np.asarray(np.asarray(labels, np.float64) >= 0)


def _sides(array: Array) -> list[int]:
    return [side for side in array.shape[1:] if side != 1]


def _misfit(metric: str, outputs: Array, labels: Array) -> DataError:
    return DataError(
        f"{metric} cannot score outputs of shape {outputs.shape} against labels of shape "
        f"{labels.shape}. Give class numbers of shape {outputs.shape[:-1]}, or labels of the "
        "outputs' own shape."
    )
