"""Checks that the ranks train one model on different data; every one is collective.

All ranks see the same gathered numbers, so all raise the same error, and none waits for another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.distributed.horovod.library import hvd
from tfopt.distributed.weight_digests import (
    Digests,
    digest_of,
    digests_of,
    name_of,
    require_equal_digests,
    value_of,
)
from tfopt.errors import DataError, TrainingError, VerificationError

# Rows that several ranks hold by chance, in data without a row twice.
_STRAY_ROWS = 2

__all__ = [
    "broadcast",
    "gather",
    "mean_of_state",
    "require_different_batches",
    "require_equal_steps",
    "require_equal_weights",
]


def require_equal_weights(variables: Sequence[Any], *, when: str = "now") -> None:
    """Raise unless all ranks hold the same values, bit for bit. One small allgather.

    Args:
        variables: Variables of either Keras, in the same order on every rank.
        when: For the message, such as ``after step 1``.

    Raises:
        VerificationError: Naming the variables and the usual causes.
    """
    causes = (
        "an optimizer without tfopt.DistributedOptimizer (Horovod's own does nothing for Keras 3 "
        "and under a custom train_step); no tfopt.callbacks.BroadcastState; a callback that "
        "changes weights on one rank"
    )
    everyone = gather(digests_of(variables))
    require_equal_digests(everyone, variables, who="ranks", when=when, causes=causes)


def require_different_batches(rows: Any, *, what: str = "training data") -> None:
    """Raise if ranks hold the same rows: they would train on the same data, N times.

    Rows that a rank has twice show how often equal rows are to be expected; a shuffled copy of
    all data on every rank is found as well, if enough rows of it are given. One allgather of
    8 bytes a row.

    Args:
        rows: The rows of this rank: an array or a nest of arrays, of shape ``(rows, ...)``.
        what: How the message names them.

    Raises:
        DataError: Naming two ranks and the rows that they share.
    """
    everyone = gather(_row_digests(rows))
    own = [np.unique(one) for one in everyone]
    repeated = max(len(one) - len(distinct) for one, distinct in zip(everyone, own, strict=True))
    for first in range(len(own)):
        for second in range(first + 1, len(own)):
            shared = np.intersect1d(own[first], own[second]).size
            smaller = min(len(own[first]), len(own[second]))
            if shared == smaller > 0 or shared > _STRAY_ROWS + 3 * repeated:
                raise DataError(
                    f"Ranks {first} and {second} have the same {what}: {shared} of {smaller} rows "
                    "looked at. Each rank must have a part of its own: dataset.shard(hvd.size(), "
                    "hvd.rank()) before shuffle() and batch(), or x[hvd.rank()::hvd.size()]."
                )


def require_equal_steps(steps: int | None, *, what: str = "an epoch") -> None:
    """Raise unless all ranks take the same number of steps: the others would wait for ever.

    Args:
        steps: Of this rank; None if it is not known before the end.
        what: How the message names the period.

    Raises:
        DataError: With the number of each rank.
    """
    counts = [int(one[0]) for one in gather(np.array([-1 if steps is None else steps]))]
    known = [count for count in counts if count >= 0]
    if len(set(known)) > 1:
        shown = ", ".join(
            f"rank {rank}: {'unknown' if count < 0 else count}" for rank, count in enumerate(counts)
        )
        raise DataError(
            f"The ranks have different numbers of steps in {what} ({shown}), so some would wait "
            f"for ever. Pass steps_per_epoch={min(known)}, or drop_remainder=True and equal parts."
        )


def require_equal_decision(*, decision: bool, what: str) -> None:
    """Raise unless all ranks decided the same.

    Args:
        decision: Of this rank.
        what: How the message names it, such as ``stop training``.

    Raises:
        TrainingError: With the ranks of each side.
    """
    found = [bool(one[0]) for one in gather(np.array([int(decision)]))]
    if len(set(found)) > 1:
        yes = [rank for rank, one in enumerate(found) if one]
        raise TrainingError(
            f"Only ranks {yes} of {len(found)} want to {what}; the others would wait for them for "
            "ever. Decide by averaged metrics: put tfopt.callbacks.AverageMetrics before "
            "EarlyStopping."
        )


def mean_of_state(variables: Sequence[Any]) -> list[str]:
    """Give non-trainable state one value on all ranks.

    Statistics become the mean over ranks. Ranges of quantization, whose names end in ``min`` and
    ``max``, become the widest: each rank has seen other extremes, and a mean would clip
    them. What is equal already is not touched (a mean of three equal numbers may round);
    what is not floating-point, such as the states of random generators, stays each rank's own.

    Args:
        variables: Of either Keras, in the same order on every rank.

    Returns:
        Names of the variables that differed.

    Raises:
        VerificationError: If the ranks have different numbers of variables.
    """
    floating = [one for one in variables if tf.as_dtype(_dtype(one)).is_floating]
    everyone = gather(digests_of(floating))
    if len({len(one) for one in everyone}) > 1:
        raise VerificationError(
            "The ranks train different models: they have "
            f"{[len(one) for one in everyone]} state variables (rank 0 first)."
        )
    table = np.stack(everyone)
    changed = []
    for index in np.flatnonzero((table != table[0]).any(axis=0)):
        variable = floating[index]
        variable.assign(hvd().allreduce(value_of(variable), op=_operation(variable)))
        changed.append(name_of(variable))
    return changed


def broadcast(variables: Sequence[Any], *, root: int = 0) -> None:
    """Give all ranks the values of one.

    Args:
        variables: Of either Keras, in the same order on every rank.
        root: The rank whose values all get.

    Raises:
        VerificationError: If the ranks have different variables.
    """
    shapes = [f"{tuple(one.shape)} {tf.as_dtype(_dtype(one)).name}" for one in variables]
    everyone = gather(np.array([digest_of(shape.encode()) for shape in shapes], np.int64))
    if any(not np.array_equal(one, everyone[0]) for one in everyone):
        raise VerificationError(
            "The ranks built different models or optimizers: numbers or shapes of their variables "
            f"differ ({[len(one) for one in everyone]} variables, rank 0 first). Build the same on "
            "every rank."
        )
    for variable in variables:
        variable.assign(hvd().broadcast(value_of(variable), root_rank=root))


def gather(numbers: Digests) -> list[Digests]:
    """Return the numbers of each rank, in the order of ranks.

    Args:
        numbers: Of this rank, shape ``(n,)``; ``n`` may differ from rank to rank.
    """
    mine = np.concatenate([[len(numbers)], numbers]).astype(np.int64)
    flat = hvd().allgather(tf.constant(mine), name="HorovodAllgather_tfopt").numpy()
    found = []
    while flat.size:
        found.append(flat[1 : 1 + flat[0]])
        flat = flat[1 + flat[0] :]
    return found


def _operation(variable: Any) -> Any:
    name = name_of(variable).split(":")[0]
    if name.endswith("min"):
        return hvd().Min
    return hvd().Max if name.endswith("max") else hvd().Average


def _row_digests(rows: Any) -> Digests:
    parts = [np.asarray(part) for part in tf.nest.flatten(rows)]
    count = min((len(part) for part in parts), default=0)
    return np.array(
        [digest_of(b"".join(part[index].tobytes() for part in parts)) for index in range(count)],
        np.int64,
    )


def _dtype(variable: Any) -> Any:
    return variable.dtype
