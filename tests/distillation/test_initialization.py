"""Which of a student's layers start as the teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tfopt.distillation.initialization import fresh, like_teacher
from tfopt.errors import InputError
from tfopt.keras2.core import Model, keras

L = keras.layers


def blocks(count: int, width: int = 4, words: int = 7, name: str = "text") -> Model:
    """A stack of blocks whose layers are named as those of transformers are."""
    tokens = keras.Input((5,), dtype="int32", name="input_ids")
    x = L.Embedding(words, width, name="word_embeddings")(tokens)
    for number in range(count):
        y = L.Dense(width, name=f"layer_{number}_intermediate")(x)
        x = L.LayerNormalization(name=f"layer_{number}_output_norm")(L.Add()([x, y]))
    x = L.GlobalAveragePooling1D(name="pooled")(x)
    return keras.Model(tokens, L.Dense(3, name="classifier")(x), name=name)


def copied(decisions: Sequence[Any]) -> dict[str, str]:
    return {
        entry.layer: entry.reason for entry in decisions if entry.values["copied_parameters"] > 0
    }


def test_blocks_take_after_the_ones_that_are_listed() -> None:
    teacher, student = blocks(6, name="teacher"), blocks(3)
    found = copied(like_teacher(student, teacher, blocks=[1, 3, 5]))
    assert found["layer_2_intermediate"] == "starts as in the teacher: layer_5_intermediate"
    assert found["word_embeddings"] == "starts as in the teacher"
    for own, other in enumerate((1, 3, 5)):
        np.testing.assert_array_equal(
            student.get_layer(f"layer_{own}_intermediate").kernel.numpy(),
            teacher.get_layer(f"layer_{other}_intermediate").kernel.numpy(),
        )


def test_blocks_keep_their_numbers_otherwise() -> None:
    teacher, student = blocks(6, name="teacher"), blocks(2)
    like_teacher(student, teacher)
    np.testing.assert_array_equal(
        student.get_layer("layer_1_intermediate").kernel.numpy(),
        teacher.get_layer("layer_1_intermediate").kernel.numpy(),
    )


def test_other_shapes_start_fresh_and_say_so() -> None:
    teacher, student = blocks(2, name="teacher"), blocks(2, words=9)
    before = student.get_layer("word_embeddings").get_weights()[0]
    found = like_teacher(student, teacher)
    reasons = {entry.layer: entry.reason for entry in found}
    assert reasons["word_embeddings"] == (
        "starts fresh: its weights are 9x4, those of 'teacher' 7x4"
    )
    np.testing.assert_array_equal(student.get_layer("word_embeddings").get_weights()[0], before)
    assert "classifier" in copied(found)


def test_a_block_that_is_not_there_and_a_stranger_are_refused() -> None:
    with pytest.raises(InputError, match=r"start as 'layer_7_.*student.arguments.layers"):
        like_teacher(blocks(2), blocks(6, name="teacher"), blocks=[1, 7])
    stranger = keras.Sequential([keras.Input((5,)), L.Dense(3, name="other")], name="stranger")
    with pytest.raises(InputError, match="'stranger' shares no layer with the teacher 'teacher'"):
        like_teacher(stranger, blocks(1, name="teacher"))


def test_frozen_layers_are_named() -> None:
    student = blocks(1)
    student.get_layer("word_embeddings").trainable = False
    entry = fresh(student)[0]
    assert (entry.layer, entry.done) == ("word_embeddings", False)
    assert entry.reason.endswith("frozen, so it is not trained")
