"""Tables of tokens and positions: which layer holds them, and that a tie stays one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfopt.bridge.keras3 import keras as keras3
from tfopt.bridge.to_tf_keras.blocks.base import Undecomposable
from tfopt.bridge.to_tf_keras.blocks.embedding_layers import ReversibleEmbedding
from tfopt.bridge.to_tf_keras.blocks.embeddings import (
    masked_lm_head,
    position_embedding,
    reversible_embedding,
)
from tfopt.bridge.to_tf_keras.twin import Names
from tfopt.keras2.core import keras as keras2


def table(**settings: Any) -> Any:
    layer = keras3.layers.ReversibleEmbedding(7, 4, **settings)
    layer.build((None, None))
    return layer


def test_a_table_read_one_way_is_a_plain_embedding() -> None:
    names = Names()
    names.reversed_embeddings = frozenset()
    twin = reversible_embedding(table(), names)
    output = twin.call(keras2.Input((3,), dtype="int32"))
    assert type(output._keras_history.layer) is keras2.layers.Embedding


@pytest.mark.parametrize("settings", [{}, {"tie_weights": False}, {"logit_soft_cap": 0.5}])
def test_both_directions_compute_what_keras_3_does(settings: dict[str, Any]) -> None:
    layer = table(**settings)
    twin = reversible_embedding(layer, Names())
    ids, features = keras2.Input((3,), dtype="int32"), keras2.Input((3, 4))
    model = keras2.Model([ids, features], [twin.call(ids), twin.call(features, reverse=True)])
    for link in twin.links():
        link.forward()
    x, y = np.array([[1, 6, 0]]), np.random.default_rng(0).normal(size=(1, 3, 4)).astype("float32")
    forward, backward = model([x, y])
    np.testing.assert_array_equal(forward, layer(x))
    np.testing.assert_allclose(backward, layer(y, reverse=True), rtol=0, atol=1e-6)
    assert len(model.weights) == len(layer.weights)


def test_a_head_uses_the_table_it_is_tied_to() -> None:
    hub = pytest.importorskip("keras_hub", reason="KerasHub, whose head this is, is missing")
    layer, names = table(), Names()
    head = hub.layers.MaskedLMHead(token_embedding=layer)
    head.build((None, 3, 4), (None, 2))
    embedding = reversible_embedding(layer, names)
    twin = masked_lm_head(head, names)
    ids, positions = keras2.Input((3,), dtype="int32"), keras2.Input((2,), dtype="int32")
    model = keras2.Model([ids, positions], twin.call(embedding.call(ids), mask_positions=positions))
    tables = [one for one in model.layers if isinstance(one, ReversibleEmbedding)]
    assert len(tables) == 1
    linked = [id(link.source) for link in (*embedding.links(), *twin.links())]
    assert sorted(linked) == sorted({id(weight) for weight in head.weights})


def test_a_head_does_not_untie_a_table_that_has_no_way_back() -> None:
    hub = pytest.importorskip("keras_hub", reason="KerasHub, whose head this is, is missing")
    layer, names = table(), Names()
    names.reversed_embeddings = frozenset()
    head = hub.layers.MaskedLMHead(token_embedding=layer)
    head.build((None, 3, 4), (None, 2))
    reversible_embedding(layer, names)
    with pytest.raises(Undecomposable, match="is an Embedding, which has no way back"):
        masked_lm_head(head, names)


def test_refuses_positions_that_do_not_begin_at_0() -> None:
    hub = pytest.importorskip("keras_hub", reason="KerasHub, whose layer this is, is missing")
    layer = hub.layers.PositionEmbedding(5)
    layer(keras3.Input((3, 4)), start_index=2)
    with pytest.raises(Undecomposable, match="called with start_index"):
        position_embedding(layer, Names())
