"""Score outputs against labels row by row, so that two models can be compared in pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tfopt.errors import DataError, VerificationError

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class TaskMetric:
    """A metric that is the mean of one score a row.

    Attributes:
        name: ``accuracy``, ``top_5_accuracy``, ``mean_squared_error`` or
            ``mean_absolute_error``.
        threshold: With one output a row, the value above which it means class 1:
            0.5 for probabilities, 0 for logits.
    """

    name: str
    threshold: float = 0.5

    @property
    def higher_is_better(self) -> bool:
        """Return whether a larger mean score is better."""
        return self.name in {"accuracy", "top_5_accuracy"}

    def rows(self, outputs: Array, labels: Array) -> npt.NDArray[np.float64]:
        """Return one score a row.

        Args:
            outputs: Model outputs, shape ``(rows, ..., classes)`` for classes or the
                labels' shape for numbers. Logits or probabilities.
            labels: Class numbers of shape ``(rows, ...)``, one-hot rows of the outputs'
                shape, or numbers.

        Returns:
            Scores, shape ``(rows,)``; positions of a sequence are averaged.

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
        if self.name in {"accuracy", "top_5_accuracy"}:
            scores = self._hits(outputs, labels)
        else:
            scores = self._errors(outputs, labels)
        return scores.reshape(len(labels), -1).mean(axis=1)

    def _hits(self, outputs: Array, labels: Array) -> npt.NDArray[np.float64]:
        if outputs.ndim > 1 and outputs.shape[-1] > 1:
            if labels.shape == outputs.shape:
                labels = labels.argmax(axis=-1)
            elif labels.shape == (*outputs.shape[:-1], 1):
                labels = labels[..., 0]
            if labels.shape != outputs.shape[:-1]:
                raise _misfit(self.name, outputs, labels)
            if self.name == "accuracy":
                return np.asarray(outputs.argmax(axis=-1) == labels, np.float64)
            best = np.argsort(-np.asarray(outputs, np.float64), axis=-1, kind="stable")[..., :5]
            return np.asarray((best == labels[..., None]).any(axis=-1), np.float64)
        flat, truth = self._same_shape(outputs, labels)
        said_one = np.asarray(flat, np.float64) > self.threshold
        return np.asarray(said_one == (np.asarray(truth, np.float64) > 0.5), np.float64)

    def _errors(self, outputs: Array, labels: Array) -> npt.NDArray[np.float64]:
        flat, truth = self._same_shape(outputs, labels)
        difference = np.asarray(flat, np.float64) - np.asarray(truth, np.float64)
        return np.abs(difference) if self.name == "mean_absolute_error" else difference**2

    def _same_shape(self, outputs: Array, labels: Array) -> tuple[Array, Array]:
        """Return both as one row of numbers an example; sides of length 1 do not count."""
        if _sides(outputs) != _sides(labels):
            raise _misfit(self.name, outputs, labels)
        rows = len(outputs)
        return outputs.reshape(rows, -1), labels.reshape(rows, -1)


def _sides(array: Array) -> list[int]:
    return [side for side in array.shape[1:] if side != 1]


def _misfit(metric: str, outputs: Array, labels: Array) -> DataError:
    return DataError(
        f"{metric} cannot score outputs of shape {outputs.shape} against labels of shape "
        f"{labels.shape}. Give class numbers of shape {outputs.shape[:-1]}, or labels of the "
        "outputs' own shape."
    )
