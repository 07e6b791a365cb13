"""The table of strategies, one process, and errors that one process has and all get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
import tensorflow as tf

from tfopt.config.distributed import StrategyKind
from tfopt.config.distributed import StrategySettings as Settings
from tfopt.distributed.base import STRATEGIES, agreed, is_chief, open_strategy, require_alike
from tfopt.distributed.environment import Place
from tfopt.distributed.single import Single
from tfopt.errors import DataError, ExitCode, InputError, RankFailed, VerificationError
from tfopt.registry import resolve


class Second(Single):
    """The second of two processes; the test says what the first one gave."""

    rank, size, replicas = 1, 2, 2

    def __init__(self, first: Callable[[Any], Any]) -> None:
        self._first = first

    def gather(self, value: Any) -> list[Any]:
        return [self._first(value), value]


def test_every_kind_has_an_entry() -> None:
    assert {*STRATEGIES, "auto"} == set(get_args(StrategyKind))
    assert all(callable(resolve(STRATEGIES, "strategy", name)) for name in STRATEGIES)


def test_one_process_agrees_with_itself() -> None:
    strategy = open_strategy(Settings(), Place())
    assert is_chief(strategy)
    assert strategy.gather(3) == [3]
    assert strategy.from_chief("text") == "text"
    with agreed(strategy):
        pass
    with pytest.raises(DataError, match="own"), agreed(strategy):
        raise DataError("own")


def test_an_error_of_one_is_the_error_of_all() -> None:
    strategy = Second(lambda own: ("no such file", 2))
    with (
        pytest.raises(RankFailed, match="Rank 0 of 2 failed: no such file") as caught,
        agreed(strategy),
    ):
        pass
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    with pytest.raises(DataError, match="my own"), agreed(strategy):
        raise DataError("my own")


def test_weights_that_differ_are_named() -> None:
    variables = [tf.Variable([1.0], name="one"), tf.Variable([2.0], name="two")]
    require_alike(Second(lambda own: own), variables, when="now")
    planted = Second(lambda own: [own[0] + [0, 1]])
    expected = r"replicas \[0, 1\] differ after step 1: 1 of 2 variables, two"
    with pytest.raises(VerificationError, match=expected):
        require_alike(planted, variables, when="after step 1")


def test_too_many_devices_for_a_running_tensorflow() -> None:
    tf.constant(1.0)
    wanted = len(tf.config.list_logical_devices("CPU")) + 6
    with pytest.raises(InputError, match=f"devices is {wanted}, but TensorFlow already runs"):
        open_strategy(Settings(kind="mirrored", devices=wanted), Place())


def test_settings_that_only_one_kind_has() -> None:
    with pytest.raises(
        ValueError, match="devices is for kinds 'mirrored' and 'model_parallel'; this"
    ):
        Settings(kind="single", devices=2)
    with pytest.raises(ValueError, match="timeline is for kind 'horovod'; this is 'auto'"):
        Settings(timeline=True)


@pytest.mark.parametrize(("scaling", "factor"), [("none", 1), ("linear", 4), ("sqrt", 2)])
def test_learning_rates(scaling: Any, factor: float) -> None:
    assert Settings(learning_rate_scaling=scaling).rate_factor(4) == factor
