from __future__ import annotations

import itertools

import pytest

from tfopt.compression.pruning.schedule import plan_schedule
from tfopt.compression.tfmot import PolynomialDecay
from tfopt.errors import InputError

TOTALS = (1, 2, 3, 4, 7, 50, 51, 99, 100, 101, 1000, 12_345)
ENDS = [(b, e) for b, e in itertools.product((0.0, 0.3, 0.99), (0.01, 0.6, 1.0)) if b < e]


@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize(("begin", "end"), ENDS)
def test_the_last_update_is_at_target_and_within_the_steps_that_run(
    total: int, begin: float, end: float
) -> None:
    plan = plan_schedule(total, begin=begin, end=end)
    assert 1 <= plan.begin_step <= plan.end_step <= total
    assert (plan.end_step - plan.begin_step) % plan.frequency == 0
    updates = range(plan.begin_step, total + 1, plan.frequency)
    assert plan.end_step in updates
    assert len(range(plan.begin_step, plan.end_step + 1, plan.frequency)) <= 101
    assert plan.end_step <= max(plan.begin_step, end * total)


@pytest.mark.parametrize("total", [2, 3, 50, 173])
def test_tfmot_reaches_the_target_at_the_end_step(total: int) -> None:
    plan = plan_schedule(total, begin=0.0, end=1.0)
    decay = PolynomialDecay(0.0, 0.8, plan.begin_step, plan.end_step, frequency=plan.frequency)
    is_update, sparsity = decay(plan.end_step)
    assert bool(is_update)
    assert float(sparsity) == pytest.approx(0.8)


def test_no_steps_is_an_error() -> None:
    with pytest.raises(InputError, match="at least one training step"):
        plan_schedule(0, begin=0.0, end=0.6)
