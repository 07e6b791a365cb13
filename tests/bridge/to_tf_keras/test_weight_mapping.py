"""Which weight of a tf_keras layer holds which of its Keras 3 twin."""

from __future__ import annotations

from typing import Any

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf

from tfopt.bridge.to_tf_keras.weight_mapping import Held, links_of
from tfopt.errors import ModelError
from tfopt.keras2.core import keras as keras2


def _held(variables: list[Any]) -> list[Held]:
    return [Held(one, tuple(one.shape)) for one in variables]


def _dense(inputs: int = 3) -> Any:
    layer = keras3.layers.Dense(2, bias_initializer="ones")
    layer.build((None, inputs))
    return layer


def _twin(units: int = 2, inputs: int = 3) -> Any:
    layer = keras2.layers.Dense(units)
    layer.build((None, inputs))
    return layer


def test_same_order_is_taken_over() -> None:
    layer, twin = _dense(), _twin()
    for link in links_of(layer, _held(layer.weights), twin):
        link.forward()
    np.testing.assert_array_equal(twin.kernel, layer.kernel)
    np.testing.assert_array_equal(twin.bias, np.ones(2))


def test_another_order_is_found_by_name() -> None:
    layer, twin = _dense(), _twin()
    links = links_of(layer, _held(layer.weights[::-1]), twin)
    assert [link.target is twin.bias for link in links] == [True, False]


def test_equal_shapes_are_told_apart_by_their_paths() -> None:
    layer = _dense()
    target = tf.Module()
    target.weights = [
        tf.Variable(tf.zeros(2), name="attention/bias"),
        tf.Variable(tf.zeros((3, 2)), name="attention/value/kernel"),
        tf.Variable(tf.zeros((3, 2)), name="attention/query/kernel"),
    ]
    held = [
        Held(_Path(layer.kernel, "attention/query/kernel"), (3, 2)),
        Held(_Path(layer.kernel, "attention/value/kernel"), (3, 2)),
        Held(_Path(layer.bias, "attention/bias"), (2,)),
    ]
    links = links_of(layer, held, target)
    assert [link.target.name.split("/")[-2:] for link in links] == [
        ["query", "kernel:0"],
        ["value", "kernel:0"],
        ["attention", "bias:0"],
    ]


class _Path:
    """A variable under another path."""

    def __init__(self, variable: Any, path: str) -> None:
        self.path, self.shape, self.value = path, tuple(variable.shape), variable


def test_weights_that_cannot_be_told_apart_are_refused() -> None:
    layer = _dense()
    target = tf.Module()
    target.weights = [tf.Variable(tf.zeros((3, 2)), name="kernel") for _ in range(2)]
    held = [Held(layer.kernel, (3, 2)), Held(layer.kernel, (3, 2))]
    held[1] = Held(_Path(layer.kernel, "x/bias"), (3, 2))
    with pytest.raises(ModelError, match=r"do not match those of its tf_keras twin"):
        links_of(layer, held, target)


def test_other_shapes_are_refused_by_name_and_shape() -> None:
    layer = _dense()
    with pytest.raises(
        ModelError, match=r"kernel \(3, 2\), bias \(2,\)\. tf_keras: kernel \(3, 4\)"
    ):
        links_of(layer, _held(layer.weights), _twin(units=4))


def test_missing_weight_is_refused() -> None:
    layer = _dense()
    with pytest.raises(ModelError, match=r"Keras 3: kernel \(3, 2\)\. tf_keras"):
        links_of(layer, _held(layer.weights[:1]), _twin())


def test_twin_without_weights_took_them_as_settings() -> None:
    layer = keras3.layers.Normalization()
    layer.adapt(np.arange(12.0).reshape(4, 3))
    links = links_of(layer, _held(layer.weights), keras2.layers.Activation("relu"))
    assert [link.target for link in links] == [None] * len(layer.weights)


def test_depthwise_kernel_has_another_name() -> None:
    layer, twin = keras3.layers.DepthwiseConv2D(3), keras2.layers.DepthwiseConv2D(3)
    for one in (layer, twin):
        one.build((None, 8, 8, 2))
    assert len(links_of(layer, _held(layer.weights), twin)) == 2
