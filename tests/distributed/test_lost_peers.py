from __future__ import annotations

import pytest
import tensorflow as tf

from tfopt.distributed.lost_peers import named_loss, reason_of
from tfopt.errors import PeersLost


def test_a_failed_collective_is_a_lost_peer() -> None:
    text = "{{node a}} Traceback\nHorovod has been shut down. This was caused by a rank. [Op:H]"
    with (
        pytest.raises(PeersLost, match="while this one was waiting: Horovod has been shut down. G"),
        named_loss("waiting"),
    ):
        raise tf.errors.UnknownError(None, None, text)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError), named_loss("waiting"):
        raise tf.errors.InvalidArgumentError(None, None, "shapes differ")


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
