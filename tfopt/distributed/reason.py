"""Say in a few words why TensorFlow failed."""

from __future__ import annotations

import re

import tensorflow as tf

_NOISE = re.compile(r"\{\{[^}]*\}\}\s*|\s*\[Op:[^\]]*\].*|^Graph execution error:\s*", re.DOTALL)
_LONGEST = 300


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
