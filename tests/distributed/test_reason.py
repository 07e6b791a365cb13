"""TensorFlow's messages, cut down to what a user can use."""

from __future__ import annotations

import pytest
import tensorflow as tf

from tfopt.distributed.reason import reason_of


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "{{function_node f}} disk; No space left on device [Op:Flush] name: ",
            "disk; No space left on device",
        ),
        (
            "Graph execution error:\n\nDetected at node X\n\nReceived a label value of 9.",
            "Received a label value of 9",
        ),
        ("", "UnknownError"),
        (None, "UnknownError"),
        ("x" * 5000, "x" * 300),
    ],
)
def test_reason(message: str | None, reason: str) -> None:
    assert reason_of(tf.errors.UnknownError(None, None, message)) == reason
