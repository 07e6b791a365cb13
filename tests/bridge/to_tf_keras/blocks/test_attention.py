"""MultiHeadAttention of Keras 3 as Dense layers, against the layer itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfopt.bridge.keras3 import keras as keras3
from tfopt.bridge.to_tf_keras.blocks.attention import multi_head_attention
from tfopt.bridge.to_tf_keras.blocks.base import Undecomposable
from tfopt.bridge.to_tf_keras.twin import Names
from tfopt.keras2.core import keras as keras2

RANDOM = np.random.default_rng(0)
QUERY = RANDOM.normal(size=(3, 5, 6)).astype("float32")
VALUE = RANDOM.normal(size=(3, 4, 7)).astype("float32")
MASK = RANDOM.integers(0, 2, (3, 5, 4)).astype(bool)
MASK[0, 0] = False  # a row that may attend to nothing


def built(call: dict[str, Any], **settings: Any) -> tuple[Any, Any]:
    """Return a layer with random weights, and the model of its twin with the same weights."""
    keras3.utils.set_random_seed(0)
    layer = keras3.layers.MultiHeadAttention(2, 3, **settings)
    inputs = [keras3.Input((None, 6)), keras3.Input((None, 7))]
    layer(*inputs, **call)
    for weight in layer.weights:
        weight.assign(RANDOM.normal(size=weight.shape))
    names = [keras2.Input((None, 6)), keras2.Input((None, 7)), keras2.Input((5, 4), dtype="bool")]
    twin = multi_head_attention(layer, Names())
    given = {"attention_mask": names[2]} if "attention_mask" in call else {}
    output = twin.call(*names[:2], **{**call, **given})
    model = keras2.Model(names, output)
    for link in twin.links():
        link.forward()
    return layer, model


CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({}, {"use_bias": False, "value_dim": 5, "output_shape": 4}),
    ({"use_causal_mask": True}, {}),
    ({"use_causal_mask": True}, {"dropout": 0.3}),
    ({"attention_mask": MASK}, {}),
    ({"attention_mask": MASK}, {"dropout": 0.3}),
]


@pytest.mark.parametrize(("call", "settings"), CASES)
def test_computes_what_keras_3_does(call: dict[str, Any], settings: dict[str, Any]) -> None:
    layer, model = built(call, **settings)
    expected = np.asarray(layer(QUERY, VALUE, training=False, **call))
    np.testing.assert_allclose(model([QUERY, VALUE, MASK]), expected, rtol=0, atol=1e-6)
    kernels = [one for one in model.layers if type(one) is keras2.layers.Dense]
    assert len(kernels) == 4


def test_the_mask_is_not_ignored() -> None:
    _, model = built({"attention_mask": MASK})
    difference = model([QUERY, VALUE, MASK]) - model([QUERY, VALUE, ~MASK])
    assert np.abs(difference).max() > 0.1


def test_a_row_without_any_position_follows_the_way_keras_3_takes() -> None:
    for dropout in (0.0, 0.3):
        layer, model = built({"attention_mask": MASK}, dropout=dropout, use_bias=False)
        row = np.asarray(model([QUERY, VALUE, MASK]))[0, 0]
        assert bool(np.any(row)) is (dropout == 0)
        expected = np.asarray(layer(QUERY, VALUE, attention_mask=MASK))[0, 0]
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"sliding_window": 2}, "sliding_window"),
        ({"use_gate": True}, "use_gate"),
        ({"kernel_regularizer": "l2"}, "kernel_regularizer"),
        ({"output_shape": (2, 3)}, "output_shape has several axes"),
    ],
)
def test_refuses_what_plain_layers_cannot_say(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(Undecomposable, match=reason):
        built({}, **settings)


def test_refuses_a_call_that_asks_for_scores() -> None:
    with pytest.raises(Undecomposable, match="called with return_attention_scores"):
        built({"return_attention_scores": True})


def test_refuses_lora() -> None:
    layer = keras3.layers.MultiHeadAttention(2, 3)
    layer.build((None, 4, 6), (None, 4, 6))
    layer.query_dense.enable_lora(2)
    with pytest.raises(Undecomposable, match="'query' has LoRA adapters"):
        multi_head_attention(layer, Names())
