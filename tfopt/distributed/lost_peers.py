"""Tell a lost peer from other errors, in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

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
_NOISE = re.compile(r"\{\{[^}]*\}\}\s*|\s*\[Op:[^\]]*\].*|^Graph execution error:\s*", re.DOTALL)
_LONGEST = 300


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


def reason_of(error: tf.errors.OpError) -> str:
    """Return the first telling line of TensorFlow's message, without node names.

    Example:
        >>> reason_of(tf.errors.UnknownError(None, None, "{{node a}} No space left [Op:F]"))
        'No space left'
    """
    for line in str(error.message or "").splitlines():
        text = _NOISE.sub("", line).strip().rstrip(".")
        is_trace = text.startswith(("Detected at node", "File ", "Traceback", "[[", "("))
        if text and not is_trace:
            return text[:_LONGEST]
    return type(error).__name__
