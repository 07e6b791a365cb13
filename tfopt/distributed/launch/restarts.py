"""Start a command again, from its last checkpoint, after one of its processes was lost."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

from tfopt.distributed.launch.launcher import LaunchPlan, run_together
from tfopt.errors import ExitCode, InputError

RESUMABLE = ("run", "train", "distill", "prune", "cluster", "quantize")
"""Verbs that go on from a checkpoint with ``--resume``."""

# What another try would end with as well, or what was asked for.
_FINAL = frozenset(code for code in ExitCode if code is not ExitCode.PEERS_LOST)
_RESUME = "--resume"


def run_with_restarts(
    plan: LaunchPlan, restarts: int, *, run: Callable[[LaunchPlan], int] = run_together
) -> int:
    """Run a command to its end, and again with ``--resume`` if a process of it is lost.

    A process that is killed, or loses its peers, ends with another code than the errors that tfopt
    raises on purpose; those would come again.

    Args:
        plan: What to start.
        restarts: How often it may be started again, ``>= 0``.
        run: Runs the processes and returns the exit code.

    Returns:
        The exit code of the last try.

    Raises:
        InputError: If the command cannot resume, or ``restarts < 0``.
    """
    if restarts < 0:
        raise InputError(f"--restarts must be at least 0. Received: {restarts}.")
    if restarts:
        _require_resumable(plan)
    code = run(plan)
    for number in range(1, restarts + 1):
        if code in _FINAL:
            break
        sys.stderr.write(
            f"tfopt launch: a process was lost (exit code {code}). Start {number} of {restarts} "
            "again, from the last checkpoint.\n"
        )
        # A folder in which no run has begun is a new run's with --resume too.
        words = plan.words if _RESUME in plan.words else [*plan.words, _RESUME]
        code = run(replace(plan, words=words))
    if code not in _FINAL and _verb(plan) in RESUMABLE:
        sys.stderr.write(
            f"tfopt launch: a process was lost (exit code {code}). Go on with the same command and "
            "--resume at its end; --restarts N does so by itself.\n"
        )
    return code


def _verb(plan: LaunchPlan) -> str:
    return next((word for word in plan.words if not word.startswith("-")), "")


def _require_resumable(plan: LaunchPlan) -> None:
    verb = _verb(plan)
    if verb not in RESUMABLE:
        raise InputError(
            f"--restarts is for {', '.join(RESUMABLE)}, which go on from a checkpoint; {verb!r} "
            "would begin anew. Leave --restarts out."
        )
    if not any(word.startswith(("-o", "--output")) for word in plan.words):
        raise InputError(
            "--restarts needs the run folder: a try that was lost before it chose one would go on "
            f"with an earlier run. Add it to the command: -- {' '.join(plan.words)} -o FOLDER"
        )
