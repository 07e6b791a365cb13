from __future__ import annotations

import pytest
import tensorflow as tf

from tfopt.distributed.lost_peers import named_loss
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
