"""The layers behind KerasHub's embeddings and heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfopt.bridge.to_tf_keras.blocks.embedding_layers import (
    OBJECTS,
    GatherPositions,
    PositionTable,
    ReversibleEmbedding,
)


@pytest.mark.parametrize(
    "layer",
    [
        ReversibleEmbedding(7, 4, tie_weights=False, logit_soft_cap=2.0, mask_zero=True),
        PositionTable(5, name="positions"),
    ],
)
def test_is_made_again_from_its_config(layer: Any) -> None:
    again = OBJECTS[type(layer).__name__].from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


def test_only_token_ids_make_a_mask() -> None:
    layer = ReversibleEmbedding(7, 4, mask_zero=True)
    ids = np.array([[1, 0]])
    embedded = layer(ids)
    assert layer.compute_mask(ids).numpy().tolist() == [[True, False]]
    layer(embedded, reverse=True)
    assert layer.compute_mask(embedded) is None


def test_positions_do_not_depend_on_the_content() -> None:
    layer = PositionTable(5)
    one, other = layer(np.zeros((2, 3, 4))), layer(np.ones((2, 3, 4)))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one[1], layer.embeddings[:3])


def test_gathers_per_row() -> None:
    sequence = np.arange(12.0).reshape(2, 3, 2)
    taken = GatherPositions()([sequence, np.array([[2, 0], [1, 1]])])
    np.testing.assert_array_equal(taken, [[[4, 5], [0, 1]], [[8, 9], [8, 9]]])
