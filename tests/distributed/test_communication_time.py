"""How long a step waits is measured in the step, and asks nothing of the optimizer."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.distributed.communication_time import ExchangeClock
from tfopt.keras2.core import keras

_PLANTED_SECONDS = 0.03


def slow(gradient: Any) -> Any:
    """Return a gradient later, as an exchange with others does."""

    def wait(values: Any) -> Any:
        time.sleep(_PLANTED_SECONDS)
        return values

    return tf.ensure_shape(tf.numpy_function(wait, [gradient], gradient.dtype), gradient.shape)


def stepping(optimizer: Any, *, jit_compile: bool = False) -> tuple[Any, Any]:
    """Return a training step, and the variable that it changes."""
    variable = tf.Variable([1.0, 2.0])
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not jit_compile:
        inner.aggregate_gradients = lambda pairs: [(slow(g), v) for g, v in pairs]
    inner.build([variable])

    @tf.function(jit_compile=jit_compile)
    def step() -> None:
        optimizer.apply_gradients([(tf.constant([1.0, 0.5]), variable)])

    return step, variable


def test_the_wait_of_some_steps_is_measured() -> None:
    clock = ExchangeClock()
    assert clock.take() is None
    step, variable = stepping(optimizer := keras.optimizers.SGD(0.1))
    assert clock.measure(optimizer) is optimizer
    for _ in range(6):
        step()
    assert math.isnan(clock.take() or 0.0)  # none of these was looked at
    step()
    assert math.isnan(clock.take() or 0.0)  # this one was due, and began in the epoch before
    for _ in range(9):
        step()
    found = clock.take()
    assert found is not None
    assert 0.5 < found <= 1  # the planted wait is all that such a step does
    assert np.allclose(variable.numpy(), [-0.6, 1.2], atol=1e-6)


def test_an_optimizer_that_scales_the_loss() -> None:
    clock = ExchangeClock()
    optimizer = keras.mixed_precision.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    step, _ = stepping(optimizer)
    clock.measure(optimizer)
    for _ in range(8):
        step()
    assert 0.5 < (clock.take() or 0.0) <= 1


def test_a_step_that_xla_compiles_is_not_measured() -> None:
    clock = ExchangeClock()
    optimizer = clock.measure(keras.optimizers.SGD(0.1, jit_compile=False))
    step, variable = stepping(optimizer, jit_compile=True)
    for _ in range(8):
        step()
    assert clock.take() is None
    assert np.allclose(variable.numpy(), [0.2, 1.6], atol=1e-6)
