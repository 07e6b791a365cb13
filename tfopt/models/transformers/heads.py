"""What a transformer gives: class logits, token logits, vocabulary logits, or a vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

import tensorflow as tf

from tfopt.keras2.core import keras
from tfopt.models.transformers.body import Body
from tfopt.models.transformers.config import TransformerConfig
from tfopt.models.transformers.plain import (
    activate,
    dense,
    dropout,
    norm,
    operator,
    reshape,
)

Head: TypeAlias = Literal["classification", "token_classification", "language_model", "embedding"]
Pooling: TypeAlias = Literal["mean", "first", "last"]

HEADS: tuple[str, ...] = get_args(Head)
POOLINGS: tuple[str, ...] = get_args(Pooling)


def classification(body: Body, config: TransformerConfig, units: int, pooling: Pooling) -> Any:
    """Return logits of a text, ``(batch, units)``."""
    x = dropout(pooled(body, pooling), config.hidden_dropout, "pooled_dropout")
    return dense(units, "classifier", config)(x)


def token_classification(body: Body, config: TransformerConfig, units: int) -> Any:
    """Return logits of each token, ``(batch, T, units)``; those of padding mean nothing."""
    x = dropout(body.hidden, config.hidden_dropout, "token_dropout")
    return dense(units, "token_classifier", config)(x)


def embedding(body: Body, pooling: Pooling) -> Any:
    """Return a vector of length 1, ``(batch, hidden)``, as sentence-transformers does."""
    # UnitNormalization does the same, but in float16 its epsilon is 0.
    return operator(tf.math.l2_normalize, "embedding")(pooled(body, pooling), axis=-1)


def language_model(body: Body, config: TransformerConfig) -> Any:
    """Return logits over the vocabulary for each token, ``(batch, T, vocabulary)``.

    They read the table of tokens. Two layers cannot share a variable in a Keras graph that is
    saved, so the table is what the embedding gives for all of its ids.
    """
    ids = _all_ids(body, config)
    x = body.hidden
    if not config.is_causal:
        x = activate(dense(config.hidden, "lm_transform", config)(x), config, "lm_activation")
        x = norm("lm_norm", config)(x)
    words = body.tokens.look_up(ids)
    if config.is_causal:
        return operator(tf.matmul, "lm_head")(x, words, transpose_b=True)
    logits = operator(tf.matmul, "lm_products")(x, words, transpose_b=True)
    bias = keras.layers.Embedding(
        config.vocabulary, 1, embeddings_initializer="zeros", name="lm_bias"
    )
    added = reshape(bias(ids), (1, config.vocabulary), "lm_bias_row")
    return keras.layers.Add(name="lm_head")([logits, added])


def pooled(body: Body, pooling: Pooling) -> Any:
    """Return one vector for a text, ``(batch, hidden)``, of its real tokens.

    Args:
        body: The transformer.
        pooling: ``mean`` of all tokens, or the ``first`` or ``last`` one. A text without
            tokens gives zeros, or the first position.
    """
    return _POOLINGS[pooling](body.hidden, body.tokens.inputs["attention_mask"])


def _mean(hidden: Any, mask: Any) -> Any:
    # In float32: the sum over a long text overflows float16, and a count needs all its bits.
    hidden = operator(tf.cast, "pooled_hidden")(hidden, "float32")
    real = operator(tf.cast, "pooled_real")(mask, "float32")
    by_token = operator(tf.expand_dims, "pooled_real_tokens")(real, -1)
    kept = operator(tf.multiply, "pooled_kept")(hidden, by_token)
    total = operator(tf.reduce_sum, "pooled_total")(kept, axis=1)
    count = operator(tf.reduce_sum, "pooled_count")(real, axis=1, keepdims=True)
    count = operator(tf.maximum, "pooled_count_positive")(count, 1.0)
    return operator(tf.divide, "pooled")(total, count)


def _first(hidden: Any, mask: Any) -> Any:
    return operator(tf.gather, "pooled")(hidden, 0, axis=1)


def _last(hidden: Any, mask: Any) -> Any:
    count = operator(tf.reduce_sum, "pooled_count")(mask, axis=1)
    last = operator(tf.maximum, "pooled_last")(
        operator(tf.subtract, "pooled_before_count")(count, 1), 0
    )
    return operator(tf.gather, "pooled")(hidden, last, axis=1, batch_dims=1)


_POOLINGS: Mapping[str, Any] = {"mean": _mean, "first": _first, "last": _last}


def _all_ids(body: Body, config: TransformerConfig) -> Any:
    """Return ``0 .. vocabulary - 1`` as ``(1, vocabulary)`` int32, made from an input.

    A constant would be looked up once, while the graph is built, and not follow the training.
    """
    mask = body.tokens.inputs["attention_mask"]
    some = operator(tf.reduce_max, "lm_some")(mask)
    none = operator(tf.multiply, "lm_none")(some, 0)
    one = operator(tf.add, "lm_one")(none, 1)
    steps = operator(tf.fill, "lm_steps")([1, config.vocabulary], one)
    return operator(tf.cumsum, "lm_ids")(steps, axis=1, exclusive=True)
