"""Show that all replicas hold the same model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfopt.errors import VerificationError
from tfopt.strategies.base import Strategy

_DIGEST_BYTES = 8


def require_alike(strategy: Strategy, variables: Sequence[Any], *, when: str) -> None:
    """Raise unless every replica of every process holds the same values, bit for bit.

    Ranks that do not average their gradients, or start from other weights, train on without
    any error and end with models of their own (such as Horovod 0.28.1 under a custom
    training step). It costs one hash of the weights and one exchange of a few bytes.

    Args:
        strategy: The run's strategy.
        variables: The variables, in the same order everywhere.
        when: The moment, for the message: ``after step 1``.

    Raises:
        VerificationError: With the first variable that differs.
    """
    if strategy.replicas == 1:
        return
    own = [[_digest(copy) for copy in strategy.copies_of(variable)] for variable in variables]
    for variable, *found in zip(variables, *strategy.gather(own), strict=True):
        if len({digest for digests in found for digest in digests}) > 1:
            name = variable.name.removesuffix(":0")
            raise VerificationError(
                f"The {strategy.replicas} replicas do not hold the same model {when}: weight "
                f"{name!r} differs. Their gradients are not averaged, or a layer or callback "
                "changes weights differently on each of them."
            )


def _digest(variable: Any) -> bytes:
    content = np.ascontiguousarray(variable.numpy())
    return hashlib.blake2b(content.tobytes(), digest_size=_DIGEST_BYTES).digest()
