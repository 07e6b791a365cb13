from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfopt.errors import DataError, VerificationError
from tfopt.metrics import TaskMetric

ACCURACY = TaskMetric("accuracy")
LOGITS = TaskMetric("accuracy", threshold=0.0)
OUTPUTS = np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.2, 0.3, 0.5]], np.float32)

HITS: dict[str, tuple[TaskMetric, Any, Any, list[float]]] = {
    "class numbers": (ACCURACY, OUTPUTS, np.array([1, 1, 2]), [1, 0, 1]),
    "a column of them": (ACCURACY, OUTPUTS, np.array([[1], [1], [2]]), [1, 0, 1]),
    "one-hot": (ACCURACY, OUTPUTS, np.eye(3)[[1, 1, 2]], [1, 0, 1]),
    "probability": (ACCURACY, np.array([[0.6], [0.4]]), np.array([1, 1]), [1, 0]),
    "logit": (LOGITS, np.array([[0.4], [-1]]), np.array([1, 1]), [1, 0]),
    "sequence": (ACCURACY, np.eye(3)[[[0, 1], [2, 2]]], np.array([[0, 1], [2, 0]]), [1, 0.5]),
    "top five": (
        TaskMetric("top_5_accuracy"),
        np.array([[6.0, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1]]),
        np.array([4, 5]),
        [1, 0],
    ),
    "squares": (TaskMetric("mean_squared_error"), np.array([[1.0], [3]]), np.array([0, 0]), [1, 9]),
    "magnitudes": (
        TaskMetric("mean_absolute_error"),
        np.array([[1.0, -3.0]]),
        np.array([[0.0, 0.0]]),
        [2],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HITS)
def test_scores_by_hand(name: str) -> None:
    metric, outputs, labels, expected = HITS[name]
    scores = metric.rows(outputs, labels)
    assert scores.dtype == np.float64
    assert scores.tolist() == expected


def test_unsigned_numbers_do_not_wrap_around() -> None:
    scores = TaskMetric("mean_absolute_error").rows(
        np.array([[1]], np.uint8), np.array([[3]], np.uint8)
    )
    assert scores.tolist() == [2.0]


MISFITS = {
    "rows": (ACCURACY, np.zeros((3, 2)), np.zeros(2, int), "3 rows of outputs, but 2 labels"),
    "classes": (ACCURACY, np.zeros((3, 2)), np.zeros((3, 4)), r"shape \(3, 2\) .*\(3, 4\)"),
    "one output": (ACCURACY, np.zeros((3, 1)), np.zeros((3, 2)), "accuracy cannot score"),
    "broadcast": (
        TaskMetric("mean_squared_error"), np.zeros((3, 1)), np.zeros((3, 3)), "cannot score",
    ),
    "same size": (
        TaskMetric("mean_squared_error"), np.zeros((2, 2, 3)), np.zeros((2, 3, 2)), "cannot score",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_shapes_that_do_not_fit(name: str) -> None:
    metric, outputs, labels, message = MISFITS[name]
    with pytest.raises(DataError, match=message):
        metric.rows(outputs, labels)


@pytest.mark.parametrize("name", ["accuracy", "mean_squared_error"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_not_finite_are_not_scored(name: str, value: float) -> None:
    outputs = np.array([[0.5, value]])
    labels = np.array([0]) if name == "accuracy" else np.zeros((1, 2))
    with pytest.raises(VerificationError, match=f"{name} cannot score outputs that hold NaN"):
        TaskMetric(name).rows(outputs, labels)


def test_direction() -> None:
    assert ACCURACY.higher_is_better
    assert TaskMetric("top_5_accuracy").higher_is_better
    assert not TaskMetric("mean_squared_error").higher_is_better
