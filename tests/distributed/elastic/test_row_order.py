from __future__ import annotations

import numpy as np
import pytest

from tfopt.distributed.elastic.row_order import rows_at, share_of


def test_an_epoch_has_every_row_once() -> None:
    rows = [rows_at(position, 3, examples=10, seed=4) for position in range(0, 30, 3)]
    everything = np.concatenate(rows)
    for epoch in range(3):
        assert sorted(everything[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert everything[:10].tolist() != everything[10:20].tolist()


def test_a_position_says_all() -> None:
    whole = rows_at(0, 25, examples=10, seed=4)
    assert rows_at(17, 8, examples=10, seed=4).tolist() == whole[17:].tolist()
    assert rows_at(0, 25, examples=10, seed=5).tolist() != whole.tolist()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_shares_cover_a_batch_without_overlap(size: int) -> None:
    batch = np.arange(7)
    shares = [batch[share_of(7, rank, size)] for rank in range(size)]
    assert np.concatenate(shares).tolist() == batch.tolist()
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(len(share) for share in shares)
