"""Which embeddings look up which inputs."""

from __future__ import annotations

from tfopt.keras2.core import keras
from tfopt.keras2.embeddings import tables_of


def test_an_embedding_is_found_behind_its_input_and_behind_padding() -> None:
    words = keras.Input((4,), dtype="int32", name="words")
    kinds = keras.Input((4,), dtype="int32", name="kinds")
    padded = keras.layers.Activation("linear", name="words_padded")(words)
    other = keras.layers.Activation("linear", name="elsewhere")(kinds)
    one = keras.layers.Embedding(9, 3, name="one")
    two = keras.layers.Embedding(9, 3, name="two")
    three = keras.layers.Embedding(9, 3, name="three")
    total = keras.layers.Add()([one(words), two(padded), three(other)])
    assert tables_of(keras.Model([words, kinds], total)) == {"words": [one, two]}
