"""What several processes found of their speed, put together."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tfopt.distributed.single import Single
from tfopt.training.throughput import EXCHANGE, ROWS_PER_SECOND, Speed, spread_evidence


class Two(Single):
    """The first of two processes; the second waits for a tenth of a step."""

    size = replicas = 2

    def __init__(self, other: float = 0.1) -> None:
        self._other = other

    def gather(self, value: Any) -> list[Any]:
        return [value, self._other]


def test_an_epoch_without_exchange_has_its_speed_alone() -> None:
    speed = Speed()
    speed.begin()
    speed.end(5, exchange=None)
    assert {*speed.logs(4.0)} == {ROWS_PER_SECOND}
    assert math.isfinite(speed.logs(4.0)[ROWS_PER_SECOND])
    speed.end(5, exchange=0.0)
    assert speed.logs(4.0)[EXCHANGE] == 0.0


def test_the_first_epoch_and_those_without_a_measurement_are_left_out() -> None:
    history = {ROWS_PER_SECOND: [1.0, 80.0, 100.0], EXCHANGE: [0.9, math.nan, 0.5]}
    found = spread_evidence(Two(), history)
    assert found["rows_per_second"] == 90.0
    assert found["exchange_fraction_by_rank"] == [0.5, 0.1]
    assert found["exchange_fraction"] == pytest.approx(0.3)
    # Alone, one would do twice its rows and the other 1 / 0.9 of them.
    assert found["scaling_efficiency"] == pytest.approx(2 / (2 + 1 / 0.9))


@pytest.mark.parametrize("strategy", [Two(math.nan), Two()])
def test_what_one_process_does_not_know_is_not_said(strategy: Single) -> None:
    waits = [0.5] if math.isnan(strategy.gather(0)[1]) else [math.nan]
    found = spread_evidence(strategy, {ROWS_PER_SECOND: [3.0], EXCHANGE: waits})
    assert {*found} == {"replicas", "ranks_agree", "rows_per_second"}
    assert found["rows_per_second"] == 3.0


def test_one_replica_is_not_spread() -> None:
    assert spread_evidence(Single(), {ROWS_PER_SECOND: [3.0]}) == {}
