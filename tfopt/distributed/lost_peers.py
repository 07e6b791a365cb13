"""Tell a lost peer from other errors, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from tfopt.distributed.reason import reason_of
from tfopt.errors import PeersLost

LOST = (
    tf.errors.UnknownError,
    tf.errors.AbortedError,
    tf.errors.UnavailableError,
    tf.errors.CancelledError,
    tf.errors.FailedPreconditionError,
    tf.errors.DeadlineExceededError,
)
"""What TensorFlow raises when a collective fails; the text tells how, and differs by transport."""


@contextmanager
def named_loss(doing: str) -> Iterator[None]:
    """Turn the error of a failed collective into the loss of a peer.

    Args:
        doing: What this process did, for the message: ``comparing weights``.

    Raises:
        PeersLost: If a collective fails within the block.
    """
    try:
        yield
    except LOST as error:
        raise PeersLost(
            f"Another process of the run was lost while this one was {doing}: {reason(error)} Go "
            "on with the same command and --resume, or let tfopt launch --restarts do it."
        ) from error


def reason(error: tf.errors.OpError) -> str:
    """Return the first telling sentence of an error of TensorFlow.

    Example:
        >>> reason(tf.errors.UnknownError(None, None, "Horovod has been shut down. This was"))
        'Horovod has been shut down.'
    """
    return reason_of(error).partition(". ")[0] + "."
