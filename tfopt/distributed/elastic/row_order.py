"""Which rows a step uses: the same for every number of ranks, and known from its position alone.

The rows of all epochs, each shuffled anew, are one endless stream. A position in it says
all that a restart needs, and the ranks divide what a step takes from it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def rows_at(position: int, count: int, *, examples: int, seed: int) -> Rows:
    """Return the row numbers at a position of the stream.

    Args:
        position: Rows that were used before, ``>= 0``.
        count: How many are wanted, ``>= 1``.
        examples: Rows of the data, ``>= 1``.
        seed: Chooses the order.

    Returns:
        Row numbers of shape (count,), each in ``[0, examples)``.

    Example:
        >>> sorted(rows_at(0, 4, examples=4, seed=1).tolist())
        [0, 1, 2, 3]
    """
    found = []
    while count > 0:
        epoch, offset = divmod(position, examples)
        part = _order(examples, seed, epoch)[offset : offset + count]
        found.append(part)
        position, count = position + len(part), count - len(part)
    return np.concatenate(found)


def share_of(count: int, rank: int, size: int) -> slice:
    """Return the part of ``count`` rows that a rank uses; the parts differ by one at most.

    Example:
        >>> [share_of(8, rank, 3) for rank in range(3)]
        [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
    """
    return slice(count * rank // size, count * (rank + 1) // size)


@lru_cache(maxsize=2)
def _order(examples: int, seed: int, epoch: int) -> Rows:
    return np.random.default_rng((seed, epoch)).permutation(examples)
