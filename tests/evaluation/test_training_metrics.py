"""Training metrics agree with the reported ones."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfopt.evaluation.metrics import MacroF1, metric_class
from tfopt.evaluation.training_metrics import MacroF1Score, PositionAccuracy, PositionTopFive
from tfopt.keras2.core import keras

DRAWS = np.random.default_rng(0)
OUTPUTS = DRAWS.normal(size=(4, 5, 7)).astype(np.float32)
LABELS = DRAWS.integers(0, 7, (4, 5))
LABELS[:, 3:] = -100


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("accuracy", PositionAccuracy()),
        ("top_5_accuracy", PositionTopFive(5)),
        ("macro_f1", MacroF1Score("macro_f1", classes=7, threshold=0.5)),
    ],
)
def test_metrics_are_the_reported_ones(name: str, metric: keras.metrics.Metric) -> None:
    for part in (slice(0, 2), slice(2, 4)):
        metric.update_state(tf.constant(LABELS[part]), OUTPUTS[part])
    reported = metric_class(name)()
    expected = reported.value(reported.rows(OUTPUTS, LABELS))
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", ["numbers", "one-hot", "column", "binary"])
def test_macro_f1_of_rows(shape: str) -> None:
    numbers = np.array([0, 1, 1, 0])
    outputs = OUTPUTS[:, 0, :2]
    labels = {"one-hot": np.eye(2)[numbers], "column": numbers[:, None]}.get(shape, numbers)
    if shape == "binary":
        outputs = outputs[:, :1]
    metric = MacroF1Score("macro_f1", classes=2, threshold=0.0)
    metric.update_state(labels, outputs)
    task = MacroF1(threshold=0.0)
    assert float(metric.result()) == pytest.approx(task.value(task.rows(outputs, labels)))
    metric.reset_state()
    metric.update_state(numbers, outputs, sample_weight=np.array([1.0, 0.0, 0.0, 0.0]))
    said = int(outputs[0, 0] > 0) if shape == "binary" else int(outputs[0].argmax())
    assert float(metric.result()) == (1.0 if said == 0 else 0.0)
