from __future__ import annotations

import math

import numpy as np
import pytest

from tfopt.errors import VerificationError
from tfopt.evaluation.comparison import compare_outputs, paired_drop


def test_differences_by_hand() -> None:
    reference = np.array([[3.0, 4.0], [0.0, 0.0]])
    found = compare_outputs(reference, np.array([[3.0, 1.0], [0.0, -4.0]]))
    assert found.max_abs_error == 4.0
    assert found.mean_abs_error == 7 / 4
    assert found.relative_error == 1.0  # 5 over 5
    assert found.top1_agreement == 0.5
    assert found.rows == 2


def test_integers_do_not_wrap_around() -> None:
    found = compare_outputs(np.array([[0]], np.uint8), np.array([[255]], np.uint8))
    assert found.max_abs_error == 255
    assert math.isinf(found.relative_error)
    assert compare_outputs(np.zeros((2, 2)), np.zeros((2, 2))).relative_error == 0.0


@pytest.mark.parametrize("shapes", [((4, 1), (4, 3)), ((1, 3), (4, 3)), ((4,), (4, 1)), ((3,), ())])
def test_shapes_are_never_broadcast(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(VerificationError, match="Output shapes differ: the source model gives"):
        compare_outputs(np.zeros(shapes[0]), np.zeros(shapes[1]))


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), ()])
def test_nothing_to_compare(shape: tuple[int, ...]) -> None:
    with pytest.raises(VerificationError, match="There are no rows of outputs"):
        compare_outputs(np.zeros(shape), np.zeros(shape))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_never_passes(value: float) -> None:
    broken = np.array([[1.0, value]])
    with np.errstate(invalid="ignore"):
        found = compare_outputs(np.array([[1.0, 2.0]]), broken)
    with pytest.raises(VerificationError, match="the limit is 1e.09"):
        found.require(max_relative_error=1e9)


def test_require_says_how_far_off_it_is() -> None:
    found = compare_outputs(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    with pytest.raises(
        VerificationError, match=r"by 1.41 of their size \(at most 1 in one entry\).*0.0%"
    ):
        found.require(max_relative_error=0.1)
    found.require(max_relative_error=1.5)


def test_interval_of_right_and_wrong_by_hand() -> None:
    # 100 rows, 6 lost and 2 won: p = 7/102 and 3/102 in Bonett and Price (2012), eq. 3.
    reference = np.array([1.0] * 6 + [0.0] * 2 + [1.0] * 92)
    candidate = np.array([0.0] * 6 + [1.0] * 2 + [1.0] * 92)
    drop = paired_drop(reference, candidate)
    lost, won = 7 / 102, 3 / 102
    half = 1.959963984540054 * math.sqrt((lost + won - (lost - won) ** 2) / 102)
    assert drop.value == pytest.approx(0.04)
    assert drop.low == pytest.approx(lost - won - half)
    assert drop.high == pytest.approx(lost - won + half)
    assert (round(drop.low, 4), round(drop.high, 4)) == (-0.0211, 0.0995)


def test_interval_is_wide_where_nothing_differs_and_few_rows_are() -> None:
    few, many = (paired_drop(np.ones(rows), np.ones(rows)) for rows in (10, 10_000))
    assert few.value == many.value == 0.0
    assert few.high > 0.2
    assert 0 < many.high < 0.001
    assert paired_drop(np.ones(1), np.zeros(1)).high == 1.0  # never beyond what is possible


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    rows, lost, won = 300, 0.03, 0.01
    held = 0
    for _ in range(1000):
        draw = generator.random(rows)
        reference = np.where(draw < lost, 1.0, np.where(draw < lost + won, 0.0, 1.0))
        candidate = np.where(draw < lost, 0.0, np.where(draw < lost + won, 1.0, 1.0))
        drop = paired_drop(reference, candidate)
        held += drop.low <= lost - won <= drop.high
    assert 930 <= held <= 985


def test_other_scores_are_resampled_by_row() -> None:
    generator = np.random.default_rng(0)
    reference = generator.normal(size=400) ** 2
    candidate = reference + 0.3 + 0.1 * generator.normal(size=400)
    drop = paired_drop(reference, candidate, higher_is_better=False)
    expected = 1.96 * 0.1 / math.sqrt(400)
    assert drop.value == pytest.approx(0.3, abs=0.02)
    assert drop.high - drop.value == pytest.approx(expected, rel=0.25)
    assert drop.value - drop.low == pytest.approx(expected, rel=0.25)
    assert paired_drop(reference, candidate, higher_is_better=False) == drop  # the seed is fixed
    assert paired_drop(reference, candidate).value == pytest.approx(-drop.value)


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((2, 2), (2, 2)), ((0,), (0,))])
def test_scores_must_be_one_a_row(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(VerificationError, match="one score a row from both sides"):
        paired_drop(np.zeros(shapes[0]), np.zeros(shapes[1]))


def test_scores_that_are_not_numbers_have_no_drop() -> None:
    with pytest.raises(VerificationError, match="1 of 2 scores of the candidate are NaN"):
        paired_drop(np.ones(2), np.array([1.0, math.nan]))


def share(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def test_sums_are_resampled_as_scores_are() -> None:
    generator = np.random.default_rng(1)
    reference = generator.random(300)
    candidate = np.clip(reference - 0.05 + 0.1 * generator.normal(size=300), 0, 1)
    plain = paired_drop(reference, candidate)
    ones = np.ones(300)
    summed = paired_drop(
        np.stack([reference, ones], 1), np.stack([candidate, ones], 1), of_sums=share
    )
    assert summed.value == pytest.approx(plain.value)
    assert (summed.low, summed.high) == pytest.approx((plain.low, plain.high))
    turned = paired_drop(
        np.stack([candidate, ones], 1), np.stack([reference, ones], 1), of_sums=share,
        higher_is_better=False,
    )  # fmt: skip
    assert turned.value == pytest.approx(plain.value)


def test_the_interval_of_a_ratio_holds_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    held = 0
    for _ in range(40):
        size = generator.integers(1, 9, 150)
        first, second = (generator.binomial(size, chance) for chance in (0.8, 0.7))
        drop = paired_drop(
            np.stack([first, size], 1).astype(float),
            np.stack([second, size], 1).astype(float),
            of_sums=share,
        )
        held += drop.low <= 0.1 <= drop.high
    assert 33 <= held <= 40


def test_sums_need_to_know_their_metric() -> None:
    with pytest.raises(VerificationError, match="one score a row"):
        paired_drop(np.ones((3, 2)), np.ones((3, 2)))
