"""Multi-head attention in plain layers, and which positions it may see."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfopt.keras2.core import keras
from tfopt.models.transformers.config import TransformerConfig
from tfopt.models.transformers.plain import dense, dropout, operator, reshape

PADDED = 20.0
"""What an encoder takes off the scores of padding, which repeats the first token.

The score of padding is then that of a real token less 20, so all padding together has at most
``e^-20`` (2e-9) of the probability for each padded position, whatever the weights are, and the
range of the scores stays small enough for 8 bits. See ``embeddings.repeat_first``.
"""

LATER = 1e4
"""What a decoder takes off the scores of positions that a position may not see.

Later tokens are real ones with scores of any size. The constant of BERT's and GPT-2's first
releases; float16 holds it.
"""


def padding_bias(mask: Any) -> Any:
    """Return what is added to the scores of an encoder, ``(batch, 1, 1, T)``: 0 or ``-PADDED``.

    Args:
        mask: ``(batch, T)`` integers, 1 for a real token.
    """
    return _bias(_real_keys(mask), PADDED)


def causal_bias(mask: Any, positions: Any) -> Any:
    """Return what is added to the scores of a decoder, ``(batch, 1, T, T)``: 0 or ``-LATER``.

    Args:
        mask: ``(batch, T)`` integers, 1 for a real token.
        positions: ``(batch, T)`` integers, rising.
    """
    tokens = mask.shape[1]
    rows = reshape(positions, (1, tokens, 1), "attention_rows")
    columns = reshape(positions, (1, 1, tokens), "attention_columns")
    seen = operator(tf.greater_equal, "attention_seen")(rows, columns)
    seen = operator(tf.cast, "attention_seen_keys")(seen, "float32")
    return _bias(operator(tf.multiply, "attention_allowed")(seen, _real_keys(mask)), LATER)


def attend(inputs: Any, bias: Any, config: TransformerConfig, block: str) -> Any:
    """Return what self-attention makes of hidden states, ``(batch, T, hidden)``.

    Args:
        inputs: ``(batch, T, hidden)``.
        bias: What is added to the scores, broadcastable to ``(batch, heads, T, T)``.
        config: Width and heads.
        block: Start of the layers' names.
    """
    hidden = config.hidden
    projected = [
        dense(hidden, f"{block}_attention_{name}", config)(inputs)
        for name in ("query", "key", "value")
    ]
    # Right behind the Dense layer, LiteRT folds the factor into its kernel.
    scale = (hidden // config.heads) ** -0.5
    projected[0] = operator(tf.multiply, f"{block}_attention_scaled")(projected[0], scale)
    query, key, value = (
        _split_heads(tensor, config, f"{block}_attention_{name}_heads")
        for tensor, name in zip(projected, ("query", "key", "value"), strict=True)
    )
    products = operator(tf.matmul, f"{block}_attention_products")(query, key, transpose_b=True)
    scores = keras.layers.Add(name=f"{block}_attention_scores")([products, bias])
    weights = keras.layers.Softmax(name=f"{block}_attention_probabilities")(scores)
    weights = dropout(weights, config.attention_dropout, f"{block}_attention_dropout")
    context = operator(tf.matmul, f"{block}_attention_averages")(weights, value)
    context = keras.layers.Permute((2, 1, 3), name=f"{block}_attention_by_token")(context)
    context = reshape(context, (inputs.shape[1], hidden), f"{block}_attention_context")
    return dense(hidden, f"{block}_attention_output", config)(context)


def _real_keys(mask: Any) -> Any:
    """Return 1 for a real token and 0 for padding, ``(batch, 1, 1, T)`` float32."""
    # A Reshape of floats would turn them to float16 in mixed precision, and the operators not.
    keys = reshape(mask, (1, 1, mask.shape[1]), "attention_keys")
    return operator(tf.cast, "attention_real_keys")(keys, "float32")


def _split_heads(tensor: Any, config: TransformerConfig, name: str) -> Any:
    """Return ``(batch, T, heads * size)`` as ``(batch, heads, T, size)``."""
    shape = (tensor.shape[1], config.heads, config.hidden // config.heads)
    return keras.layers.Permute((2, 1, 3), name=name)(reshape(tensor, shape, f"{name}_split"))


def _bias(allowed: Any, amount: float) -> Any:
    scaled = operator(tf.multiply, "attention_bias_scaled")(allowed, amount)
    return operator(tf.subtract, "attention_bias")(scaled, amount)
