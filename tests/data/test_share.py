"""Every batch divided so that the parts together are the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.data.share import Share, divided
from tfopt.errors import DataError


def batches(rows: int = 11, batch: int = 4, *, weighted: bool = False) -> Any:
    x = {"a": np.arange(rows, dtype=np.float32)[:, None], "b": np.arange(rows * 2).reshape(-1, 2)}
    parts = (x, np.arange(rows)) + ((np.arange(rows, dtype=np.float32),) if weighted else ())
    return tf.data.Dataset.from_tensor_slices(parts).batch(batch)


def parts_of(replicas: int, **options: Any) -> list[list[Any]]:
    """Return the elements of each process, one replica a process."""
    return [
        list(divided(batches(**options), Share(replicas, first)).as_numpy_iterator())
        for first in range(replicas)
    ]


@pytest.mark.parametrize("replicas", [2, 3, 5])
def test_parts_are_even_and_weigh_as_much_as_the_batch(replicas: int) -> None:
    ranks = parts_of(replicas)
    for number, whole in enumerate(batches().as_numpy_iterator()):
        parts = [rank[number] for rank in ranks]
        assert len({len(labels) for _, labels, _ in parts}) == 1
        real = [
            label for _, labels, w in parts for label, n in zip(labels, w, strict=True) if n > 0
        ]
        assert real == whole[1].tolist()  # all rows, once, in the global order
        means = [np.mean(labels * weight) for _, labels, weight in parts]
        assert np.mean(means) == pytest.approx(whole[1].mean(), rel=1e-6)
        for inputs, labels, _ in parts:
            assert inputs["a"][:, 0].tolist() == labels.tolist()
            assert inputs["b"][:, 0].tolist() == (2 * labels).tolist()


def test_one_process_with_several_replicas_sees_the_parts_in_turns() -> None:
    ranks = parts_of(4)
    both = [list(divided(batches(), Share(4, first, 2)).as_numpy_iterator()) for first in (0, 2)]
    for number, expected in enumerate(zip(*ranks, strict=True)):
        found = [both[half][2 * number + turn] for half in (0, 1) for turn in (0, 1)]
        for part, other in zip(expected, found, strict=True):
            tf.nest.map_structure(np.testing.assert_array_equal, part, other)


def test_weights_of_rows_are_kept() -> None:
    first, second = parts_of(2, weighted=True)
    assert [part[2].tolist() for part in (first[0], second[0])] == [[0, 1], [2, 3]]
    assert np.concatenate([first[2][2], second[2][2]]) == pytest.approx([8 * 4 / 3, 12, 40 / 3, 0])


def test_alone_nothing_changes() -> None:
    whole = batches()
    assert divided(whole, Share()) is whole


def test_batches_without_labels() -> None:
    unlabelled = tf.data.Dataset.from_tensor_slices((np.zeros((4, 2)),)).batch(2)
    with pytest.raises(DataError, match="without labels cannot be divided"):
        divided(unlabelled, Share(2))
