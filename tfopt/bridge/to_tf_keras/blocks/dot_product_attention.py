"""The core of multi-head attention: what lies between its four Dense layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfopt.keras2.core import keras

_ROLES = ("padding", "attention")
TENSORS = ("query", "key", "value")
"""The inputs of attention that may bring masks of their own."""


class ScaledDotProductAttention(keras.layers.Layer):
    """Attend with projected queries, keys and values; it owns no weights.

    Called on a list: query ``(batch, T, heads * size)``, key and value
    ``(batch, S, heads * size)``, then one mask for each entry of ``masks``, nonzero where
    attention is allowed. The output has the shape ``(batch, T, heads * value size)``.

    Keras 3.15 computes attention in two ways (``keras/src/layers/attention/
    multi_head_attention.py``, ``_compute_attention``). With dropout, masked scores become
    -1e9 and their probabilities exactly 0, so that a row without any allowed position gives
    0; without, they become -2.4e38 and such a row gives the mean of all values. Both are
    followed.

    Args:
        num_heads: Attention heads.
        scale: What the scores are multiplied with.
        dropout: Fraction of probabilities dropped in training, in ``[0, 1)``.
        causal: Whether a position attends to none after it.
        masks: What the inputs after the third are: ``padding`` is ``(batch, S)``,
            ``attention`` broadcasts to ``(batch, heads, T, S)`` from 2, 3 or 4 axes.
        attached: Of which inputs (``query``, ``key``, ``value``) the mask that tf_keras
            hands on with the tensor counts.
        **kwargs: ``name``, ``dtype`` and ``trainable`` of every layer.

    Raises:
        ValueError: If an entry of ``masks`` or ``attached`` is unknown.
    """

    def __init__(
        self,
        num_heads: int,
        scale: float,
        *,
        dropout: float = 0.0,
        causal: bool = False,
        masks: Sequence[str] = (),
        attached: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _require_known("masks", masks, _ROLES)
        _require_known("attached", attached, TENSORS)
        self.num_heads = num_heads
        self.scale = scale
        self.zero_masked = dropout > 0
        self.causal = causal
        self.masks = tuple(masks)
        self.attached = tuple(attached)
        self.dropout = keras.layers.Dropout(dropout, name="dropout", dtype=self.dtype_policy)
        self.supports_masking = True

    def call(
        self, inputs: Sequence[Any], mask: Sequence[Any] | None = None, training: Any = None
    ) -> Any:
        """Return the values, averaged with the attention probabilities."""
        query, key, value = (self._split_heads(tensor) for tensor in inputs[:3])
        scores = self._scores(query, key)
        allowed = self._allowed(scores, inputs[3:], mask)
        probabilities = tf.cast(self._softmax(scores, allowed), value.dtype)
        probabilities = self.dropout(probabilities, training=training)
        context = tf.transpose(tf.matmul(probabilities, value), (0, 2, 1, 3))
        return _merge_last_axes(context)

    def compute_mask(self, inputs: Any, mask: Sequence[Any] | None = None) -> Any:
        """Return the mask that came with the query."""
        return None if mask is None else mask[0]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "scale": self.scale,
            "dropout": self.dropout.rate,
            "causal": self.causal,
            "masks": list(self.masks),
            "attached": list(self.attached),
        }

    def _split_heads(self, tensor: Any) -> Any:
        """Return ``(batch, length, heads * size)`` as ``(batch, heads, length, size)``."""
        length, size = tensor.shape[1], tensor.shape[2] // self.num_heads
        if length is None:
            shape = tf.shape(tensor)
            split = tf.reshape(tensor, (shape[0], shape[1], self.num_heads, size))
        else:
            split = tf.reshape(tensor, (-1, length, self.num_heads, size))
        return tf.transpose(split, (0, 2, 1, 3))

    def _scores(self, query: Any, key: Any) -> Any:
        if self.zero_masked:
            return tf.matmul(query * tf.cast(self.scale, query.dtype), key, transpose_b=True)
        scores = _at_least_float32(tf.matmul(query, key, transpose_b=True))
        return scores * tf.cast(self.scale, scores.dtype)

    def _allowed(self, scores: Any, masks: Sequence[Any], attached: Sequence[Any] | None) -> Any:
        """Return where attention is allowed, broadcastable to the scores; None for everywhere."""
        found = [
            _over_keys(mask) if role == "padding" else _over_heads(mask)
            for role, mask in zip(self.masks, masks, strict=True)
        ]
        for name, mask in zip(TENSORS, attached or (None,) * 3, strict=False):
            if mask is not None and name in self.attached:
                found.append(_over_queries(mask) if name == "query" else _over_keys(mask))
        if self.causal:
            shape = tf.shape(scores)
            rows, columns = tf.range(shape[2]), tf.range(shape[3])
            found.append(_over_heads(tf.expand_dims(rows, 1) >= columns))
        allowed = None
        for mask in found:
            allowed = mask if allowed is None else tf.logical_and(allowed, mask)
        return allowed

    def _softmax(self, scores: Any, allowed: Any) -> Any:
        if allowed is None:
            return tf.nn.softmax(scores)
        if not self.zero_masked:
            # keras/src/backend/tensorflow/nn.py, _get_large_negative.
            lowest = tf.constant(-0.7 * 3.38953e38, scores.dtype)
            return tf.nn.softmax(tf.where(allowed, scores, lowest))
        # keras/src/layers/activations/softmax.py.
        lowest = tf.constant(-3e4 if scores.dtype == tf.float16 else -1e9, scores.dtype)
        probabilities = tf.nn.softmax(tf.where(allowed, scores, lowest))
        return tf.where(allowed, probabilities, tf.zeros((), scores.dtype))


def _over_keys(mask: Any) -> Any:
    # Slices with tf.newaxis become StridedSlice ops that LiteRT lacks.
    return tf.cast(tf.expand_dims(tf.expand_dims(mask, 1), 1), tf.bool)


def _over_queries(mask: Any) -> Any:
    return tf.cast(tf.expand_dims(tf.expand_dims(mask, 1), -1), tf.bool)


def _over_heads(mask: Any) -> Any:
    mask = tf.cast(mask, tf.bool)
    while mask.shape.rank < 4:
        mask = tf.expand_dims(mask, -3)
    return mask


def _at_least_float32(tensor: Any) -> Any:
    return tensor if tensor.dtype == tf.float64 else tf.cast(tensor, tf.float32)


def _merge_last_axes(tensor: Any) -> Any:
    """Return ``(batch, length, heads, size)`` as ``(batch, length, heads * size)``."""
    length, width = tensor.shape[1], tensor.shape[2] * tensor.shape[3]
    if length is None:
        shape = tf.shape(tensor)
        return tf.reshape(tensor, (shape[0], shape[1], width))
    return tf.reshape(tensor, (-1, length, width))


def _require_known(argument: str, given: Sequence[str], known: Sequence[str]) -> None:
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(
            f"{argument} of ScaledDotProductAttention takes {', '.join(known)}. Received: "
            f"{', '.join(unknown)}."
        )


OBJECTS: Mapping[str, type] = {"ScaledDotProductAttention": ScaledDotProductAttention}
