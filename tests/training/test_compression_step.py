"""What a compression step is trained with."""

from __future__ import annotations

import numpy as np

from tfopt.config.schema import QuantizeStep
from tfopt.data.arrays import ArraySplit
from tfopt.training.compression_step import step_context


def split_of(rows: int) -> ArraySplit:
    draws = np.random.default_rng(rows)
    inputs = draws.normal(size=(rows, 10)).astype(np.float32)
    return ArraySplit(inputs, draws.integers(0, 3, rows))


def test_calibration_batches_cover_the_sample_once() -> None:
    split = split_of(100)
    context = step_context(
        split, QuantizeStep(epochs=3, calibration_examples=70), batch_size=16, seed=2
    )
    assert context.total_steps == 3 * 7
    batches = [np.asarray(batch) for batch in context.calibration()]
    assert [len(batch) for batch in batches] == [64, 6]
    rows = np.concatenate(batches)
    assert len(np.unique(rows, axis=0)) == 70
    np.testing.assert_array_equal(rows, np.concatenate(list(context.calibration())))
