"""Losses and training metrics over positions agree with the reported metric."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfopt.evaluation.metrics import TaskMetric
from tfopt.keras2.core import keras
from tfopt.training.losses import MacroF1, PositionAccuracy, PositionCrossentropy, PositionTopFive

DRAWS = np.random.default_rng(0)
OUTPUTS = DRAWS.normal(size=(4, 5, 7)).astype(np.float32)
LABELS = DRAWS.integers(0, 7, (4, 5))
LABELS[:, 3:] = -100


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_over_positions_that_count(smoothing: float) -> None:
    log = OUTPUTS - np.log(np.exp(OUTPUTS).sum(-1, keepdims=True))
    targets = np.eye(7)[np.maximum(LABELS, 0)] * (1 - smoothing) + smoothing / 7
    each = -(targets * log).sum(-1)[:, :3]
    loss = PositionCrossentropy(True, smoothing)
    assert float(loss(LABELS, OUTPUTS)) == pytest.approx(each.mean(), rel=1e-5)
    longer = np.pad(LABELS, ((0, 0), (0, 4)), constant_values=-100)
    padded = np.pad(OUTPUTS, ((0, 0), (0, 4), (0, 0)))
    assert float(loss(longer, padded)) == pytest.approx(each.mean(), rel=1e-5)
    weights = np.array([1.0, 0.0, 2.0, 1.0], np.float32)
    weighted = (each * weights[:, None]).sum() / (3 * weights.sum())
    assert float(loss(LABELS, OUTPUTS, weights)) == pytest.approx(weighted, rel=1e-5)
    by_position = np.repeat(weights[:, None], 5, axis=1)
    assert float(loss(LABELS, OUTPUTS, by_position)) == pytest.approx(weighted, rel=1e-5)
    assert float(loss(np.full((4, 5), -100), OUTPUTS)) == 0.0


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("accuracy", PositionAccuracy()),
        ("top_5_accuracy", PositionTopFive(5)),
        ("macro_f1", MacroF1("macro_f1", classes=7, threshold=0.5)),
    ],
)
def test_metrics_are_the_reported_ones(name: str, metric: keras.metrics.Metric) -> None:
    for part in (slice(0, 2), slice(2, 4)):
        metric.update_state(tf.constant(LABELS[part]), OUTPUTS[part])
    expected = TaskMetric(name).value(TaskMetric(name).rows(OUTPUTS, LABELS))
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", ["numbers", "one-hot", "column", "binary"])
def test_macro_f1_of_rows(shape: str) -> None:
    numbers = np.array([0, 1, 1, 0])
    outputs = OUTPUTS[:, 0, :2]
    labels = {"one-hot": np.eye(2)[numbers], "column": numbers[:, None]}.get(shape, numbers)
    if shape == "binary":
        outputs = outputs[:, :1]
    metric = MacroF1("macro_f1", classes=2, threshold=0.0)
    metric.update_state(labels, outputs)
    task = TaskMetric("macro_f1", threshold=0.0)
    assert float(metric.result()) == pytest.approx(task.value(task.rows(outputs, labels)))
    metric.reset_state()
    metric.update_state(numbers, outputs, sample_weight=np.array([1.0, 0.0, 0.0, 0.0]))
    said = int(outputs[0, 0] > 0) if shape == "binary" else int(outputs[0].argmax())
    assert float(metric.result()) == (1.0 if said == 0 else 0.0)
