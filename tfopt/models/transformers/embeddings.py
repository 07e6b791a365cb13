"""From token ids to the first hidden states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfopt.keras2.core import Layer, keras
from tfopt.models.transformers.config import TransformerConfig
from tfopt.models.transformers.plain import dropout, norm, operator, projection, table

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Names of the inputs; the last one is there for sentence pairs only."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the blocks and heads need of the tokens.

    Attributes:
        inputs: The input tensors by name, each ``(batch, T)`` int32.
        positions: Number of each token, from 0, ``(batch, T)`` int32.
        hidden: First hidden states, ``(batch, T, hidden)``.
        look_up: Turns token ids of any shape into rows of the table of tokens, as wide as
            ``hidden``.
    """

    inputs: Mapping[str, Any]
    positions: Any
    hidden: Any
    look_up: Callable[[Any], Any]


def embed(config: TransformerConfig, tokens: int | None, *, pairs: bool) -> Tokens:
    """Return the inputs of a transformer and its first hidden states.

    Args:
        config: The shape.
        tokens: Tokens of a text; None for any number.
        pairs: Whether token types are an input; otherwise all are 0.
    """
    names = INPUTS if pairs else INPUTS[:2]
    inputs = {name: keras.Input((tokens,), dtype="int32", name=name) for name in names}
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    ones = operator(tf.ones_like, "position_steps")(ids)
    positions = operator(tf.cumsum, "position_numbers")(ones, axis=1, exclusive=True)
    types = inputs.get("token_type_ids")
    rows = positions
    if not config.is_causal:
        ids = repeat_first(ids, mask, "input_ids")
        rows = operator(tf.multiply, "position_numbers_padded")(positions, mask)
        types = None if types is None else repeat_first(types, mask, "token_type_ids")
    look_up = _table_of_tokens(config)
    parts = [look_up(ids), _positions(config, rows)]
    if config.token_types:
        types = operator(tf.zeros_like, "token_type_zeros")(ids) if types is None else types
        parts.append(
            table(config.token_types, config.hidden, "token_type_embeddings", config)(types)
        )
    hidden = keras.layers.Add(name="embeddings_sum")(parts)
    if not config.is_causal:
        hidden = norm("embeddings_norm", config)(hidden)
    hidden = dropout(hidden, config.hidden_dropout, "embeddings_dropout")
    return Tokens(inputs=inputs, positions=positions, hidden=hidden, look_up=look_up)


def repeat_first(ids: Any, mask: Any, name: str) -> Any:
    """Return ids in which padding repeats the first token.

    With the first position and type beside it, padding has the hidden state of the first token
    in every block of an encoder, since equal tokens attend alike. Its key then scores like
    that of a real token, and a small constant is enough to mask it (``attention.PADDED``).

    Args:
        ids: ``(batch, T)`` integers.
        mask: ``(batch, T)`` integers, 1 for a real token and 0 for padding.
        name: Start of the layers' names.
    """
    first = operator(tf.gather, f"{name}_first")(ids, [0], axis=1)
    beyond = operator(tf.subtract, f"{name}_beyond_first")(ids, first)
    kept = operator(tf.multiply, f"{name}_beyond_first_real")(beyond, mask)
    return operator(tf.add, f"{name}_padded")(kept, first)


def _table_of_tokens(config: TransformerConfig) -> Callable[[Any], Any]:
    width = config.embedding_rank or config.hidden
    words = table(config.vocabulary, width, "word_embeddings", config)
    if config.embedding_rank is None:
        return words
    widen = projection(config.hidden, "word_embeddings_projection", config)
    return lambda ids: widen(words(ids))


def _positions(config: TransformerConfig, rows: Any) -> Any:
    if config.first_position:
        rows = operator(tf.add, "position_rows")(rows, config.first_position)
    places: Layer = table(config.positions, config.hidden, "position_embeddings", config)
    return places(rows)
