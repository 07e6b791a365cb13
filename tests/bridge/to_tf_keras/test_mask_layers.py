"""Recurrent layers with an initial state: Keras 3 gives them no mask, but passes it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812

from tfopt.bridge.provenance import conversion_of
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.bridge.to_tf_keras.mask_layers import OBJECTS, WithMaskOf, WithoutMask
from tfopt.bridge.to_tf_keras.masks import ignores_mask
from tfopt.keras2.core import keras as keras2

TOKENS = np.array([[3, 0, 5, 0, 1], [0, 2, 2, 4, 0]], "int32")
STATE = np.ones((2, 4), "float32")


def _decoder(*, with_state: bool) -> Any:
    """An average at the end shows which steps are masked in the outputs."""
    tokens, state = keras3.Input((5,), dtype="int32"), keras3.Input((4,))
    x = L.Embedding(6, 3, mask_zero=True)(tokens)
    settings = {"initial_state": state} if with_state else {}
    sequence = L.GRU(4, return_sequences=True, name="decoder")(x, **settings)
    return keras3.Model([tokens, state], [sequence, L.GlobalAveragePooling1D()(sequence)])


@pytest.mark.parametrize("with_state", [True, False])
def test_masked_decoder_computes_the_same(with_state: bool) -> None:
    model = _decoder(with_state=with_state)
    twin = to_tf_keras(model, check=[TOKENS, STATE])
    assert conversion_of(twin).relative_error <= 1e-6
    put_off = [layer.name for layer in twin.layers if isinstance(layer, WithoutMask)]
    assert put_off == (["decoder_unmasked"] if with_state else [])
    node = model.get_layer("decoder")._inbound_nodes[0]
    assert ignores_mask(node) is with_state


def test_masks_survive_a_file(tmp_path: Path) -> None:
    twin = to_tf_keras(_decoder(with_state=True))
    twin.save(tmp_path / "model.keras")
    loaded = keras2.models.load_model(tmp_path / "model.keras", custom_objects=dict(OBJECTS))
    given = [tf.constant(TOKENS), tf.constant(STATE)]
    for one, other in zip(loaded(given), twin(given), strict=True):
        np.testing.assert_array_equal(one, other)


def test_layers_take_a_mask_off_and_put_it_on() -> None:
    tokens = keras2.Input((5,), dtype="int32")
    masked = keras2.layers.Embedding(6, 3, mask_zero=True)(tokens)
    bare = WithoutMask()(masked)
    again = WithMaskOf()([bare, masked])
    assert getattr(bare, "_keras_mask", None) is None
    ends = keras2.layers.LSTM(2)(again)
    masked_ends = keras2.Model(tokens, ends)
    other = TOKENS.copy()
    other[0, -1] = 0  # a step that is masked away changes what comes out
    assert np.abs(masked_ends(TOKENS)[0] - masked_ends(other)[0]).max() > 0
    embedding = keras2.Model(tokens, again)
    np.testing.assert_array_equal(embedding(TOKENS)._keras_mask, TOKENS != 0)


def test_without_a_mask_there_is_none_to_put_on() -> None:
    x = keras2.Input((5, 3))
    assert getattr(WithMaskOf()([x, x]), "_keras_mask", None) is None
