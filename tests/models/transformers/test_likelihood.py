"""Likelihoods are those of a causal language model, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfopt
from tfopt.errors import DataError, ModelError


@pytest.fixture(scope="module")
def gpt2(data: Path) -> Any:
    return tfopt.load_transformer(data / "gpt2", head="language_model")


def test_the_sum_over_the_real_tokens(gpt2: Any, texts: dict[str, np.ndarray]) -> None:
    ids, mask = texts["input_ids"], texts["attention_mask"]
    found = tfopt.sequence_log_likelihood(gpt2, ids, mask, batch_size=3)
    logits = gpt2(texts).numpy().astype(np.float64)
    steps = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = [
        sum(steps[row, place - 1, ids[row, place]] for place in range(1, mask[row].sum()))
        for row in range(4)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert found[3] == 0
    assert (found[:3] < -1).all()


def test_padding_changes_nothing(gpt2: Any, texts: dict[str, np.ndarray]) -> None:
    ids, mask = texts["input_ids"][1:2], texts["attention_mask"][1:2]
    short = tfopt.sequence_log_likelihood(gpt2, ids[:, :5], mask[:, :5])
    np.testing.assert_allclose(
        tfopt.sequence_log_likelihood(gpt2, ids, mask), short, rtol=1e-4, atol=1e-4
    )


def test_a_bidirectional_model_has_no_likelihood(data: Path, texts: dict[str, np.ndarray]) -> None:
    bert = tfopt.load_transformer(data / "bert", head="language_model")
    with pytest.raises(ModelError, match="'bert' is not causal: another last token changes"):
        tfopt.sequence_log_likelihood(bert, texts["input_ids"], texts["attention_mask"])


def test_a_model_with_another_head(data: Path, texts: dict[str, np.ndarray]) -> None:
    model = tfopt.load_transformer(data / "gpt2", classes=3)
    with pytest.raises(ModelError, match="gives logits .* Received: .1, 3.. Load it with"):
        tfopt.sequence_log_likelihood(model, texts["input_ids"], texts["attention_mask"])


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (np.ones((2, 4)), np.ones((2, 3)), r"one shape .* Received: \(2, 4\) and \(2, 3\)"),
        (np.ones((2, 1)), np.ones((2, 1)), "2 tokens"),
        (np.ones((1, 3)), [[0, 1, 1]], "real tokens behind padding"),
        (np.ones((1, 3)), [[2, 1, 1]], "or with other numbers"),
    ],
)
def test_texts_that_cannot_be_scored(gpt2: Any, ids: Any, mask: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        tfopt.sequence_log_likelihood(gpt2, ids, mask)
