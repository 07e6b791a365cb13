import numpy as np
import pytest

from tfopt.data.holdout import draw_rows, hold_out, limited
from tfopt.data.split import split_from
from tfopt.errors import DataError


@pytest.mark.parametrize("count", [0, 1, 7, 33, 99, 100])
def test_draws_are_exact_sorted_and_in_proportion(count):
    labels = np.repeat([0, 1, 2], [70, 20, 10])
    rows = draw_rows(100, count=count, seed=1, labels=labels)
    assert len(set(rows.tolist())) == count
    assert np.array_equal(rows, np.sort(rows))
    share = np.bincount(labels[rows], minlength=3) - np.array([0.7, 0.2, 0.1]) * count
    assert np.abs(share).max() < 1


def test_draws_follow_the_seed():
    first, again, other = (
        draw_rows(50, count=10, seed=seed, labels=None).tolist() for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_held_out_rows_are_never_kept():
    split = split_from((np.arange(30.0), np.arange(30) % 3))
    kept, held = hold_out(split, fraction=0.2, seed=0, stratify=True)
    assert (kept.examples, held.examples) == (24, 6)
    assert not set(kept.inputs) & set(held.inputs)
    assert np.bincount(held.labels).tolist() == [2, 2, 2]


def test_both_sides_get_a_row():
    split = split_from((np.arange(2.0), np.arange(2)))
    for fraction in (0.01, 0.99):
        kept, held = hold_out(split, fraction=fraction, seed=0, stratify=False)
        assert (kept.examples, held.examples) == (1, 1)
    with pytest.raises(DataError, match="1 example cannot be divided"):
        hold_out(split.take(1), fraction=0.5, seed=0, stratify=False)


def test_limits():
    split = split_from((np.arange(30.0), np.repeat([0, 1, 2], 10)))
    assert limited(split, None, seed=0, stratify=True) is split
    assert limited(split, 99, seed=0, stratify=True) is split
    assert np.bincount(limited(split, 6, seed=0, stratify=True).labels).tolist() == [2, 2, 2]
