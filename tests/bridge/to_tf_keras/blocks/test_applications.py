from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

from tfopt.bridge.keras3 import keras as keras3
from tfopt.bridge.to_tf_keras.blocks.applications import (
    RULES,
    layer_scale,
    scaled_residual,
    stochastic_depth,
)
from tfopt.bridge.to_tf_keras.blocks.base import Undecomposable
from tfopt.bridge.to_tf_keras.twin import Names, Twin
from tfopt.keras2.core import Model, keras

X = np.random.default_rng(0).normal(size=(32, 3, 3, 4)).astype("float32")


def built(twin: Twin, *shapes: Any) -> Model:
    inputs = [keras.Input(shape) for shape in shapes]
    model = keras.Model(inputs, twin.call(inputs if len(inputs) > 1 else inputs[0]))
    for link in twin.links():
        link.forward()
    return model


def test_layer_scale() -> None:
    layer = LayerScale(0.5, 4, name="scale")
    layer(keras3.Input((3, 3, 4)))
    layer.gamma.assign([1.0, -2.0, 3.0, 0.0])
    twin = layer_scale(layer, Names())
    model = built(twin, (3, 3, 4))
    np.testing.assert_array_equal(model(X), layer(X))
    (link,) = twin.links()
    np.testing.assert_array_equal(link.backward(np.asarray(link.target)), layer.gamma)
    assert [type(one).__name__ for one in model.layers] == ["InputLayer", "DepthwiseConv2D"]


def test_a_frozen_layer_scale_stays_frozen() -> None:
    layer = LayerScale(0.5, 4)
    layer(keras3.Input((3, 3, 4)))
    layer.trainable = False
    assert not built(layer_scale(layer, Names()), (3, 3, 4)).trainable_weights


def test_layer_scale_of_sequences_is_left_alone() -> None:
    layer = LayerScale(0.5, 4)
    layer(keras3.Input((3, 4)))
    with pytest.raises(Undecomposable, match="no picture"):
        layer_scale(layer, Names())


def test_stochastic_depth() -> None:
    layer = StochasticDepth(0.5)
    layer(keras3.Input((3, 3, 4)))
    model = built(stochastic_depth(layer, Names()), (3, 3, 4))
    np.testing.assert_array_equal(model(X), X)
    dropped = np.asarray(model(X, training=True))
    whole = [np.all(row == 0) or np.allclose(row, 2 * x) for row, x in zip(dropped, X, strict=True)]
    assert all(whole)
    assert 0 < np.count_nonzero(dropped[:, 0, 0, 0]) < len(X)


def test_dropping_everything_is_no_dropout() -> None:
    layer = StochasticDepth(1.0)
    layer(keras3.Input((3, 3, 4)))
    with pytest.raises(Undecomposable, match="its rate"):
        stochastic_depth(layer, Names())


def test_scaled_residual() -> None:
    layer = CustomScaleLayer(0.17)
    layer([keras3.Input((3, 3, 4)), keras3.Input((3, 3, 4))])
    model = built(scaled_residual(layer, Names()), (3, 3, 4), (3, 3, 4))
    np.testing.assert_allclose(model([X, 2 * X]), layer([X, 2 * X]), rtol=1e-6)


def test_every_rule_names_a_class_of_keras() -> None:
    classes = {"keras." + kind.__name__ for kind in (LayerScale, StochasticDepth, CustomScaleLayer)}
    assert set(RULES) == classes
    assert all(kind.__module__.startswith("keras.") for kind in (LayerScale, StochasticDepth))
