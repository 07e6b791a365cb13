"""Losses over positions."""

from __future__ import annotations

import numpy as np
import pytest

from tfopt.training.losses import PositionCrossentropy

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
