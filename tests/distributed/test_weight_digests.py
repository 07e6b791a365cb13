from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfopt.distributed.weight_digests import digests_of, require_equal_digests
from tfopt.errors import VerificationError

VARIABLES = [tf.Variable([float(number)], name=f"weight_{number}") for number in range(5)]


def require(*everyone: np.ndarray) -> None:
    require_equal_digests(everyone, VARIABLES, who="ranks", when="now", causes="a plain optimizer")


def test_the_digest_sees_the_sign_of_zero() -> None:
    one, other = (digests_of([tf.Variable([value])]) for value in (0.0, -0.0))
    assert one != other


def test_the_first_that_differ_are_named() -> None:
    own = digests_of(VARIABLES)
    require(own, own.copy())
    with pytest.raises(
        VerificationError,
        match=r"ranks \[0, 2\] differ now: 4 of 5 variables, weight_1:0, .* and 1 more.*a plain",
    ):
        require(own, own, own + [0, 1, 1, 1, 1])
    with pytest.raises(VerificationError, match=r"different models: they have \[5, 3\] variables"):
        require(own, own[:3])
