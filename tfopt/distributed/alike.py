"""Show that all replicas of a run hold the same model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfopt.distributed.base import Strategy
from tfopt.distributed.weight_digests import digests_of, require_equal_digests


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
        VerificationError: With the replicas and variables that differ.
    """
    if strategy.replicas == 1 or not variables:
        return
    copies = zip(*(strategy.copies_of(variable) for variable in variables), strict=True)
    own = [digests_of(replica) for replica in copies]
    everyone = [digests for process in strategy.gather(own) for digests in process]
    causes = "a layer, a callback or a training step that changes weights on its own"
    require_equal_digests(everyone, variables, who="replicas", when=when, causes=causes)
