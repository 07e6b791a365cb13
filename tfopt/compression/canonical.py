"""Rewrite a model into the same function made of plain parts that can be quantized.

Nested models are opened, activations become layers of their own, separable convolutions
become a depthwise and a pointwise one (tfmot's own rewrite loses ``padding="same"``), and
one-dimensional convolutions become two-dimensional ones of height 1, which is how LiteRT
runs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfopt.compression import graph
from tfopt.legacy_keras import Layer, Model, keras

_L = keras.layers
_WITH_ACTIVATION = (_L.Dense, _L.Conv1D, _L.Conv2D, _L.DepthwiseConv2D, _L.Conv2DTranspose)


class AddHeight(Layer):
    """Turn ``(batch, steps, channels)`` into ``(batch, 1, steps, channels)``."""

    def call(self, inputs: Any) -> Any:
        """Return the inputs with an axis of length 1."""
        return tf.expand_dims(inputs, 1)


class DropHeight(Layer):
    """Turn ``(batch, 1, steps, channels)`` into ``(batch, steps, channels)``."""

    def call(self, inputs: Any) -> Any:
        """Return the inputs without the axis of length 1."""
        return tf.squeeze(inputs, 1)


CUSTOM_OBJECTS: Mapping[str, Any] = {"AddHeight": AddHeight, "DropHeight": DropHeight}


class Chain:
    """Layers called one after another in place of one layer."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = layers

    def __call__(self, inputs: Any) -> Any:
        """Return the outputs of the last layer."""
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Hand the weights out in order; a kernel may gain an axis of length 1."""
        left = list(weights)
        for layer in self.layers:
            layer.set_weights([left.pop(0).reshape(own.shape) for own in layer.weights])


def canonical(model: Model) -> Model:
    """Return the same function as a flat float32 model of plain layers."""
    return graph.rebuild(model, _split, dtype="float32")


def _split(layer: Layer) -> Any:
    if type(layer) is _L.SeparableConv2D:
        return Chain([*_separable(layer), *_activation(layer)])
    if type(layer) is _L.Conv1D and layer.padding in ("valid", "same"):
        return Chain([*_conv1d(layer), *_activation(layer)])
    if type(layer) in _WITH_ACTIVATION and (tail := _activation(layer)):
        layer.activation = keras.activations.linear
        return Chain([layer, *tail])
    return layer


def _activation(layer: Layer) -> list[Layer]:
    if layer.activation is keras.activations.linear:
        return []
    if isinstance(layer.activation, keras.layers.Layer):
        config = {**layer.activation.get_config(), "name": f"{layer.name}_activation"}
        return [type(layer.activation).from_config(config)]
    return [_L.Activation(layer.activation, name=f"{layer.name}_activation")]


def _separable(layer: Layer) -> list[Layer]:
    shared = {"data_format": layer.data_format, "trainable": layer.trainable}
    depthwise = _L.DepthwiseConv2D(
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        depth_multiplier=layer.depth_multiplier,
        dilation_rate=layer.dilation_rate,
        use_bias=False,
        depthwise_regularizer=layer.depthwise_regularizer,
        name=f"{layer.name}_depthwise",
        **shared,
    )
    pointwise = _L.Conv2D(
        layer.filters,
        1,
        use_bias=layer.use_bias,
        kernel_regularizer=layer.pointwise_regularizer,
        bias_regularizer=layer.bias_regularizer,
        name=layer.name,
        **shared,
    )
    return [depthwise, pointwise]


def _conv1d(layer: Layer) -> list[Layer]:
    convolution = _L.Conv2D(
        layer.filters,
        (1, *layer.kernel_size),
        strides=(1, *layer.strides),
        padding=layer.padding,
        dilation_rate=(1, *layer.dilation_rate),
        groups=layer.groups,
        use_bias=layer.use_bias,
        kernel_regularizer=layer.kernel_regularizer,
        bias_regularizer=layer.bias_regularizer,
        trainable=layer.trainable,
        name=layer.name,
    )
    return [AddHeight(name=f"{layer.name}_in"), convolution, DropHeight(name=f"{layer.name}_out")]
