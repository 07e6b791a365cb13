"""Numbers that an embedding has no row for, and lengths a model does not take, are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.data.split import ArraySplit, split_from
from tfopt.data.text.batches import TokenSplit, token_inputs
from tfopt.errors import DataError
from tfopt.keras2.core import Model, keras
from tfopt.models.transformers.build import bert
from tfopt.models.transformers.plain import operator
from tfopt.training.task import require_inputs


def tagger(length: int | None, rows: int = 10) -> Model:
    inputs = {
        name: keras.Input((length,), dtype="int32", name=name)
        for name in ("attention_mask", "input_ids")
    }
    embedded = keras.layers.Embedding(rows, 4, name="words")(inputs["input_ids"])
    weights = tf.cast(tf.expand_dims(inputs["attention_mask"], -1), tf.float32)
    pooled = tf.reduce_sum(embedded * weights, 1)
    return keras.Model(inputs, keras.layers.Dense(2)(pooled), name="tagger")


def split_of(largest: int, *lengths: int) -> TokenSplit:
    ids = np.full((3, 8), largest, np.int32)
    inputs = token_inputs(ids, np.array([2, 5, 8]), None, padding_id=0)
    return TokenSplit(inputs, np.array([0, 1, 1]), lengths=lengths or (8,))


def refused(model: Model, split: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        require_inputs(model, split, what="training data")


def test_ids_beyond_the_embedding() -> None:
    require_inputs(tagger(8), split_of(9), what="training data")
    refused(
        tagger(8), split_of(10),
        "holds 10 in input 'input_ids', but the embedding 'words' .* rows 0 to 9.*data.text.token",
    )  # fmt: skip
    refused(tagger(8), split_of(-1), "holds -1 in input 'input_ids'")


def test_ids_beyond_the_table_of_an_encoder() -> None:
    shapes = {"input_ids": (8,), "attention_mask": (8,)}
    model = bert(shapes, 2, vocabulary=10, layers=1, hidden=8, heads=2)
    require_inputs(model, split_of(9), what="training data")
    refused(model, split_of(10), "holds 10 in input 'input_ids', .* 'word_embeddings'")


def test_a_single_array_and_streams() -> None:
    inputs = keras.Input((4,), dtype="int64", name="items")
    pooled = keras.layers.Flatten()(keras.layers.Embedding(5, 3, name="table")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(pooled), name="items")
    split = ArraySplit(np.full((2, 4), 5), np.array([0, 1]))
    refused(model, split, "holds 5 in input 'items', but the embedding 'table' .*0 to 4.$")
    stream = split_from(tf.data.Dataset.from_tensors((split.inputs, split.labels)))
    require_inputs(model, stream, what="training data")  # not read for this check


def test_bucketed_rows_need_a_free_length() -> None:
    split = split_of(3, 4, 8)
    require_inputs(tagger(None), split, what="training data")
    require_inputs(tagger(None), split_of(3), what="training data")
    refused(tagger(8), split, "takes rows of 8 alone.*padding: max, max_tokens: 8")


@pytest.mark.parametrize("first", [0, 2])
def test_rows_longer_than_the_table_of_positions(first: int) -> None:
    inputs = {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("attention_mask", "input_ids")
    }
    rows = operator(tf.cumsum, "positions")(inputs["attention_mask"], axis=1)
    if first:
        rows = operator(tf.add, "position_rows")(rows, first)
    table = keras.layers.Embedding(7 + first, 3, name="position_embeddings")(rows)
    words = keras.layers.Embedding(10, 3)(inputs["input_ids"])
    pooled = keras.layers.GlobalAveragePooling1D()(table + words)
    model = keras.Model(inputs, keras.layers.Dense(2)(pooled), name="reader")
    refused(model, split_of(3, 4, 8), "up to 8 tokens in a row.*'reader' has 7 positions.*: 7 or")
