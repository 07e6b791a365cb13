"""A narrower feed-forward part keeps the strongest neurons of the pretrained one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfopt.models.transformers.build import from_checkpoint
from tfopt.models.transformers.initialization import initialization_of
from tfopt.models.transformers.narrowing import strongest_neurons
from tfopt.models.transformers.settings import HeadSettings, Shape, TextInputs

TINY = Path(__file__).parent / "data"


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_the_strongest_neurons_are_kept(family: str) -> None:
    task, text = HeadSettings("classification", 3), TextInputs(8)
    wide = from_checkpoint(TINY / family, Shape(), task, text)
    neurons = wide.get_layer("layer_0_intermediate").kernel.shape[1]
    slim = from_checkpoint(TINY / family, Shape(intermediate=neurons // 2), task, text)
    kernel, bias = wide.get_layer("layer_1_intermediate").get_weights()
    back, offset = wide.get_layer("layer_1_output").get_weights()
    kept = strongest_neurons(kernel, back, neurons // 2)
    found = [
        *slim.get_layer("layer_1_intermediate").get_weights(),
        *slim.get_layer("layer_1_output").get_weights(),
    ]
    for mine, theirs in zip(found, [kernel[:, kept], bias[kept], back[kept], offset], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    record = initialization_of(slim)
    assert record is not None
    assert "strongest" in record.derived["layer_0_output"]
    assert set(record.new) == {"classifier"}


def test_removing_dead_neurons_changes_nothing() -> None:
    random = np.random.default_rng(0)
    kernel, back = random.normal(size=(4, 6)), random.normal(size=(6, 4))
    back[[1, 4]] = 0
    kept = strongest_neurons(kernel, back, 4)
    assert kept.tolist() == [0, 2, 3, 5]
    x = random.normal(size=(3, 4))
    full = np.maximum(x @ kernel, 0) @ back
    np.testing.assert_allclose(np.maximum(x @ kernel[:, kept], 0) @ back[kept], full)
