"""Masked tokens are drawn as in BERT, from the seed alone."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfopt.data.text.batches import IGNORED, token_inputs
from tfopt.data.text.masking import Masking, masked_language_model_batch, masking_of
from tfopt.data.text.tokenizer import load_tokenizer
from tfopt.errors import DataError

MASKING = Masking(mask_id=4, vocabulary_size=1000, special_ids=frozenset({0, 1, 2, 3, 4}))
DRAWS = np.random.default_rng(0)
IDS = DRAWS.integers(5, 1000, (400, 32)).astype(np.int32)
IDS[:, 0] = 2
INPUTS = token_inputs(IDS, DRAWS.integers(2, 33, 400), None, padding_id=0)
SEED = tf.constant([1, 2], tf.int64)


def test_shares_are_those_of_the_paper() -> None:
    hidden, labels = masked_language_model_batch(INPUTS, SEED, MASKING)
    labels, ids = labels.numpy(), hidden["input_ids"].numpy()
    chosen = labels != IGNORED
    text = (INPUTS["attention_mask"] == 1) & (IDS != 2)
    assert not (chosen & ~text).any()
    assert chosen.any(axis=1).all()  # at least one a row, however short
    long = text.sum(axis=1) > 20
    assert chosen[long].sum() / text[long].sum() == pytest.approx(0.15, abs=0.02)
    assert np.array_equal(labels[chosen], INPUTS["input_ids"][chosen])
    assert np.array_equal(ids[~chosen], INPUTS["input_ids"][~chosen])
    assert (ids[chosen] == 4).mean() == pytest.approx(0.8, abs=0.03)
    assert (ids[chosen] == labels[chosen]).mean() == pytest.approx(0.1, abs=0.03)
    other = ids[chosen & (ids != 4) & (ids != labels)]
    assert other.min() >= 5
    assert len(np.unique(other)) > 0.8 * len(other)
    assert hidden["attention_mask"] is INPUTS["attention_mask"]


def test_the_draw_follows_from_the_seed_in_eager_and_in_graph() -> None:
    draw = tf.function(lambda seed: masked_language_model_batch(INPUTS, seed, MASKING))
    first, labels = masked_language_model_batch(INPUTS, SEED, MASKING)
    again, same = draw(SEED)
    assert np.array_equal(first["input_ids"], again["input_ids"])
    assert np.array_equal(labels, same)
    _, others = draw(SEED + 1)
    assert not np.array_equal(labels, others)


def test_masking_of_a_tokenizer(tmp_path) -> None:
    found = masking_of(load_tokenizer("minilm-l6"), rate=0.3)
    assert (found.mask_id, found.vocabulary_size, found.rate) == (103, 30522, 0.3)
    assert set(found.special_ids) == {0, 100, 101, 102, 103}
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\na")
    with pytest.raises(DataError, match="has no mask token"):
        masking_of(load_tokenizer(str(tmp_path)))
