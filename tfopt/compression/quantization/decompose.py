"""Rewrite a model into the same function made of plain parts that can be quantized.

Nested models are opened, activations become layers of their own, separable convolutions
become a depthwise and a pointwise one (tfmot's own rewrite loses ``padding="same"``), and
one-dimensional convolutions become two-dimensional ones of height 1, which is how LiteRT
runs them. What works on each pixel of a picture becomes a convolution of 1x1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfopt.compression.quantization.pointwise_conv import as_convolutions, pointwise
from tfopt.keras2 import graph
from tfopt.keras2.core import Layer, Model, keras

_L = keras.layers
_WITH_ACTIVATION = (_L.Conv2D, _L.DepthwiseConv2D, _L.Conv2DTranspose)
_AT_ANY_RANK = (_L.BatchNormalization, _L.ReLU, _L.LeakyReLU, _L.Activation)


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
            above = _with_height(inputs) if isinstance(layer, AddHeight) else None
            inputs = layer(inputs) if above is None else above
        return inputs

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Hand the weights out in order; a kernel may gain an axis of length 1."""
        left = list(weights)
        for layer in self.layers:
            layer.set_weights([left.pop(0).reshape(own.shape) for own in layer.weights])


class InTwoDimensions:
    """A layer that works along channels or on single entries, called on the tensor of height 1.

    Between ``DropHeight`` and ``AddHeight`` the converter could not fold it into the
    convolution. Elsewhere the layer is called as it is.
    """

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self._out: DropHeight | None = None

    def __call__(self, inputs: Any, training: Any = None) -> Any:
        """Return the outputs of the layer."""
        pinned = {} if training is None else {"training": training}
        above = _with_height(inputs)
        if above is None:
            return self.layer(inputs, **pinned)
        if isinstance(self.layer, _L.BatchNormalization) and not self.layer.built:
            self.layer.axis = [-1]  # it was 2 of three axes, and is 3 of four
        self._out = self._out or DropHeight(name=f"{self.layer.name}_out", dtype="float32")
        return self._out(self.layer(above, **pinned))

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the layer's weights."""
        self.layer.set_weights(weights)


class DenseAnywhere:
    """A Dense layer and its activation; a convolution of 1x1 on more than two axes.

    The layer stays as it is where a mask passes through it, which a convolution would drop.
    """

    def __init__(self, dense: Layer, tail: Sequence[Layer]) -> None:
        dense.activation = keras.activations.linear
        self._dense = self._layer = dense
        self._tail = tail
        self._is_decided = False
        # Called once for each axis that is missing.
        self._in = AddHeight(name=f"{dense.name}_in", dtype="float32")
        self._out = DropHeight(name=f"{dense.name}_out", dtype="float32")

    def __call__(self, inputs: Any) -> Any:
        """Return the outputs of the layer."""
        rank = inputs.shape.rank
        if not self._is_decided:
            self._is_decided = True
            if rank in (3, 4) and getattr(inputs, "_keras_mask", None) is None:
                self._layer = pointwise(self._dense) or self._dense
        if self._layer is self._dense:
            return self._run(inputs)
        for _ in range(4 - rank):
            above = _with_height(inputs)
            inputs = self._in(inputs) if above is None else above
        outputs = self._run(inputs)
        for _ in range(4 - rank):
            outputs = self._out(outputs)
        return outputs

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set kernel and bias; the kernel may gain two axes of length 1."""
        left = list(weights)
        for layer in (self._layer, *self._tail):
            layer.set_weights([left.pop(0).reshape(own.shape) for own in layer.weights])

    def _run(self, inputs: Any) -> Any:
        for layer in (self._layer, *self._tail):
            inputs = layer(inputs)
        return inputs


def _with_height(tensor: Any) -> Any:
    """Return the tensor of height 1 that this one was made from, or None."""
    layer, node, _ = tensor._keras_history
    return layer.get_input_at(node) if isinstance(layer, DropHeight) else None


def canonical(model: Model) -> Model:
    """Return the same function as a flat float32 model of plain layers."""
    return as_convolutions(graph.rebuild(model, _split, dtype="float32"))


def _split(layer: Layer) -> Any:
    if type(layer) is _L.SeparableConv2D:
        return Chain([*_separable(layer), *_activation(layer)])
    if type(layer) is _L.Conv1D:
        return Chain(_conv1d(layer))
    if type(layer) is _L.Dense:
        return DenseAnywhere(layer, _activation(layer))
    if type(layer) in _AT_ANY_RANK and not getattr(layer, "shared_axes", None):
        return InTwoDimensions(layer)
    if type(layer) in _WITH_ACTIVATION and (tail := _activation(layer)):
        layer.activation = keras.activations.linear
        return Chain([layer, *tail])
    return layer


def _activation(layer: Layer) -> list[Layer]:
    if layer.activation is keras.activations.linear:
        return []
    if isinstance(layer.activation, keras.layers.Layer):
        config = {
            **layer.activation.get_config(),
            "name": f"{layer.name}_activation",
            "dtype": "float32",
        }
        return [type(layer.activation).from_config(config)]
    return [_L.Activation(layer.activation, name=f"{layer.name}_activation", dtype="float32")]


def _separable(layer: Layer) -> list[Layer]:
    shared = {"trainable": layer.trainable, "dtype": "float32"}
    depthwise = _L.DepthwiseConv2D(
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        depth_multiplier=layer.depth_multiplier,
        dilation_rate=layer.dilation_rate,
        use_bias=False,
        depthwise_regularizer=layer.depthwise_regularizer,
        depthwise_constraint=layer.depthwise_constraint,
        name=f"{layer.name}_depthwise",
        **shared,
    )
    pointwise = _L.Conv2D(
        layer.filters,
        1,
        use_bias=layer.use_bias,
        kernel_regularizer=layer.pointwise_regularizer,
        bias_regularizer=layer.bias_regularizer,
        kernel_constraint=layer.pointwise_constraint,
        bias_constraint=layer.bias_constraint,
        name=layer.name,
        **shared,
    )
    return [depthwise, pointwise]


def _conv1d(layer: Layer) -> list[Layer]:
    is_causal = layer.padding == "causal"
    convolution = _L.Conv2D(
        layer.filters,
        (1, *layer.kernel_size),
        strides=(1, *layer.strides),
        padding="valid" if is_causal else layer.padding,
        dilation_rate=(1, *layer.dilation_rate),
        groups=layer.groups,
        use_bias=layer.use_bias,
        kernel_regularizer=layer.kernel_regularizer,
        bias_regularizer=layer.bias_regularizer,
        kernel_constraint=layer.kernel_constraint,
        bias_constraint=layer.bias_constraint,
        trainable=layer.trainable,
        name=layer.name,
        dtype="float32",
    )
    before = [AddHeight(name=f"{layer.name}_in", dtype="float32")]
    if is_causal:
        missing = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
        name = f"{layer.name}_padding"
        before.append(_L.ZeroPadding2D(((0, 0), (missing, 0)), name=name, dtype="float32"))
    return [
        *before,
        convolution,
        *_activation(layer),
        DropHeight(name=f"{layer.name}_out", dtype="float32"),
    ]
