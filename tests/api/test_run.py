"""What all Python functions that train have in common."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import tfopt
from tfopt.errors import InputError
from tfopt.keras2.core import Model

Rows = tuple[np.ndarray, np.ndarray]


def test_the_strategy_is_said(
    model: Model,
    train: Rows,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    few = train[0][:64], train[1][:64]
    with caplog.at_level(logging.INFO, logger="tfopt"):
        tfopt.cluster(model, few, verbose=True)
    assert "tfopt.cluster trains with strategy single" in caplog.messages
    assert "strategy single" in capfd.readouterr().err


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_that_cannot_be(model: Model, train: Rows, seed: int) -> None:
    for call in (
        lambda: tfopt.prune(model, train, seed=seed),
        lambda: tfopt.distill(model, model, train, seed=seed),
        lambda: tfopt.fine_tune(model, train, freeze="conv", seed=seed),
    ):
        with pytest.raises(
            InputError, match=f"seed must be from 0 to 2147483647. Received: {seed}"
        ):
            call()
