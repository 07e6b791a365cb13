"""The blocks of BERT-like encoders and GPT-2-like decoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tfopt.keras2.core import keras
from tfopt.models.transformers.attention import attend, causal_bias, padding_bias
from tfopt.models.transformers.config import TransformerConfig
from tfopt.models.transformers.embeddings import Tokens, embed
from tfopt.models.transformers.plain import activate, dense, dropout, norm


@dataclass(frozen=True, slots=True)
class Body:
    """A transformer without a head.

    Attributes:
        tokens: Its inputs, and the table of tokens.
        hidden: Its last hidden states, ``(batch, T, hidden)``. Those of padding mean nothing.
    """

    tokens: Tokens
    hidden: Any


def body(config: TransformerConfig, tokens: int | None, *, pairs: bool) -> Body:
    """Return the embeddings and blocks of a transformer.

    Args:
        config: The shape.
        tokens: Tokens of a text; None for any number.
        pairs: Whether token types are an input.
    """
    start = embed(config, tokens, pairs=pairs)
    mask = start.inputs["attention_mask"]
    x = start.hidden
    if config.is_causal:
        bias = causal_bias(mask, start.positions)
        for number in range(config.layers):
            x = _decoder_block(x, bias, config, f"layer_{number}")
        return Body(start, norm("final_norm", config)(x))
    bias = padding_bias(mask)
    for number in range(config.layers):
        x = _encoder_block(x, bias, config, f"layer_{number}")
    return Body(start, x)


def _encoder_block(x: Any, bias: Any, config: TransformerConfig, block: str) -> Any:
    """Return the next hidden states, normalized behind each sum (arXiv:1810.04805)."""
    attended = attend(x, bias, config, block)
    attended = dropout(attended, config.hidden_dropout, f"{block}_attention_output_dropout")
    x = keras.layers.Add(name=f"{block}_attention_sum")([attended, x])
    x = norm(f"{block}_attention_norm", config)(x)
    fed = _feed_forward(x, config, block)
    x = keras.layers.Add(name=f"{block}_output_sum")([fed, x])
    return norm(f"{block}_output_norm", config)(x)


def _decoder_block(x: Any, bias: Any, config: TransformerConfig, block: str) -> Any:
    """Return the next hidden states, normalized before each part (GPT-2, section 2.3)."""
    attended = attend(norm(f"{block}_attention_norm", config)(x), bias, config, block)
    attended = dropout(attended, config.hidden_dropout, f"{block}_attention_output_dropout")
    x = keras.layers.Add(name=f"{block}_attention_sum")([attended, x])
    fed = _feed_forward(norm(f"{block}_intermediate_norm", config)(x), config, block)
    return keras.layers.Add(name=f"{block}_hidden")([fed, x])


def _feed_forward(x: Any, config: TransformerConfig, block: str) -> Any:
    x = dense(config.intermediate, f"{block}_intermediate", config)(x)
    x = activate(x, config, f"{block}_intermediate_activation")
    x = dense(config.hidden, f"{block}_output", config)(x)
    return dropout(x, config.hidden_dropout, f"{block}_output_dropout")
