from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.compression.layers.masked import keeping_zeros
from tfopt.compression.layers.quantized import KernelScheme, SchemedLayer
from tfopt.keras2.core import Layer, Model, keras

L = keras.layers


def schemed(layer: Layer) -> Layer:
    name = "embeddings" if isinstance(layer, L.Embedding) else "kernel"
    return SchemedLayer(layer, KernelScheme({name: {"bits": None}}))


def words(wrap: Any) -> Model:
    inputs = keras.Input((4,))
    hidden = wrap(L.Embedding(5, 3, mask_zero=True, embeddings_initializer="ones"))(inputs)
    hidden = wrap(L.Dense(3, kernel_initializer="ones"))(hidden)
    return keras.Model(inputs, L.GlobalAveragePooling1D()(hidden))


@pytest.mark.parametrize("wrap", [keeping_zeros, schemed])
def test_the_mask_of_an_embedding_passes_through(wrap: Any) -> None:
    ids = np.array([[1, 2, 0, 0]])
    plain, wrapped = words(lambda layer: layer), words(wrap)
    assert wrapped.layers[1].compute_mask(tf.constant(ids)).numpy().tolist() == [
        [True, True, False, False]
    ]
    np.testing.assert_allclose(wrapped(ids), plain(ids))


@pytest.mark.parametrize("wrap", [keeping_zeros, schemed])
def test_losses_of_the_layer_are_kept(wrap: Any) -> None:
    def model_of(outer: Any) -> Model:
        layer = L.Dense(
            2, kernel_initializer="ones", kernel_regularizer="l2", activity_regularizer="l2"
        )
        return keras.Sequential([L.Input((3,)), outer(layer)])

    losses = []
    for model in (model_of(lambda layer: layer), model_of(wrap)):
        model(tf.ones((4, 3)))
        losses.append(sorted(float(loss) for loss in model.losses))
    assert len(losses[0]) == 2
    assert losses[0] == pytest.approx(losses[1])


@pytest.mark.parametrize("wrap", [keeping_zeros, schemed])
def test_the_layers_precision_is_kept(wrap: Any) -> None:
    wrapped = wrap(L.Dense(2, dtype="mixed_float16"))
    assert wrapped(tf.ones((4, 3))).dtype == tf.float16
    assert type(wrapped).from_config.__self__ is type(wrapped)
