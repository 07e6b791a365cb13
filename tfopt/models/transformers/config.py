"""Read the config.json of a pretrained transformer, and refuse what the builders cannot follow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from tfopt.errors import ModelError

Family: TypeAlias = Literal["bert", "distilbert", "roberta", "gpt2"]

FAMILIES: tuple[Family, ...] = ("bert", "distilbert", "roberta", "gpt2")

ACTIVATIONS: Mapping[str, str] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "swish",
    "swish": "swish",
}
"""Names of Hugging Face's activations, and the formula that each stands for."""


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """The shape of a transformer.

    Attributes:
        family: Which names and which order of normalization it has.
        vocabulary: Rows of the table of tokens.
        hidden: Width of a hidden state.
        layers: Number of blocks.
        heads: Attention heads; they divide ``hidden``.
        intermediate: Width inside a feed-forward part.
        positions: Rows of the table of positions.
        first_position: Row of the first token: RoBERTa counts from behind its padding id.
        token_types: Rows of the table of token types; 0 for none.
        activation: A value of ``ACTIVATIONS``.
        norm_epsilon: What the layer normalizations add to the variance.
        hidden_dropout: Fraction dropped of embeddings and of what blocks add, in ``[0, 1)``.
        attention_dropout: Fraction dropped of attention probabilities, in ``[0, 1)``.
        initializer_range: Standard deviation of new kernels and tables.
        is_tied: Whether the language-model head reads the table of tokens.
        embedding_rank: Width of the table of tokens before a projection to ``hidden``; None
            for a table of that width.
    """

    family: Family
    vocabulary: int
    hidden: int
    layers: int
    heads: int
    intermediate: int
    positions: int
    first_position: int = 0
    token_types: int = 0
    activation: str = "gelu"
    norm_epsilon: float = 1e-12
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    initializer_range: float = 0.02
    is_tied: bool = True
    embedding_rank: int | None = None

    @property
    def is_causal(self) -> bool:
        """Whether a position attends to none after it."""
        return self.family == "gpt2"

    @property
    def longest(self) -> int:
        """Most tokens of a text."""
        return self.positions - self.first_position


_SIZES: Mapping[Family, Mapping[str, str]] = {
    "bert": {
        "vocabulary": "vocab_size",
        "hidden": "hidden_size",
        "layers": "num_hidden_layers",
        "heads": "num_attention_heads",
        "intermediate": "intermediate_size",
        "positions": "max_position_embeddings",
    },
    "distilbert": {
        "vocabulary": "vocab_size",
        "hidden": "dim",
        "layers": "n_layers",
        "heads": "n_heads",
        "intermediate": "hidden_dim",
        "positions": "max_position_embeddings",
    },
    "gpt2": {
        "vocabulary": "vocab_size",
        "hidden": "n_embd",
        "layers": "n_layer",
        "heads": "n_head",
        "positions": "n_positions",
    },
}

# What transformers' configuration classes take for a key that is not in the file.
_OPTIONS: Mapping[Family, Mapping[str, tuple[str, Any]]] = {
    "bert": {
        "token_types": ("type_vocab_size", 2),
        "activation": ("hidden_act", "gelu"),
        "norm_epsilon": ("layer_norm_eps", 1e-12),
        "hidden_dropout": ("hidden_dropout_prob", 0.1),
        "attention_dropout": ("attention_probs_dropout_prob", 0.1),
        "initializer_range": ("initializer_range", 0.02),
        "is_tied": ("tie_word_embeddings", True),
    },
    "distilbert": {
        "activation": ("activation", "gelu"),
        "hidden_dropout": ("dropout", 0.1),
        "attention_dropout": ("attention_dropout", 0.1),
        "initializer_range": ("initializer_range", 0.02),
        "is_tied": ("tie_word_embeddings", True),
    },
    "gpt2": {
        "activation": ("activation_function", "gelu_new"),
        "norm_epsilon": ("layer_norm_epsilon", 1e-5),
        "hidden_dropout": ("resid_pdrop", 0.1),
        "attention_dropout": ("attn_pdrop", 0.1),
        "initializer_range": ("initializer_range", 0.02),
        "is_tied": ("tie_word_embeddings", True),
    },
}

# Keys that change what the model computes, and the only value that is followed.
_FIXED: Mapping[str, Any] = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "is_encoder_decoder": False,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
}


def read_config(folder: Path) -> TransformerConfig:
    """Return the shape of the pretrained model in a folder.

    Args:
        folder: A folder in Hugging Face layout.

    Raises:
        ModelError: If ``config.json`` is missing or broken, of a kind that is not known, or
            has options that the builders do not follow; all of them are named.
    """
    path = folder / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"The pretrained model cannot be read: {error}") from error
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
    kind = raw.get("model_type") if isinstance(raw, dict) else None
    if kind not in FAMILIES:
        raise ModelError(
            f"{path}: model_type {kind!r} has no builder. Known: {', '.join(FAMILIES)}."
        )
    values, problems = _values(cast(Family, kind), raw)
    if problems:
        raise ModelError(f"{path} cannot be followed: {'; '.join(problems)}.")
    return TransformerConfig(**values)


def _values(family: Family, raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of the config, and everything that is wrong with them."""
    like: Family = "bert" if family == "roberta" else family
    problems: list[str] = []
    values: dict[str, Any] = {"family": family}
    for field, key in _SIZES[like].items():
        values[field] = raw.get(key)
        if not isinstance(values[field], int) or values[field] < 1:
            problems.append(f"{key} must be a positive whole number, and is {raw.get(key)!r}")
    for field, (key, default) in _OPTIONS[like].items():
        values[field] = raw.get(key, default)
    if family == "roberta":
        # transformers' create_position_ids_from_input_ids starts at padding_idx + 1.
        values["first_position"] = raw.get("pad_token_id", 1) + 1
    if family == "gpt2" and not problems:
        values["intermediate"] = raw.get("n_inner") or 4 * values["hidden"]
    activation = values["activation"]
    if activation in ACTIVATIONS:
        values["activation"] = ACTIVATIONS[activation]
    else:
        known = ", ".join(ACTIVATIONS)
        problems.append(f"the activation {activation!r} is none of {known}")
    for key, only in _FIXED.items():
        if raw.get(key, only) != only:
            problems.append(f"{key} is {raw[key]!r}, and only {only!r} is supported")
    if not problems and values["hidden"] % values["heads"]:
        problems.append(f"{values['heads']} heads do not divide a width of {values['hidden']}")
    return values, problems
