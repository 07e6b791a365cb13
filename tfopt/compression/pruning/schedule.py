"""When pruning masks change: a schedule that fits the steps that run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tfopt.errors import InputError

_MASK_UPDATES = 50
"""Mask updates over the schedule. Each sorts every kernel, which costs about as much as
a few training steps on a dense layer of 400,000 weights."""


@dataclass(frozen=True, slots=True)
class PruningSchedule:
    """When masks change, in training steps (the first step is 1).

    Attributes:
        begin_step: First step that sets the masks.
        end_step: Step that sets the last masks; always a multiple of ``frequency``
            after ``begin_step``, so that the target is reached exactly there.
        frequency: Steps between two changes.
    """

    begin_step: int
    end_step: int
    frequency: int


def plan_schedule(total_steps: int, *, begin: float, end: float) -> PruningSchedule:
    """Return a schedule that reaches its target within the steps that run.

    tfmot's defaults need 100 steps before the first mask, miss the target when training
    is shorter than the schedule, and divide by zero when begin equals end.

    Args:
        total_steps: Steps that will run, ``>= 1``.
        begin: Share of the steps after which removal begins, in ``[0, 1)``.
        end: Share of the steps after which removal is complete, in ``(0, 1]``.

    Returns:
        The schedule.

    Raises:
        InputError: If no step will run.

    Example:
        >>> plan_schedule(1000, begin=0.0, end=0.6)
        PruningSchedule(begin_step=1, end_step=595, frequency=11)
    """
    if total_steps < 1:
        raise InputError("Pruning needs at least one training step. Received: 0 steps.")
    begin_step = min(max(1, math.floor(begin * total_steps)), total_steps)
    last = min(max(begin_step, math.floor(end * total_steps)), total_steps)
    span = last - begin_step
    frequency = max(1, span // _MASK_UPDATES)
    return PruningSchedule(begin_step, begin_step + span // frequency * frequency, frequency)
