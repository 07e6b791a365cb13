"""The plain layers that transformer blocks are made of, with the names and settings they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfopt.keras2.core import Layer, OperatorLayer, keras
from tfopt.models.transformers.config import TransformerConfig


def dense(units: int, name: str, config: TransformerConfig) -> Layer:
    """Return a Dense layer without activation."""
    return keras.layers.Dense(units, kernel_initializer=_initializer(config), name=name)


def projection(units: int, name: str, config: TransformerConfig) -> Layer:
    """Return a Dense layer without activation and bias."""
    return keras.layers.Dense(
        units, use_bias=False, kernel_initializer=_initializer(config), name=name
    )


def table(rows: int, width: int, name: str, config: TransformerConfig) -> Layer:
    """Return an Embedding of ``rows`` entries."""
    return keras.layers.Embedding(
        rows, width, embeddings_initializer=_initializer(config), name=name
    )


def norm(name: str, config: TransformerConfig) -> Layer:
    """Return a LayerNormalization over the last axis."""
    return keras.layers.LayerNormalization(epsilon=config.norm_epsilon, name=name)


def dropout(tensor: Any, rate: float, name: str) -> Any:
    """Return the tensor behind a Dropout layer, or as it is if the rate is 0."""
    return keras.layers.Dropout(rate, name=name)(tensor) if rate else tensor


def operator(function: Callable[..., Any], name: str) -> Layer:
    """Return a TensorFlow function as a layer, as ``function(tensor)`` makes it but for the name.

    The names that tf_keras gives count up through a process, so a model would have others each
    time that it is built.
    """
    return OperatorLayer(function, name=name)


def activate(tensor: Any, config: TransformerConfig, name: str) -> Any:
    """Return the tensor behind the activation of the model."""
    if config.activation == "gelu_tanh":
        return operator(tf.nn.gelu, name)(tensor, approximate=True)
    return keras.layers.Activation(config.activation, name=name)(tensor)


def reshape(tensor: Any, shape: tuple[int | None, ...], name: str) -> Any:
    """Return the tensor in another shape.

    Args:
        tensor: Any shape.
        shape: Sizes behind the batch axis; at most one is None, for what is left.
        name: Name of the layer.
    """
    sizes = tuple(-1 if size is None else size for size in shape)
    return keras.layers.Reshape(sizes, name=name)(tensor)


def _initializer(config: TransformerConfig) -> Any:
    return keras.initializers.TruncatedNormal(stddev=config.initializer_range)
