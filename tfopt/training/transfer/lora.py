"""Low-rank adapters (LoRA, Hu et al., arXiv:2106.09685) and their way into the kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.config.transfer import Lora
from tfopt.errors import VerificationError
from tfopt.keras2 import graph
from tfopt.keras2.core import Layer, Model, keras
from tfopt.keras2.layer_copy import same_weights
from tfopt.training.transfer.layer_choice import LayerChoice

_LIMIT = 1e-5
"""Largest difference of an output between adapters and merged kernels, over the largest one."""

_LIMIT_OF_HALF = 2e-2
"""The same, where layers compute with 16-bit floats: they round the kernels too."""


class LowRankAdapter(keras.layers.Wrapper):
    """A frozen Dense or Conv2D, plus ``alpha / rank`` times a product of two small kernels.

    The first kernel has the layer's own window, stride and dilation and ``rank`` channels,
    the second is a product over channels, so both together are one kernel of the layer's
    shape. The second starts at zero: the adapted model starts as the original one.
    """

    def __init__(self, layer: Layer, settings: Lora, *, seed: int) -> None:
        super().__init__(layer, name=layer.name, dtype=layer.dtype_policy)
        self._settings = settings
        self._seed = seed
        self._activation = layer.activation
        layer.activation = keras.activations.linear
        self.drop = keras.layers.Dropout(settings.dropout, dtype=layer.dtype_policy)
        self.supports_masking = layer.supports_masking

    @property
    def scale(self) -> float:
        """Return what the product is multiplied by."""
        return (self._settings.alpha or self._settings.rank) / self._settings.rank

    def build(self, input_shape: Any) -> None:
        """Make the two kernels, and freeze the layer."""
        super().build(input_shape)
        self.layer.trainable = False
        *window, filters = self.layer.kernel.shape
        rank = self._settings.rank
        self.down = self.add_weight(
            "lora_down",
            shape=(*window, rank),
            initializer=keras.initializers.LecunNormal(seed=self._seed),
        )
        self.up = self.add_weight("lora_up", shape=(rank, filters), initializer="zeros")

    def call(self, inputs: Any, training: Any = None) -> Any:
        """Return the layer's outputs with the update."""
        dropped = self.drop(inputs, training=training)
        layer = self.layer
        if isinstance(layer, keras.layers.Dense):
            low = tf.tensordot(dropped, self.down, 1)
        else:
            low = tf.nn.conv2d(
                dropped,
                self.down,
                strides=layer.strides,
                padding=layer.padding.upper(),
                dilations=layer.dilation_rate,
            )
        outputs = layer(inputs)
        return self._activation(outputs + self.scale * tf.tensordot(low, self.up, 1))

    def merged_kernel(self) -> Any:
        """Return the layer's kernel with the update added, as float32."""
        update = np.tensordot(_wide(self.down), _wide(self.up), 1)
        return (_wide(self.layer.kernel) + self.scale * update).astype(np.float32)


def with_adapters(
    model: Model, choices: Mapping[str, LayerChoice], settings: Lora, *, seed: int
) -> Model:
    """Return a copy of a flat model whose chosen layers have adapters."""
    adapted = [name for name, choice in choices.items() if choice.is_adapted]

    def replace(layer: Layer) -> Layer:
        if layer.name not in adapted:
            return layer
        return LowRankAdapter(layer, settings, seed=seed * 1000 + adapted.index(layer.name))

    def move(original: Layer, replacement: Any) -> None:
        same_weights(original, plain(replacement))

    return graph.rebuild(model, replace, move_weights=move)


def plain(layer: Layer) -> Layer:
    """Return the layer inside an adapter, or the layer."""
    return layer.layer if isinstance(layer, LowRankAdapter) else layer


def merge(adapted: Model, model: Model, inputs: Any) -> None:
    """Bring the weights of an adapted copy back, adapters added to the kernels.

    Args:
        adapted: What ``with_adapters`` made.
        model: What it was made from; changed in place.
        inputs: A few rows, on which both must agree.

    Raises:
        VerificationError: If an adapter did not train, or the outputs differ.
    """
    targets = {layer.name: layer for layer in graph.layers_of(model)}
    for layer in graph.layers_of(adapted):
        if not layer.weights:
            continue
        target = targets[layer.name]
        same_weights(plain(layer), target)
        if isinstance(layer, LowRankAdapter):
            if not np.any(layer.up.numpy()):
                raise VerificationError(
                    f"The adapter of layer {layer.name!r} is as it was made: no gradient reached "
                    "it. Leave the layer out with transfer.lora.layers."
                )
            target.kernel.assign(layer.merged_kernel())
    _require_same_outputs(adapted, model, inputs)


def _require_same_outputs(adapted: Model, model: Model, inputs: Any) -> None:
    rows = tf.nest.map_structure(tf.convert_to_tensor, inputs)
    before, after = (np.asarray(one(rows, training=False), np.float64) for one in (adapted, model))
    difference = float(np.abs(before - after).max()) / max(1.0, float(np.abs(before).max()))
    is_half = any("16" in str(layer.compute_dtype) for layer in model.layers)
    limit = _LIMIT_OF_HALF if is_half else _LIMIT
    if not difference <= limit:
        raise VerificationError(
            f"The model with merged adapters differs from the adapted one by {difference:.3g} of "
            f"the largest output; the limit is {limit:g}. The merge is wrong; report this model."
        )


def _wide(variable: Any) -> Any:
    return np.asarray(variable, np.float64)
