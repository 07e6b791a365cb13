from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfopt.errors import DataError, VerificationError
from tfopt.evaluation.metrics import (
    Accuracy,
    MacroF1,
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    Top5Accuracy,
    metric_class,
)

ACCURACY = Accuracy()
LOGITS = Accuracy(threshold=0.0)
OUTPUTS = np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.2, 0.3, 0.5]], np.float32)

HITS: dict[str, tuple[Metric, Any, Any, list[float]]] = {
    "class numbers": (ACCURACY, OUTPUTS, np.array([1, 1, 2]), [1, 0, 1]),
    "a column of them": (ACCURACY, OUTPUTS, np.array([[1], [1], [2]]), [1, 0, 1]),
    "one-hot": (ACCURACY, OUTPUTS, np.eye(3)[[1, 1, 2]], [1, 0, 1]),
    "probability": (ACCURACY, np.array([[0.6], [0.4]]), np.array([1, 1]), [1, 0]),
    "logit": (LOGITS, np.array([[0.4], [-1]]), np.array([1, 1]), [1, 0]),
    "top five": (
        Top5Accuracy(),
        np.array([[6.0, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1]]),
        np.array([4, 5]),
        [1, 0],
    ),
    "squares": (MeanSquaredError(), np.array([[1.0], [3]]), np.array([0, 0]), [1, 9]),
    "magnitudes": (
        MeanAbsoluteError(),
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
    scores = MeanAbsoluteError().rows(np.array([[1]], np.uint8), np.array([[3]], np.uint8))
    assert scores.tolist() == [2.0]


MISFITS = {
    "rows": (ACCURACY, np.zeros((3, 2)), np.zeros(2, int), "3 rows of outputs, but 2 labels"),
    "classes": (ACCURACY, np.zeros((3, 2)), np.zeros((3, 4)), r"shape \(3, 2\) .*\(3, 4\)"),
    "one output": (ACCURACY, np.zeros((3, 1)), np.zeros((3, 2)), "accuracy cannot score"),
    "broadcast": (
        MeanSquaredError(), np.zeros((3, 1)), np.zeros((3, 3)), "cannot score",
    ),
    "same size": (
        MeanSquaredError(), np.zeros((2, 2, 3)), np.zeros((2, 3, 2)), "cannot score",
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
        metric_class(name)().rows(outputs, labels)


def test_direction() -> None:
    assert ACCURACY.higher_is_better
    assert Top5Accuracy().higher_is_better
    assert not MeanSquaredError().higher_is_better


SEQUENCE = np.eye(6)[[[0, 1, 5], [2, 2, 5]]]
TAGS = np.array([[0, 1, -100], [2, 0, -1]])


def test_positions_count_unless_their_label_is_negative() -> None:
    rows = ACCURACY.rows(SEQUENCE, TAGS)
    assert rows.tolist() == [[2.0, 2.0], [1.0, 2.0]]
    assert ACCURACY.value(rows) == 0.75
    top = Top5Accuracy()
    assert top.rows(SEQUENCE, TAGS).tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert ACCURACY.rows(SEQUENCE[..., None, :], TAGS[..., None]).tolist() == rows.tolist()
    with pytest.raises(DataError, match="every label is negative"):
        ACCURACY.value(ACCURACY.rows(SEQUENCE, np.full((2, 3), -100)))


def test_the_value_of_scores_is_their_mean() -> None:
    assert ACCURACY.value(ACCURACY.rows(OUTPUTS, np.array([1, 1, 2]))) == pytest.approx(2 / 3)


def test_macro_f1_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import f1_score

    metric = MacroF1()
    draws = np.random.default_rng(0)
    for classes, present in ((2, 2), (4, 4), (7, 4)):  # classes that do not occur do not count
        outputs = draws.random((50, classes))
        outputs[:, present:] = -1
        labels = draws.integers(0, present, 50)
        expected = f1_score(labels, outputs.argmax(1), average="macro", zero_division=0)
        parts = [metric.rows(outputs[n : n + 20], labels[n : n + 20]) for n in (0, 20, 40)]
        assert metric.value(np.concatenate(parts)) == pytest.approx(expected)
        assert metric.value(metric.rows(outputs, np.eye(classes)[labels])) == pytest.approx(
            expected
        )
    logits, truth = draws.normal(size=(40, 1)), draws.integers(0, 2, 40)
    expected = f1_score(truth, logits[:, 0] > 0, average="macro")
    rows = MacroF1(threshold=0.0).rows(logits, truth)
    assert MacroF1().value(rows) == pytest.approx(expected)


def test_macro_f1_of_positions() -> None:
    from sklearn.metrics import f1_score

    metric = MacroF1()
    counted = TAGS >= 0
    expected = f1_score(TAGS[counted], SEQUENCE.argmax(-1)[counted], average="macro")
    assert metric.value(metric.rows(SEQUENCE, TAGS)) == pytest.approx(expected)
