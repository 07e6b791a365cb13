"""KerasHub's Vision Transformer (ViT) as plain tf_keras layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfopt.bridge.to_tf_keras.blocks.attention import Masks, attention
from tfopt.bridge.to_tf_keras.blocks.base import BlockParts, Call, Undecomposable, precision
from tfopt.bridge.to_tf_keras.blocks.dot_product_attention import TENSORS
from tfopt.bridge.to_tf_keras.blocks.embedding_layers import PositionTable
from tfopt.bridge.to_tf_keras.twin import Names, Twin
from tfopt.keras2.core import keras


class ClassToken(keras.layers.Layer):
    """Put one learned token before every sequence: ``(batch, T, D)`` to ``(batch, 1 + T, D)``."""

    def build(self, input_shape: Any) -> None:
        """Make the token, ``(1, 1, D)``."""
        self.token = self.add_weight(
            name="token", shape=(1, 1, input_shape[-1]), initializer="random_normal"
        )
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Return the sequences with the token before each."""
        tokens = tf.tile(tf.cast(self.token, inputs.dtype), (tf.shape(inputs)[0], 1, 1))
        return tf.concat([tokens, inputs], axis=1)


OBJECTS: Mapping[str, type] = {"ClassToken": ClassToken}


def vit_patching_and_embedding(layer: Any, names: Names) -> Twin:
    """Turn ``ViTPatchingAndEmbedding`` into Conv2D, Reshape, class token and positions.

    Args:
        layer: A built layer.
        names: The names in use.

    Raises:
        Undecomposable: If the layer works on channels first, or has a setting that tf_keras
            cannot say.
    """
    if layer.data_format != "channels_last":
        raise Undecomposable(f"it has data_format={layer.data_format!r}")
    parts = BlockParts(layer, names)
    dtype = precision(layer)
    convolution = parts.twin(layer.patch_embedding, keras.layers.Conv2D, "patches")
    flatten = keras.layers.Reshape(
        (layer.num_patches, layer.hidden_dim), name=parts.name("sequence"), dtype=dtype
    )
    positions = PositionTable(layer.num_positions, name=parts.name("positions"), dtype=dtype)
    positions.trainable = layer.position_embedding.trainable
    parts.link_all(layer.position_embedding, positions)
    add = parts.add("add", like=layer)
    token = None
    if layer.use_class_token:
        token = ClassToken(name=parts.name("class_token"), dtype=dtype, trainable=layer.trainable)
        parts.link(layer, token, "class_token", held_as="token")

    def call(inputs: Any) -> Any:
        x = flatten(convolution(inputs))
        if token is not None:
            x = token(x)
        return add([x, positions(x)])

    return parts.twin_called(call)


def vit_encoder(layer: Any, names: Names) -> Twin:
    """Turn ``ViTEncoder`` into plain layers.

    Args:
        layer: A built layer.
        names: The names in use.

    Raises:
        Undecomposable: If a setting cannot be followed.
    """
    parts = BlockParts(layer, names)
    dropout = parts.dropout(layer.dropout, "dropout")
    blocks = [
        _block(block, parts, f"block_{number}_")
        for number, block in enumerate(layer.encoder_layers)
    ]
    norm = parts.norm(layer.layer_norm, "norm")

    def call(inputs: Any) -> Any:
        x = dropout(inputs)
        for block in blocks:
            x = block(x)
        return norm(x)

    return parts.twin_called(call)


def vit_encoder_block(layer: Any, names: Names) -> Twin:
    """Turn a ``ViTEncoderBlock`` that stands alone into plain layers.

    Args:
        layer: A built layer.
        names: The names in use.

    Raises:
        Undecomposable: If a setting cannot be followed.
    """
    parts = BlockParts(layer, names)
    return parts.twin_called(_block(layer, parts, ""))


def mlp(layer: Any, names: Names) -> Twin:
    """Turn ViT's ``MLP`` that stands alone into plain layers.

    Args:
        layer: A built layer.
        names: The names in use.

    Raises:
        Undecomposable: If a setting cannot be followed.
    """
    _require_vit_mlp(layer)
    parts = BlockParts(layer, names)
    return parts.twin_called(_mlp(layer, parts, ""))


def _block(block: Any, parts: BlockParts, start: str) -> Call:
    """Make the layers of one block, and return what calls them."""
    attention_norm = parts.norm(block.layer_norm_1, f"{start}attention_norm")
    attend = attention(block.mha, parts, f"{start}attention")
    dropout = parts.dropout(block.dropout, f"{start}attention_dropout")
    attention_add = parts.add(f"{start}attention_add", like=block)
    feedforward_norm = parts.norm(block.layer_norm_2, f"{start}feedforward_norm")
    feedforward = _mlp(block.mlp, parts, f"{start}feedforward_")
    feedforward_add = parts.add(f"{start}feedforward_add", like=block)

    def call(inputs: Any) -> Any:
        x = attention_norm(inputs)
        x = attention_add([dropout(attend(x, x, Masks(attached=TENSORS))), inputs])
        return feedforward_add([x, feedforward(feedforward_norm(x))])

    return call


def _mlp(layer: Any, parts: BlockParts, start: str) -> Call:
    intermediate = parts.dense(layer.dense_1, f"{start}intermediate")
    first_dropout = parts.dropout(layer.dropout, f"{start}intermediate_dropout")
    output = parts.dense(layer.dense_2, f"{start}output")
    second_dropout = parts.dropout(layer.dropout, f"{start}output_dropout")
    return lambda x: second_dropout(output(first_dropout(intermediate(x))))


def _require_vit_mlp(layer: Any) -> None:
    """Raise if this is one of KerasHub's other classes named MLP."""
    if ".models.vit." not in type(layer).__module__:
        raise Undecomposable(f"{type(layer).__module__}.MLP is another class than that of ViT")
