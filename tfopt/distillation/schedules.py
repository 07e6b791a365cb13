"""Numbers that change while a student trains: the hard-label weight and the temperature.

A schedule is a number, or any function from a training step to a number. The step is that of
the compiled optimizer, a scalar int64 tensor, so it goes on where a restored optimizer stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import tensorflow as tf

from tfopt.errors import InputError

Schedule: TypeAlias = float | Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class LinearSchedule:
    """A straight line from one number to another, and level before and after.

    Attributes:
        start: Value up to step ``begin``.
        end: Value from step ``begin + steps`` on.
        steps: Training steps in between, ``>= 1``.
        begin: First step of the change, ``>= 0``.

    Raises:
        InputError: If a number is out of range.
    """

    start: float
    end: float
    steps: int
    begin: int = 0

    def __post_init__(self) -> None:
        _require_steps(type(self).__name__, self.steps, self.begin)

    def __call__(self, step: Any) -> Any:
        """Return the value at a training step."""
        return self.start + (self.end - self.start) * _progress(step, self.begin, self.steps)


@dataclass(frozen=True, slots=True)
class CosineSchedule:
    """Half a cosine wave from one number to another; attributes as ``LinearSchedule``.

    Raises:
        InputError: If a number is out of range.
    """

    start: float
    end: float
    steps: int
    begin: int = 0

    def __post_init__(self) -> None:
        _require_steps(type(self).__name__, self.steps, self.begin)

    def __call__(self, step: Any) -> Any:
        """Return the value at a training step."""
        progress = _progress(step, self.begin, self.steps)
        return self.end + (self.start - self.end) * 0.5 * (1 + tf.cos(math.pi * progress))


@dataclass(frozen=True, slots=True)
class StepSchedule:
    """One number after another.

    Attributes:
        boundaries: Steps at which the next value begins, rising.
        values: One value more than there are boundaries.

    Raises:
        InputError: If the numbers do not fit together.
    """

    boundaries: Sequence[int]
    values: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.boundaries) + 1:
            raise InputError(
                "StepSchedule needs one value more than boundaries. Received: "
                f"{len(self.values)} values and {len(self.boundaries)} boundaries."
            )
        if list(self.boundaries) != sorted(set(self.boundaries)):
            raise InputError(
                f"StepSchedule needs rising boundaries. Received: {list(self.boundaries)}."
            )

    def __call__(self, step: Any) -> Any:
        """Return the value at a training step."""
        boundaries = tf.constant(list(self.boundaries), tf.int64)
        passed = tf.reduce_sum(tf.cast(tf.cast(step, tf.int64) >= boundaries, tf.int32))
        return tf.gather(tf.constant(list(self.values), tf.float32), passed)


def value_at(schedule: Schedule, step: Any) -> Any:
    """Return a schedule's value as a float32 scalar tensor.

    Args:
        schedule: A number or a function of the step.
        step: Training step, a number or an integer tensor.
    """
    found = schedule(step) if callable(schedule) else schedule
    return tf.cast(found, tf.float32)


def require_range(schedule: Schedule, *, what: str, lowest: float, highest: float) -> None:
    """Raise unless a schedule starts within limits, and ends there as far as can be known.

    Args:
        schedule: A number or a function of the step.
        what: How the message names it.
        lowest: Smallest allowed value.
        highest: Largest allowed value.

    Raises:
        InputError: If a value is outside, NaN or no number.
    """
    known = [getattr(schedule, name) for name in ("start", "end") if hasattr(schedule, name)]
    known += list(getattr(schedule, "values", ()))
    if not known:
        # A tensor would start TensorFlow's devices, which the caller may still want to set.
        known = [value_at(schedule, 0) if callable(schedule) else schedule]
    for value in known:
        if not lowest <= float(value) <= highest:  # also rejects NaN
            raise InputError(
                f"{what} must be from {lowest:g} to {highest:g}. Received: {float(value):g}."
            )


def _progress(step: Any, begin: int, steps: int) -> Any:
    """Return how much of a change is done, from 0 to 1."""
    return tf.clip_by_value((tf.cast(step, tf.float32) - begin) / steps, 0.0, 1.0)


def _require_steps(name: str, steps: int, begin: int) -> None:
    if steps < 1 or begin < 0:
        raise InputError(
            f"{name} needs steps >= 1 and begin >= 0. Received: steps={steps}, begin={begin}."
        )
