from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfopt.distillation.reduction import average, weight_for
from tfopt.errors import DataError

VALUES = tf.constant([[1.0, 2.0, float("nan")], [3.0, 4.0, 5.0]])
MASK = tf.constant([[True, True, False], [True, True, True]])


def test_padding_is_left_out_even_if_it_is_not_a_number() -> None:
    found = average(VALUES, weight=None, mask=MASK)
    assert float(found.share) == pytest.approx(3.0)
    assert float(found.everywhere) == 5


def test_weights_of_rows_and_of_positions() -> None:
    rows = average(VALUES, weight=tf.constant([0.0, 2.0]), mask=MASK)
    assert float(rows.share) == pytest.approx(2 * 12 / 5)
    positions = tf.constant([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    assert float(average(VALUES, weight=positions, mask=MASK).share) == pytest.approx(7 / 5)
    each = tf.constant([1.0, 2.0])
    assert float(average(each, weight=positions, mask=MASK).share) == pytest.approx(
        (2 / 3 + 2 / 3) / 2
    )


def test_nothing_but_padding_is_zero() -> None:
    assert float(average(VALUES, weight=None, mask=tf.zeros_like(MASK)).share) == 0


def test_weights_that_do_not_fit() -> None:
    with pytest.raises(DataError, match=r"sample_weight of shape \(2, 4\) does not fit"):
        average(VALUES, weight=tf.ones((2, 4)), mask=None)


def test_weights_by_output() -> None:
    weights = {"a": np.array([1.0, 0.0]), "b": np.array([[1.0, 1.0], [1.0, 0.0]]), "c": None}
    assert weight_for("c", weights) is None
    np.testing.assert_array_equal(weight_for("a", weights), [1, 0])
    np.testing.assert_allclose(weight_for(None, weights), [1, 0.25])
    assert weight_for("a", None) is None
