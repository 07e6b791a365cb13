"""Bucketed epochs: every row once, less padding, exact steps, the same after a resume."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.config.schema import Augment
from tfopt.data.epochs import EpochPlan
from tfopt.data.text.batches import TokenSplit, token_inputs
from tfopt.errors import DataError

LENGTHS = (4, 8, 12, 16)


def rows_of(
    count: int, *, lengths: tuple[int, ...] = LENGTHS, by_token: bool = False
) -> TokenSplit:
    """Rows whose first token is their number, of 1 to 16 tokens, most of them short."""
    draws = np.random.default_rng(0)
    tokens = np.minimum(1 + draws.geometric(0.2, count), 16)
    tokens[0] = 16
    ids = np.tile(np.arange(count, dtype=np.int32)[:, None], (1, 16))
    inputs = token_inputs(ids, tokens, None, padding_id=count)
    labels = np.arange(count, dtype=np.int64)
    if by_token:
        labels = np.tile(labels[:, None], (1, 16))
    return TokenSplit(inputs, labels, lengths=lengths, labels_by_token=by_token)


def batches(split: TokenSplit, *, first: int = 0, last: int = 1, seed: int = 1) -> list[Any]:
    found = split.training_batches(
        EpochPlan(batch_size=8, seed=seed, first_epoch=first, epochs=last, augment=Augment())
    )
    assert int(found.cardinality()) == (last - first) * split.steps_per_epoch(8)
    return list(found.as_numpy_iterator())


@pytest.mark.parametrize("count", [1, 8, 61, 200])
def test_every_row_comes_once_an_epoch_in_exactly_the_steps_foretold(count: int) -> None:
    split = rows_of(count)
    for epoch in range(2):
        found = batches(split, first=epoch, last=epoch + 1)
        sizes = sorted(len(labels) for _, labels in found)
        assert sizes == sorted([8] * (count // 8) + [count % 8] * (count % 8 > 0))
        assert sorted(np.concatenate([labels for _, labels in found])) == list(range(count))
        for inputs, labels in found:
            assert inputs["input_ids"][:, 0].tolist() == labels.tolist()


def test_batches_are_cut_to_their_bucket_and_no_token_is_lost() -> None:
    split = rows_of(200)
    real = split.inputs["attention_mask"].sum()
    found = batches(split)
    lengths = {inputs["input_ids"].shape[1] for inputs, _ in found}
    assert lengths == set(LENGTHS)
    assert sum(inputs["attention_mask"].sum() for inputs, _ in found) == real
    padded = sum(inputs["input_ids"].size for inputs, _ in found)
    whole = sum(inputs["input_ids"].size for inputs, _ in batches(rows_of(200, lengths=(16,))))
    assert whole == 200 * 16
    assert padded - real < 0.25 * (whole - real)


def test_order_depends_on_seed_and_epoch_only_and_resumes() -> None:
    split = rows_of(61)
    both = batches(split, last=3)
    steps = split.steps_per_epoch(8)
    for (inputs, labels), (again, same) in zip(
        both[steps:], batches(split, first=1, last=3), strict=True
    ):
        assert np.array_equal(inputs["input_ids"], again["input_ids"])
        assert np.array_equal(labels, same)
    orders = [
        np.concatenate([labels for _, labels in part]).tolist()
        for part in (both[:steps], both[steps : 2 * steps], batches(split, seed=2))
    ]
    assert len({tuple(order) for order in orders}) == 3


def test_the_smaller_batch_is_not_always_of_the_longest_rows() -> None:
    split = rows_of(61)
    small = [
        inputs["input_ids"].shape[1]
        for inputs, labels in batches(split, last=12)
        if len(labels) == 61 % 8
    ]
    assert len(small) == 12
    assert len(set(small)) > 1


def test_labels_of_tokens_are_cut_too() -> None:
    split = rows_of(30, by_token=True)
    assert split.label_spec == tf.TensorSpec([None], tf.int64)
    for inputs, labels in batches(split):
        assert labels.shape == inputs["input_ids"].shape


def test_specs_and_what_is_read_in_order() -> None:
    split = rows_of(20)
    assert {leaf.shape.as_list()[0] for leaf in split.input_spec.values()} == {None}
    assert {leaf.shape.as_list()[0] for leaf in rows_of(9, lengths=(16,)).input_spec.values()} == {
        16
    }
    assert split.select(np.array([3, 5])).is_bucketed
    for inputs, _ in split.numpy_batches(6):
        assert inputs["input_ids"].shape[1] == split.max_tokens == 16
    assert split.sample_inputs(4, seed=0)["attention_mask"].shape == (4, 16)


def test_text_is_not_augmented_as_pictures_are() -> None:
    for lengths in (LENGTHS, (16,)):
        with pytest.raises(DataError, match="image"):
            rows_of(9, lengths=lengths).training_batches(
                EpochPlan(batch_size=2, seed=0, first_epoch=0, epochs=1, augment=Augment(shift=0.1))
            )


def test_inputs_by_hand() -> None:
    ids = np.array([[5, 6, 0], [7, 0, 0]], np.int32)
    inputs = token_inputs(ids, np.array([2, 1]), np.ones_like(ids), padding_id=9)
    assert inputs["input_ids"].tolist() == [[5, 6, 9], [7, 9, 9]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 0], [1, 0, 0]]
    assert inputs["token_type_ids"].tolist() == [[1, 1, 0], [1, 0, 0]]
    assert {array.dtype for array in inputs.values()} == {np.dtype(np.int32)}
