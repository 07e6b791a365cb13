"""Impossible transformers are refused before anything is built."""

from __future__ import annotations

from typing import Any

import pytest

from tfopt.errors import InputError, ModelError
from tfopt.models.transformers.config import TransformerConfig
from tfopt.models.transformers.settings import HeadSettings, Shape, TextInputs, text_of

CONFIG = TransformerConfig(
    family="bert",
    vocabulary=60,
    hidden=24,
    layers=4,
    heads=4,
    intermediate=48,
    positions=20,
    token_types=2,
)


def test_nothing_changes_by_default() -> None:
    assert Shape().applied(CONFIG) == (CONFIG, [0, 1, 2, 3])


def test_the_feed_forward_part_shrinks_with_the_width() -> None:
    config, blocks = Shape(layers=[3, 1], hidden=12, dropout=0).applied(CONFIG)
    assert (config.layers, config.intermediate, blocks) == (2, 24, [3, 1])
    assert (config.hidden_dropout, config.attention_dropout) == (0, 0)
    assert Shape(hidden=12, intermediate=30).applied(CONFIG)[0].intermediate == 30


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (Shape(layers=5), "layers must be a whole number from 1 to 4. Received: 5"),
        (Shape(layers=True), "layers must be a number of blocks, or different"),
        (Shape(layers=[0, 4]), r"block numbers from 0 to 3. Received: \[0, 4\]"),
        (Shape(layers=[1, 1]), "different block numbers"),
        (Shape(layers=[]), "different block numbers"),
        (Shape(hidden=48), "hidden must be a whole number from 1 to 24. Received: 48"),
        (Shape(hidden=18), "heads must divide hidden. Received: 4 heads, hidden 18"),
        (Shape(embedding_rank=24), "embedding_rank must be a whole number from 1 to 23"),
        (Shape(intermediate=0), "intermediate must be .* Received: 0"),
        (Shape(dropout=1.0), r"dropout must be in \[0, 1\). Received: 1.0"),
    ],
)
def test_impossible_shapes(shape: Shape, message: str) -> None:
    with pytest.raises(InputError, match=message):
        shape.applied(CONFIG)


@pytest.mark.parametrize(
    ("head", "pooling", "message"),
    [
        ("clasification", None, "head 'clasification' is not known. Did you mean 'classification'"),
        ("classification", "max", "pooling 'max' is not known.* Known: mean, first, last"),
        ("language_model", "mean", "language_model gives something for each token. Remove it"),
    ],
)
def test_impossible_tasks(head: str, pooling: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        HeadSettings(head, 2, pooling).pooling_for(CONFIG)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ({"input_ids": (8,), "attention_mask": (8,)}, TextInputs(8)),
        (
            dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (None,)),
            TextInputs(None, True),
        ),
    ],
)
def test_texts(shape: Any, text: TextInputs) -> None:
    assert text_of(shape, builder="bert") == text


@pytest.mark.parametrize(
    "shape",
    [
        (28, 28, 1),
        {"input_ids": (8,)},
        {"input_ids": (8,), "attention_mask": (9,)},
        {"input_ids": (8, 2), "attention_mask": (8, 2)},
        {"input_ids": (8,), "mask": (8,)},
    ],
)
def test_what_is_no_text(shape: Any) -> None:
    with pytest.raises(ModelError, match="bert takes text: the inputs input_ids and attention_m"):
        text_of(shape, builder="bert")


def test_texts_that_the_model_cannot_read() -> None:
    with pytest.raises(ModelError, match="reads 1 to 20 tokens of a text. Received: 21"):
        TextInputs(21).require_fit(CONFIG)
    without = TransformerConfig(
        family="gpt2", vocabulary=9, hidden=4, layers=1, heads=1, intermediate=4, positions=9
    )
    with pytest.raises(ModelError, match="gpt2 model has no token types"):
        TextInputs(4, pairs=True).require_fit(without)
