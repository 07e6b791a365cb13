"""Measure, inside the training step, how long it waits for the other replicas."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.ops import control_flow_util  # who compiles a graph; not public

_EVERY_STEPS = 7  # a prime, so that in time it meets every place of an epoch


class ExchangeClock:
    """Measures in every seventh step which share of it is between own and averaged gradients.

    That begins when the last of a replica's own gradients is there, and ends when the last
    averaged one is: the transfer that no computation hides, and the wait for slower
    replicas. The step begins when the averaged gradients of the step before were there. Three
    calls of Python for each measured step. (``tf.timestamp`` is refused where
    TensorFlow is deterministic, as in recipes.)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # replicas of one process run in threads
        self._period = 0
        self._waits: list[float] = []
        self._steps: list[float] = []
        self._is_used = False

    def measure(self, optimizer: Any) -> Any:
        """Let the clock run whenever an optimizer of tf_keras averages gradients.

        Args:
            optimizer: It is changed, and returned.
        """
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        average = inner.aggregate_gradients

        # Nothing in here is TensorFlow code to convert.
        @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]  # ships no types
        def timed(grads_and_vars: Any) -> Any:
            pairs = list(grads_and_vars)
            if control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
                return average(pairs)  # XLA cannot call Python
            self._is_used = True
            end = self._end_of_replica()
            place = inner.iterations % _EVERY_STEPS
            is_measured = tf.equal(place, _EVERY_STEPS - 1)
            nothing = tf.constant(0.0, tf.float64)
            begun = tf.cond(is_measured, lambda: _call(_now, pairs), lambda: nothing)
            averaged = list(average(pairs))
            is_noted = is_measured | tf.equal(place, _EVERY_STEPS - 2)
            tf.cond(is_noted, lambda: _call(end, averaged, begun), lambda: nothing)
            return averaged

        inner.aggregate_gradients = timed
        return optimizer

    def take(self) -> float | None:
        """Return which share of the steps was exchange since this was last asked.

        Returns:
            A number in ``[0, 1]``; NaN if no step was measured, None if none ever is.
        """
        with self._lock:
            waits, steps = self._waits, self._steps
            self._waits, self._steps = [], []
            self._period += 1  # what lies between two epochs is no part of a step
        if not self._is_used:
            return None
        return sum(waits) / sum(steps) if steps else math.nan

    def _end_of_replica(self) -> Callable[..., Any]:
        """Return what a replica calls when it has the averaged gradients of a step."""
        before = (-1, math.nan)

        def end(begun: Any, *_: Any) -> Any:
            nonlocal before
            now = _now()
            with self._lock:
                period, ended = before
                before = (self._period, now)
                if begun and period == self._period:
                    self._waits.append(float(now - begun))
                    self._steps.append(float(now - ended))
            return now

        return end


def _now(*_: Any) -> Any:
    return np.float64(time.perf_counter())


def _call(function: Callable[..., Any], pairs: Sequence[tuple[Any, Any]], *before: Any) -> Any:
    """Call a Python function as soon as all gradients are computed; return its number."""
    tensors = tf.nest.flatten([gradient for gradient, _ in pairs], expand_composites=True)
    # Values and not control edges: these a GPU fulfils when it has been told what to compute.
    values = [tf.reshape(tensor, [-1])[:1] for tensor in tensors if tensor is not None]
    number = tf.numpy_function(function, [*before, *values], tf.float64)
    return tf.ensure_shape(number, [])
