from __future__ import annotations

import numpy as np
import pytest

from tfopt.errors import VerificationError
from tfopt.keras2.core import keras
from tfopt.training.transfer.weight_change import InitialWeights


def layer_and_start() -> tuple[keras.layers.Layer, InitialWeights]:
    layer = keras.layers.BatchNormalization(name="norm")
    layer.build((None, 3))
    return layer, InitialWeights({"norm": layer})


def test_a_changed_weight_of_a_frozen_layer_is_named() -> None:
    layer, start = layer_and_start()
    start.require_unchanged(["norm"])
    layer.moving_mean.assign([0.0, 0.0, -0.0])  # equal, but not bit for bit
    with pytest.raises(VerificationError, match="'norm' was to stay frozen.*moving_mean"):
        start.require_unchanged(["norm"])


def test_statistics_alone_are_no_training() -> None:
    layer, start = layer_and_start()
    layer.trainable = False
    layer.moving_mean.assign([1.0, 2.0, 3.0])
    with pytest.raises(VerificationError, match="'norm' was to train, but none of its weights"):
        start.require_moved(["norm"])
    layer.gamma.assign([1.0, 1.0, 3.0])
    start.require_moved(["norm"])
    assert start.squares("norm") == (4.0, 3.0)
    assert np.array_equal(start.value_of("norm", layer.gamma), [1, 1, 1])
    assert start.parameters == 12
