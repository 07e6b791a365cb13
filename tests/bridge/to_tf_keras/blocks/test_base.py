"""What every rule that takes a layer apart relies on."""

from __future__ import annotations

import numpy as np
import pytest

from tfopt.bridge.keras3 import keras as keras3
from tfopt.bridge.to_tf_keras.blocks.base import (
    ApproximateGelu,
    BlockParts,
    Undecomposable,
    call_arguments,
)
from tfopt.bridge.to_tf_keras.twin import Names


def dense(**settings: object) -> object:
    layer = keras3.layers.Dense(3, **settings)
    layer.build((None, 2))
    return layer


def test_refuses_an_activation_of_the_users() -> None:
    layer = dense(activation=lambda x: x * 2)
    with pytest.raises(Undecomposable, match="activation"):
        BlockParts(layer, Names()).dense(layer, "part")


def test_refuses_to_leave_a_weight_behind() -> None:
    layer = dense()
    with pytest.raises(Undecomposable, match="nothing holds its weight '.*kernel'"):
        BlockParts(layer, Names()).twin_called(lambda x: x)


def test_arguments_at_their_default_are_dropped_and_others_refused() -> None:
    layer = keras3.layers.MultiHeadAttention(1, 2)
    given = call_arguments(layer, (1.5, 2.5), {"use_causal_mask": False}, takes={"query", "value"})
    assert given == {"query": 1.5, "value": 2.5}
    with pytest.raises(Undecomposable, match="it is called with use_causal_mask"):
        call_arguments(layer, (1.5, 2.5), {"use_causal_mask": True}, takes={"query", "value"})


def test_gelu_is_the_tanh_formula() -> None:
    x = np.linspace(-3, 3, 7, dtype="float32")
    np.testing.assert_allclose(
        ApproximateGelu()(x), keras3.activations.gelu(x, approximate=True), atol=1e-6
    )
