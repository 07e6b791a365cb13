"""What can be asked of a transformer when it is built, and whether it can be had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tfopt.errors import InputError, ModelError
from tfopt.models.transformers.config import TransformerConfig
from tfopt.models.transformers.embeddings import INPUTS
from tfopt.models.transformers.heads import HEADS, POOLINGS
from tfopt.registry import did_you_mean


@dataclass(frozen=True, slots=True)
class Shape:
    """Changes to the shape of a transformer; None keeps what it has.

    Attributes:
        layers: Keep the first so many blocks, or those of these numbers, in this order.
        hidden: Width of a hidden state; the feed-forward parts shrink with it.
        heads: Attention heads; they divide ``hidden``.
        intermediate: Width inside a feed-forward part.
        embedding_rank: Width of the table of tokens before a projection to ``hidden``
            (ALBERT, arXiv:1909.11942, section 3.1).
        dropout: Fraction dropped of hidden states and attention probabilities.
    """

    layers: int | Sequence[int] | None = None
    hidden: int | None = None
    heads: int | None = None
    intermediate: int | None = None
    embedding_rank: int | None = None
    dropout: float | None = None

    def applied(self, config: TransformerConfig) -> tuple[TransformerConfig, list[int]]:
        """Return the changed shape, and for each block the number of the one it was.

        Raises:
            InputError: If something is not narrower, or does not fit together.
        """
        blocks = _blocks(self.layers, config.layers)
        hidden = _narrower("hidden", self.hidden, config.hidden)
        intermediate = _narrower("intermediate", self.intermediate, config.intermediate)
        if self.hidden is not None and self.intermediate is None:
            intermediate = max(1, config.intermediate * hidden // config.hidden)
        heads = _narrower("heads", self.heads, config.heads)
        if hidden % heads:
            raise InputError(
                f"heads must divide hidden. Received: {heads} heads, hidden {hidden}. Set both."
            )
        rank = self.embedding_rank
        if rank is not None:
            _narrower("embedding_rank", rank, hidden - 1)
        rate = self.dropout
        if rate is not None and not (isinstance(rate, int | float) and 0 <= rate < 1):
            raise InputError(f"dropout must be in [0, 1). Received: {rate!r}.")
        changed = replace(
            config,
            layers=len(blocks),
            hidden=hidden,
            heads=heads,
            intermediate=intermediate,
            embedding_rank=rank,
            hidden_dropout=config.hidden_dropout if rate is None else float(rate),
            attention_dropout=config.attention_dropout if rate is None else float(rate),
        )
        return changed, blocks


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """What a transformer is for.

    Attributes:
        head: A name of ``HEADS``.
        units: Width of a classification head.
        pooling: A name of ``POOLINGS``; None for ``mean`` in encoders, ``last`` in decoders.
    """

    head: str
    units: int
    pooling: str | None = None

    def pooling_for(self, config: TransformerConfig) -> Any:
        """Return how hidden states become one vector.

        Raises:
            InputError: If head or pooling is unknown, or the head does not pool.
        """
        _require_known("head", self.head, HEADS)
        if self.pooling is None:
            return "last" if config.is_causal else "mean"
        _require_known("pooling", self.pooling, POOLINGS)
        if self.head not in ("classification", "embedding"):
            raise InputError(
                f"pooling is for the heads classification and embedding; {self.head} gives "
                "something for each token. Remove it."
            )
        return self.pooling


@dataclass(frozen=True, slots=True)
class TextInputs:
    """What one example is.

    Attributes:
        tokens: Tokens of a text; None for any number.
        pairs: Whether token types are an input.
    """

    tokens: int | None
    pairs: bool = False

    def require_fit(self, config: TransformerConfig) -> None:
        """Raise unless the transformer reads such texts.

        Raises:
            ModelError: If they are too long, or have token types and the transformer none.
        """
        if self.tokens is not None and not 1 <= self.tokens <= config.longest:
            raise ModelError(
                f"The model reads 1 to {config.longest} tokens of a text. Received: {self.tokens}."
            )
        if self.pairs and not config.token_types:
            raise ModelError(
                f"A {config.family} model has no token types, so token_type_ids cannot be an input."
            )


def text_of(input_shape: Any, *, builder: str) -> TextInputs:
    """Return what one example of the data is.

    Args:
        input_shape: Shape of one example: ``(tokens,)`` for each input name.
        builder: How the message names the builder.

    Raises:
        ModelError: If the inputs are others, or differ in length.
    """
    shapes = dict(input_shape) if isinstance(input_shape, Mapping) else {}
    names, lengths = set(shapes), {tuple(shape) for shape in shapes.values()}
    is_text = names in ({*INPUTS[:2]}, {*INPUTS})
    if not is_text or len(lengths) != 1 or len(next(iter(lengths))) != 1:
        raise ModelError(
            f"{builder} takes text: the inputs input_ids and attention_mask, and token_type_ids "
            f"for pairs, each of shape (tokens,). One example has: {input_shape}."
        )
    return TextInputs(tokens=next(iter(lengths))[0], pairs=INPUTS[2] in names)


def _blocks(layers: int | Sequence[int] | None, available: int) -> list[int]:
    if layers is None:
        return list(range(available))
    if isinstance(layers, int) and not isinstance(layers, bool):
        _narrower("layers", layers, available)
        return list(range(layers))
    blocks = list(layers) if isinstance(layers, Sequence) and not isinstance(layers, str) else []
    is_known = all(type(block) is int and 0 <= block < available for block in blocks)
    if not blocks or not is_known or len(set(blocks)) < len(blocks):
        raise InputError(
            f"layers must be a number of blocks, or different block numbers from 0 to "
            f"{available - 1}. Received: {layers!r}."
        )
    return blocks


def _narrower(name: str, value: int | None, most: int) -> int:
    if value is None:
        return most
    if type(value) is not int or not 1 <= value <= most:
        raise InputError(f"{name} must be a whole number from 1 to {most}. Received: {value!r}.")
    return value


def _require_known(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise InputError(
            f"{what} {name!r} is not known.{did_you_mean(str(name), known)} Known: "
            f"{', '.join(known)}."
        )
