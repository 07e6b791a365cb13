"""Every batch divided so that the parts together are the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.config.schema import Augment
from tfopt.data.arrays import ArraySplit
from tfopt.data.epochs import EpochPlan
from tfopt.data.sharding import WHOLE, Share
from tfopt.data.stream import StreamSplit
from tfopt.data.text.batches import TokenSplit, token_inputs
from tfopt.errors import DataError

ROWS, BATCH = 22, 8
CHANGES = Augment(
    shift=0.2, rotate_degrees=20, zoom=0.2, shear=0.2, flip_horizontal=True, brightness=0.2, noise=1
)


def arrays(*, weighted: bool = False) -> ArraySplit:
    images = np.random.default_rng(0).random((ROWS, 5, 3, 1), np.float32)
    weights = np.arange(ROWS, dtype=np.float32) if weighted else None
    return ArraySplit({"a": images, "b": np.arange(ROWS)[:, None]}, np.arange(ROWS), weights)


def numbers(read: list[int]) -> StreamSplit:
    """Return a stream that keeps account of what it decodes."""

    def look(number: int) -> Any:
        read.append(int(number))
        return np.full((5, 3, 1), number, np.float32)

    def decode(number: Any) -> Any:
        image = tf.ensure_shape(tf.numpy_function(look, [number], tf.float32), (5, 3, 1))
        return image, number

    spec = (tf.TensorSpec((5, 3, 1), tf.float32), tf.TensorSpec((), tf.int64))
    return StreamSplit(tf.data.Dataset.range(ROWS), ROWS, "numbers", spec, decode=decode)


def texts() -> TokenSplit:
    tokens = np.minimum(1 + np.random.default_rng(0).geometric(0.2, ROWS), 16)
    ids = np.tile(np.arange(ROWS, dtype=np.int32)[:, None], (1, 16))
    inputs = token_inputs(ids, tokens, None, padding_id=ROWS)
    return TokenSplit(inputs, np.arange(ROWS), lengths=(4, 8, 16))


def undecoded() -> StreamSplit:
    rows = tf.data.Dataset.from_tensor_slices((np.zeros((ROWS, 5, 3, 1), np.float32), range(ROWS)))
    return StreamSplit(rows, ROWS, "rows", rows.element_spec)


def batches(split: Any, share: Share = WHOLE, *, augment: Augment = CHANGES) -> list[Any]:
    made = split.training_batches(
        EpochPlan(batch_size=BATCH, seed=3, first_epoch=1, epochs=3, augment=augment, share=share)
    )
    assert int(made.cardinality()) == 2 * 3 * share.count
    return list(made.as_numpy_iterator())


@pytest.mark.parametrize("replicas", [2, 3, 5])
@pytest.mark.parametrize(
    ("make", "augment"),
    [
        (arrays, CHANGES),
        (lambda: numbers([]), CHANGES),
        (undecoded, CHANGES),
        (texts, Augment()),
    ],
    ids=["arrays", "stream", "undecoded", "texts"],
)
def test_the_parts_are_the_batch_of_one_process(make: Any, augment: Augment, replicas: int) -> None:
    split = make()
    ranks = [batches(split, Share(replicas, first), augment=augment) for first in range(replicas)]
    for number, (inputs, labels) in enumerate(batches(split, augment=augment)):
        parts = [rank[number] for rank in ranks]
        assert len({len(part[1]) for part in parts}) == 1  # as many rows for every replica
        weights = np.concatenate([weight for *_, weight in parts])
        real = weights > 0
        assert real.sum() == len(labels)
        assert np.concatenate([part[1] for part in parts])[real].tolist() == labels.tolist()
        together = tf.nest.map_structure(
            lambda *leaves, real=real: np.concatenate(leaves)[real], *[part[0] for part in parts]
        )
        # What was drawn for a row in one process is drawn for it here, bit for bit.
        tf.nest.map_structure(np.testing.assert_array_equal, together, inputs)
        means = [np.mean(own * weight) for _, own, weight in parts]
        assert np.mean(means) == pytest.approx(labels.mean(), rel=1e-6)


@pytest.mark.parametrize("replicas", [2, 4])
def test_a_process_decodes_its_own_rows_only(replicas: int) -> None:
    decoded: list[list[int]] = [[] for _ in range(replicas)]
    for first, read in enumerate(decoded):
        found = batches(numbers(read), Share(replicas, first))
        # Those that fill up a batch included.
        assert sorted(read) == sorted(int(label) for _, labels, _ in found for label in labels)
    # Two epochs of all rows, and of each last batch of 6 what fills it up to equal parts.
    assert sum(map(len, decoded)) == 2 * (ROWS + -6 % replicas)
    alone: list[int] = []
    batches(numbers(alone))
    assert len(alone) == 2 * ROWS


def test_one_process_with_several_replicas_sees_the_parts_in_turns() -> None:
    ranks = [batches(arrays(), Share(4, first)) for first in range(4)]
    both = [batches(arrays(), Share(4, first, 2)) for first in (0, 2)]
    for number, expected in enumerate(zip(*ranks, strict=True)):
        found = [both[half][2 * number + turn] for half in (0, 1) for turn in (0, 1)]
        for part, other in zip(expected, found, strict=True):
            tf.nest.map_structure(np.testing.assert_array_equal, part, other)


def test_weights_of_rows_are_kept() -> None:
    for first in range(4):
        for number, (_, labels, weight) in enumerate(
            batches(arrays(weighted=True), Share(4, first))
        ):
            grown = 8 / 6 if number % 3 == 2 else 1.0
            places = np.arange(len(labels)) + first * len(labels)
            is_real = places < (6 if number % 3 == 2 else 8)
            assert weight == pytest.approx(np.where(is_real, labels * grown, 0), rel=1e-6)


def test_alone_batches_have_no_weights() -> None:
    assert all(len(batch) == 2 for batch in batches(arrays()))


def test_batches_without_labels() -> None:
    unlabelled = ArraySplit(np.zeros((ROWS, 5, 3, 1), np.float32))
    with pytest.raises(DataError, match="without labels cannot be divided"):
        batches(unlabelled, Share(2))


@pytest.mark.parametrize("replicas", [1, 2])
def test_blocks_are_filled_up_to_equal_parts(replicas: int) -> None:
    ranks = [batches(arrays(), Share(replicas, first, parts=3)) for first in range(replicas)]
    for number, (_, labels) in enumerate(batches(arrays())):
        means = []
        for rank in ranks:
            _, own, weight = rank[number]
            means += [np.mean(part) for part in np.split(own * weight, 3)]
        assert np.mean(means) == pytest.approx(labels.mean(), rel=1e-6)
