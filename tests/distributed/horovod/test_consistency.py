from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.distributed.horovod import consistency
from tfopt.distributed.horovod.consistency import (
    require_different_batches,
    require_equal_decision,
    require_equal_steps,
    require_equal_weights,
)
from tfopt.errors import DataError, TrainingError, VerificationError

Others = Callable[..., None]


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Others:
    """Say what the other ranks gather, as functions of what this one does."""

    def say(*ranks: Callable[[Any], Any]) -> None:
        monkeypatch.setattr(
            consistency, "gather", lambda mine: [mine, *(rank(mine) for rank in ranks)]
        )

    return say


def changed(index: int) -> Callable[[Any], Any]:
    def rank(mine: Any) -> Any:
        other = mine.copy()
        other[index] += 1
        return other

    return rank


VARIABLES = [tf.Variable([1.0, 2.0], name="kernel"), tf.Variable([3.0], name="bias")]


def test_equal_weights_pass(others: Others) -> None:
    others(np.copy, np.copy)
    require_equal_weights(VARIABLES)


def test_the_first_bit_that_differs_is_named(others: Others) -> None:
    others(np.copy, changed(1))
    with pytest.raises(VerificationError, match=r"ranks \[0, 2\] differ now: 1 of 2 .*bias"):
        require_equal_weights(VARIABLES)


def test_other_models_are_named(others: Others) -> None:
    others(lambda mine: mine[:1])
    with pytest.raises(VerificationError, match=r"they have \[2, 1\] variables"):
        require_equal_weights(VARIABLES)
    with pytest.raises(VerificationError, match=r"they have \[2, 1\] state variables"):
        consistency.mean_of_state(VARIABLES)
    with pytest.raises(VerificationError, match=r"\[2, 1\] variables, rank 0 first"):
        consistency.broadcast(VARIABLES)


def test_the_same_rows_are_found_in_any_order(others: Others) -> None:
    rows = {"x": np.arange(40).reshape(10, 4), "y": np.arange(10)}
    others(lambda mine: mine[::-1])
    with pytest.raises(DataError, match="Ranks 0 and 1 have the same images: 10 of 10 rows"):
        require_different_batches(rows, what="images")


def test_a_part_of_the_rows_is_found(others: Others) -> None:
    others(lambda mine: np.concatenate([mine[:5], mine[5:] + 1]))
    with pytest.raises(DataError, match="5 of 20 rows"):
        require_different_batches(np.arange(20))


def test_few_equal_rows_are_chance(others: Others) -> None:
    others(lambda mine: np.concatenate([mine[:2], mine[2:] + 1]))
    require_different_batches(np.arange(20))


def test_data_without_rows_is_not_the_same(others: Others) -> None:
    others(np.copy)
    require_different_batches(np.zeros((0, 3)))


def test_numbers_of_steps_are_compared_where_known(others: Others) -> None:
    others(lambda mine: mine + 2, lambda mine: np.array([-1]))
    with pytest.raises(DataError, match=r"rank 0: 4, rank 1: 6, rank 2: unknown.*epoch=4"):
        require_equal_steps(4)
    others(np.copy, lambda mine: np.array([-1]))
    require_equal_steps(4)
    others(np.copy)
    require_equal_steps(None)


def test_decisions_are_compared(others: Others) -> None:
    others(lambda mine: 1 - mine)
    with pytest.raises(TrainingError, match=r"Only ranks \[0\] of 2 want to stop training"):
        require_equal_decision(decision=True, what="stop training")
    others(np.copy)
    require_equal_decision(decision=True, what="stop training")


@pytest.mark.horovod
def test_one_rank_agrees_with_itself() -> None:
    require_equal_weights(VARIABLES)
    require_equal_steps(3)
    consistency.broadcast(VARIABLES)
    assert consistency.mean_of_state(VARIABLES) == []
    np.testing.assert_array_equal(consistency.gather(np.array([5, 6]))[0], [5, 6])


def test_statistics_get_the_mean_and_ranges_the_widest(
    others: Others, monkeypatch: pytest.MonkeyPatch
) -> None:
    others(lambda mine: mine + 1)
    asked = []

    class Fake:
        Average, Min, Max = "average", "min", "max"

        @staticmethod
        def allreduce(tensor: Any, *, op: str) -> Any:
            asked.append(op)
            return tensor

    monkeypatch.setattr(consistency, "hvd", lambda: Fake)
    names = ["moving_mean", "dense/kernel_min", "output_max", "count"]
    variables = [tf.Variable(1.0, name=name) for name in names[:3]]
    variables.append(tf.Variable(1, name="count"))
    assert consistency.mean_of_state(variables) == [f"{name}:0" for name in names[:3]]
    assert asked == ["average", "min", "max"]
