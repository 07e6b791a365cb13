from __future__ import annotations

from typing import Any

import pytest

from tfopt.distillation.schedules import (
    CosineSchedule,
    LinearSchedule,
    StepSchedule,
    require_range,
    value_at,
)
from tfopt.errors import InputError


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (0.5, {0: 0.5, 99: 0.5}),
        (LinearSchedule(1.0, 0.0, steps=10, begin=5), {0: 1, 5: 1, 10: 0.5, 15: 0, 99: 0}),
        (CosineSchedule(4.0, 1.0, steps=10), {0: 4, 5: 2.5, 10: 1, 99: 1}),
        (StepSchedule([3, 6], [1.0, 2.0, 3.0]), {0: 1, 2: 1, 3: 2, 5: 2, 6: 3, 99: 3}),
        (lambda step: step * 2, {3: 6}),
    ],
)
def test_values(schedule: Any, values: dict[int, float]) -> None:
    assert {s: float(value_at(schedule, s)) for s in values} == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LinearSchedule(0.0, 1.0, steps=0),
        lambda: CosineSchedule(0.0, 1.0, steps=5, begin=-1),
        lambda: StepSchedule([1], [1.0]),
        lambda: StepSchedule([2, 1], [1.0, 2.0, 3.0]),
    ],
)
def test_impossible_ones(make: Any) -> None:
    with pytest.raises(InputError, match="Schedule needs"):
        make()


def test_both_ends_are_in_range() -> None:
    for schedule in (LinearSchedule(0.0, 1.5, steps=3), StepSchedule([1], [0, -1]), lambda s: 2.0):
        with pytest.raises(InputError, match="alpha must be from 0 to 1"):
            require_range(schedule, what="alpha", lowest=0, highest=1)
