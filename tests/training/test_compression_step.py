"""What a compression step is trained with."""

from __future__ import annotations

import numpy as np

from tfopt.config.schema import Augment, PruneStep, QuantizeStep, Step
from tfopt.data.arrays import ArraySplit
from tfopt.keras2.core import Model, keras
from tfopt.reporting.console import make_reporter
from tfopt.training.compression_step import compress, make_pass, step_context
from tfopt.training.job import FitJob
from tfopt.training.task import read_task


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


def test_a_step_trains_what_stands_beside_the_teacher_and_leaves_its_input() -> None:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(16), keras.layers.Dense(3)])
    before = model.get_weights()
    split, step = split_of(48), Step(prune=PruneStep(sparsity=0.75, epochs=2))
    job = FitJob(
        model=model,
        train=split,
        validation=None,
        settings=step.settings,
        task=read_task(model, split, classes=3),
        batch_size=16,
        augment=Augment(),
        seed=1,
    )
    context = step_context(split, step.settings, batch_size=16, seed=1)
    outer: list[Model] = []

    def beside_teacher(student: Model) -> Model:
        outer.append(keras.Model(student.inputs, student.outputs, name="outer"))
        return outer[0]

    made = compress(
        make_pass(step), context, job, make_reporter(quiet=True), beside_teacher=beside_teacher
    )
    assert outer
    assert made.measured is not None
    assert abs(made.measured.evidence["zero_fraction"] - 0.75) < 0.01
    assert len(made.history["loss"]) == 2
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
