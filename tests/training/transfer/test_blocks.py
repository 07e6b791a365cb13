from __future__ import annotations

from collections.abc import Callable

import pytest

from tfopt.errors import InputError
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, keras
from tfopt.training.transfer.blocks import MOST_DEPTH_BLOCKS, blocks_below, head_of

layers = keras.layers


@pytest.mark.parametrize("nested", [False, True])
def test_the_head_is_what_follows_the_last_pooling(
    nested: bool, make_conv: Callable[..., Model]
) -> None:
    model = graph.copy(make_conv(nested=nested))
    assert head_of(model, None) == {"logits"}
    assert head_of(model, ["logits", "norm2"]) == {"logits", "norm2"}


def test_every_branch_of_a_model_with_several_inputs_ends_at_its_own_pooling() -> None:
    image, series = keras.Input((6, 6, 1)), keras.Input((8, 2))
    left = layers.Flatten()(layers.Conv2D(2, 3, name="conv")(image))
    right = layers.GlobalMaxPooling1D()(layers.Conv1D(2, 3, name="series")(series))
    joined = layers.Dense(4, name="joined")(layers.Concatenate()([left, right]))
    model = graph.copy(keras.Model([image, series], layers.Dense(2, name="out")(joined)))
    assert head_of(model, None) == {"joined", "out"}


def test_models_without_a_head_are_told_how_to_name_one() -> None:
    rows = keras.Input((4, 5))
    model = graph.copy(keras.Model(rows, layers.Dense(2, name="out")(layers.Dense(3)(rows))))
    with pytest.raises(InputError, match=r"no layer with weights .*transfer\.head.*Layers: .*out"):
        head_of(model, None)
    first = keras.Sequential([keras.Input((4, 5)), layers.Flatten(), layers.Dense(2, name="out")])
    with pytest.raises(InputError, match="every layer with weights of model"):
        head_of(graph.copy(first), None)
    with pytest.raises(InputError, match=r"'outt' matches no layer.* Did you mean 'out'\?"):
        head_of(model, ["outt"])


def test_blocks_by_depth_take_their_norms_along(make_conv: Callable[..., Model]) -> None:
    model = graph.copy(make_conv())
    assert blocks_below(model, {"logits"}) == {
        "logits": 0,
        "conv2": 1,
        "norm2": 1,
        "conv1": 2,
        "norm1": 2,
        "conv0": 3,
        "norm0": 3,
    }


def test_deep_models_have_few_blocks_of_equal_depth() -> None:
    x = rows = keras.Input((4,))
    for number in range(30):
        x = layers.Dense(4, name=f"dense{number}")(x)
    model = graph.copy(keras.Model(rows, x))
    found = blocks_below(model, {"dense29"})
    assert set(found.values()) == set(range(MOST_DEPTH_BLOCKS + 1))
    assert found["dense28"] == 1
    assert found["dense0"] == MOST_DEPTH_BLOCKS


def test_blocks_of_a_transformer_are_its_own() -> None:
    ids = keras.Input((4,), dtype="int32")
    x = layers.LayerNormalization(name="embeddings_norm")(
        layers.Embedding(9, 4, name="word_embeddings")(ids)
    )
    for number in range(2):
        x = layers.Dense(4, name=f"layer_{number}_intermediate")(x)
        x = layers.LayerNormalization(name=f"layer_{number}_output_norm")(x)
    x = layers.LayerNormalization(name="final_norm")(x)
    x = layers.GlobalAveragePooling1D(name="pooled")(x)
    model = graph.copy(keras.Model(ids, layers.Dense(2, name="classifier")(x)))
    head = head_of(model, None)
    assert head == {"classifier"}
    assert blocks_below(model, head) == {
        "classifier": 0,
        "final_norm": 1,
        "layer_1_intermediate": 1,
        "layer_1_output_norm": 1,
        "layer_0_intermediate": 2,
        "layer_0_output_norm": 2,
        "word_embeddings": 3,
        "embeddings_norm": 3,
    }
