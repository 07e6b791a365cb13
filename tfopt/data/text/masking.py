"""Hide tokens for masked language models, and set the targets of language models."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfopt.data.text.batches import IDS, IGNORED, MASK
from tfopt.data.text.tokenizer import TextTokenizer
from tfopt.errors import DataError

_HIDDEN, _REPLACED = 0.8, 0.1


@dataclass(frozen=True, slots=True)
class Masking:
    """How tokens are hidden.

    Attributes:
        mask_id: Id that stands for a hidden token.
        vocabulary_size: Random tokens are drawn from the ids below it.
        special_ids: Ids that are neither hidden nor drawn, such as ``[CLS]``.
        rate: Share of the tokens to predict, in ``(0, 1)``.
    """

    mask_id: int
    vocabulary_size: int
    special_ids: Collection[int]
    rate: float = 0.15


def masking_of(tokenizer: TextTokenizer, *, rate: float = 0.15) -> Masking:
    """Return how a tokenizer hides tokens.

    Raises:
        DataError: If it has no token for hidden ones, as GPT-2's has not.
    """
    if tokenizer.mask_id is None:
        raise DataError(
            f"{tokenizer.name} has no mask token, so it is not of a masked language model. Use a "
            "tokenizer with [MASK] or <mask>, as BERT and RoBERTa have."
        )
    return Masking(tokenizer.mask_id, tokenizer.size, tokenizer.special_ids, rate)


def masked_language_model_batch(
    inputs: Mapping[str, Any], seed: Any, masking: Masking
) -> tuple[dict[str, Any], Any]:
    """Hide tokens of a batch, and return what was hidden as labels.

    Of the real tokens that stand for text, ``rate`` are drawn, and at least one a row. Of
    these 80% become the mask token, 10% a random token, and 10% stay (Devlin et al. 2018,
    arXiv:1810.04805, section 3.1). The same seed and batch give the same draw.

    Args:
        inputs: ``input_ids`` and ``attention_mask``, int32 of shape ``(rows, tokens)``, and
            whatever else the model takes.
        seed: Int tensor of shape ``(2,)``.
        masking: How tokens are hidden.

    Returns:
        The inputs with hidden tokens, and labels, int64 of shape ``(rows, tokens)``: the
        true id where a token is to be predicted, ``IGNORED`` elsewhere.
    """
    ids = tf.convert_to_tensor(inputs[IDS])
    special = tf.constant(sorted(masking.special_ids), ids.dtype)
    is_special = tf.reduce_any(ids[..., None] == special, -1)
    is_text = (tf.convert_to_tensor(inputs[MASK]) > 0) & ~is_special
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    draws, kinds = (tf.random.stateless_uniform(tf.shape(ids), part) for part in seeds[:2])
    draws = tf.where(is_text, draws, 2.0)
    least = tf.reduce_min(draws, -1, keepdims=True)
    chosen = is_text & ((draws < masking.rate) | (draws == least))
    random_ids = _random_text_ids(tf.shape(ids), seeds[2], masking)
    hidden = tf.where(kinds < _HIDDEN, masking.mask_id, ids)
    hidden = tf.where(kinds >= 1 - _REPLACED, tf.cast(random_ids, ids.dtype), hidden)
    labels = tf.where(chosen, tf.cast(ids, tf.int64), IGNORED)
    return {**inputs, IDS: tf.where(chosen, hidden, ids)}, labels


def _random_text_ids(shape: Any, seed: Any, masking: Masking) -> Any:
    """Return random ids that stand for text."""
    special = set(masking.special_ids)
    text = [number for number in range(masking.vocabulary_size) if number not in special]
    places = tf.random.stateless_uniform(shape, seed, maxval=len(text), dtype=tf.int32)
    return tf.gather(tf.constant(text, tf.int32), places)
