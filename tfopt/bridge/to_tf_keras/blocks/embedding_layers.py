"""tf_keras layers that stand for KerasHub's embeddings and heads where tf_keras has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfopt.keras2.core import keras


class ReversibleEmbedding(keras.layers.Embedding):
    """An embedding that can be called backwards, ``(..., output_dim)`` to ``(..., input_dim)``.

    Both directions use one table, as in Keras 3's layer of this name, unless
    ``tie_weights`` is False.

    Args:
        input_dim: Size of the vocabulary.
        output_dim: Size of an embedding.
        tie_weights: Whether the way back uses the table, or a matrix of its own.
        reverse_dtype: What the way back computes in; None is that of the table.
        logit_soft_cap: ``c`` of ``c * tanh(logits / c)`` on the way back; None for none.
        **kwargs: What ``tf_keras.layers.Embedding`` takes.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        tie_weights: bool = True,
        reverse_dtype: str | None = None,
        logit_soft_cap: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_dim, output_dim, **kwargs)
        self.tie_weights = tie_weights
        self.reverse_dtype = reverse_dtype
        self.logit_soft_cap = logit_soft_cap
        self._is_reversed = False

    def build(self, input_shape: Any = None) -> None:
        """Make the table, and the matrix of the way back if that has one."""
        super().build(input_shape)
        if not self.tie_weights:
            self.reverse_embeddings = self.add_weight(
                name="reverse_embeddings",
                shape=(self.output_dim, self.input_dim),
                initializer="uniform",
                experimental_autocast=False,
            )

    def call(self, inputs: Any, reverse: bool = False) -> Any:  # noqa: FBT001, FBT002  # Keras 3's
        """Return embeddings of token ids, or with ``reverse`` the logits of embeddings."""
        self._is_reversed = reverse
        if not reverse:
            return super().call(inputs)
        table = self.embeddings if self.tie_weights else self.reverse_embeddings
        dtype = self.reverse_dtype or table.dtype
        logits = tf.matmul(
            tf.cast(inputs, dtype), tf.cast(table, dtype), transpose_b=self.tie_weights
        )
        if self.logit_soft_cap is None:
            return logits
        return tf.tanh(logits / self.logit_soft_cap) * self.logit_soft_cap

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the mask of token ids; logits have none."""
        return None if self._is_reversed else super().compute_mask(inputs, mask)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the embeddings of token ids of a shape."""
        return (*input_shape, self.output_dim)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "tie_weights": self.tie_weights,
            "reverse_dtype": self.reverse_dtype,
            "logit_soft_cap": self.logit_soft_cap,
        }


class PositionTable(keras.layers.Layer):
    """Learned embeddings of the positions of a sequence, in the shape of its input.

    Args:
        sequence_length: Longest sequence.
        **kwargs: ``name``, ``dtype`` and ``trainable`` of every layer.
    """

    def __init__(self, sequence_length: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sequence_length = sequence_length
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Make the table, ``(sequence_length, D)``."""
        self.embeddings = self.add_weight(
            name="embeddings", shape=(self.sequence_length, input_shape[-1])
        )
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Return ``(batch, T, D)``, whatever ``inputs`` of that shape holds."""
        length, size = inputs.shape[-2], inputs.shape[-1]
        shape = tf.shape(inputs)
        table = tf.cast(self.embeddings, inputs.dtype)
        kept = tf.slice(table, (0, 0), (shape[-2] if length is None else length, size))
        return tf.broadcast_to(kept, shape)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """Return no mask: Keras 3's layer drops it, and the sum takes that of the tokens."""

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "sequence_length": self.sequence_length}


class GatherPositions(keras.layers.Layer):
    """Take positions of a sequence: ``(batch, T, D)`` and ``(batch, P)`` to ``(batch, P, D)``."""

    def call(self, inputs: Sequence[Any]) -> Any:
        """Return the features at the positions."""
        sequence, positions = inputs
        return tf.gather(sequence, tf.cast(positions, tf.int32), axis=1, batch_dims=1)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """Return no mask: the positions are none of the sequence any more."""


class Bias(keras.layers.Layer):
    """Add one learned number to each entry of the last axis."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Make the bias, as long as the last axis."""
        self.bias = self.add_weight(name="bias", shape=(input_shape[-1],), initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Return the sum, in the shape of ``inputs``."""
        return inputs + self.bias


OBJECTS: Mapping[str, type] = {
    "Bias": Bias,
    "GatherPositions": GatherPositions,
    "PositionTable": PositionTable,
    "ReversibleEmbedding": ReversibleEmbedding,
}
