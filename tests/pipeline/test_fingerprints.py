"""Hashes of models and data."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.data.split import split_from
from tfopt.keras2.core import Model, keras
from tfopt.pipeline.fingerprints import model_sha256, rows_sha256


def model_of(layer: Any) -> Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((10,))
    x = layer(keras.layers.Dense(8, name="hidden")(inputs))
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(x), name="toy")


def test_the_hash_of_a_model_is_blind_to_names_and_addresses() -> None:
    class Odd(keras.layers.Layer):
        """A layer with code in its config."""

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "code": lambda x: x}

    assert model_sha256(model_of(Odd())) == model_sha256(model_of(Odd()))
    renamed = model_of(keras.layers.ReLU(name="other"))
    assert model_sha256(renamed) == model_sha256(model_of(keras.layers.ReLU(name="one")))
    assert model_sha256(renamed) != model_sha256(model_of(keras.layers.ReLU(max_value=6)))


def test_the_hash_of_rows_sees_every_row_label_and_weight() -> None:
    inputs, labels, weights = np.zeros((2000, 2), np.float32), np.arange(2000) % 3, np.ones(2000)
    whole = rows_sha256(split_from((inputs, labels, weights)))
    stream = tf.data.Dataset.from_tensor_slices((inputs, labels, weights.astype(np.float32)))
    assert rows_sha256(split_from(stream.batch(7))) == whole
    for changed in range(3):
        parts = [inputs.copy(), labels.copy(), weights.copy()]
        parts[changed][1999] += 1
        assert rows_sha256(split_from(tuple(parts))) != whole
