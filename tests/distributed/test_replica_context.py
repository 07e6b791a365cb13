"""What replicas tell each other; with several of tf.distribute: tests/conformance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.distributed import replica_context


class Other:
    """An exchange with a process whose numbers are ten times as large."""

    def mean(self, value: Any) -> Any:
        return (value + 10 * value) / 2

    def largest(self, value: Any) -> Any:
        return tf.maximum(value, 10 * value)

    def rows_of_all(self, value: Any) -> Any:
        return tf.concat([value, 10 * value], axis=0)


VALUE = tf.constant([1.0, -2.0])


@pytest.mark.parametrize(
    "ask", [replica_context.mean, replica_context.largest, replica_context.rows_of_all]
)
def test_one_replica_asks_nobody(ask: Callable[[Any], Any]) -> None:
    assert not replica_context.are_several()
    np.testing.assert_array_equal(ask(VALUE), VALUE)
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        np.testing.assert_array_equal(ask(VALUE), VALUE)


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (replica_context.mean, [5.5, -11]),
        (replica_context.largest, [10, -2]),
        (replica_context.rows_of_all, [1, -2, 10, -20]),
    ],
)
def test_processes_answer_inside_of_the_block_without_a_gradient(
    ask: Callable[[Any], Any], expected: list[float]
) -> None:
    with replica_context.exchanging(Other()), tf.GradientTape() as tape:
        assert replica_context.are_several()
        tape.watch(VALUE)
        answer = ask(VALUE)
    np.testing.assert_allclose(answer, expected)
    assert tape.gradient(answer, VALUE) is None
    assert not replica_context.are_several()
