from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.errors import ModelError
from tfopt.keras2 import graph
from tfopt.keras2.core import keras
from tfopt.keras2.layer_copy import copy_layer

L = keras.layers


def double(values: Any) -> Any:
    return values * 2


class Scale(L.Layer):
    def __init__(self, by: Any, **settings: Any) -> None:
        super().__init__(**settings)
        self.by = by

    def call(self, inputs: Any) -> Any:
        return inputs * self.by


class Described(Scale):
    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "by": self.by}


# tf_keras warns of any lambda that it is asked to describe.
@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
@pytest.mark.parametrize("function", [double, tf.nn.relu, tf.nn.leaky_relu, lambda values: -values])
def test_functions_given_as_activation_are_taken_along(function: Any, rows: np.ndarray) -> None:
    model = keras.Sequential([L.Input((12,)), L.Dense(3, activation=function)])
    copied = graph.copy(model)
    np.testing.assert_array_equal(copied(rows), model(rows))


def test_an_own_layer_inside_a_wrapper_is_found(rows: np.ndarray) -> None:
    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, L.TimeDistributed(Described(3.0))(inputs))
    values = rows.reshape(-1, 3, 4)
    np.testing.assert_array_equal(graph.copy(model)(values), 3 * values)


def test_an_own_function_inside_a_wrapper_is_found(rows: np.ndarray) -> None:
    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, L.TimeDistributed(L.Dense(2, activation=double))(inputs))
    values = rows.reshape(-1, 3, 4)
    np.testing.assert_array_equal(graph.copy(model)(values), model(values))


def test_a_lambda_keeps_its_arguments() -> None:
    layer = L.Lambda(lambda values, by: values * by, arguments={"by": 3.0}, name="times")
    copied = copy_layer(layer, name="copied")
    assert float(copied(tf.constant(2.0))) == 6.0
    assert copied.name == "copied"


def test_an_adapted_vocabulary_is_kept() -> None:
    lookup = L.StringLookup()
    lookup.adapt(np.array(["cat", "dog", "cat"]))
    inputs = keras.Input((1,), dtype="string")
    model = keras.Model(inputs, lookup(inputs))
    words = tf.constant([["dog"], ["cat"], ["bird"]])
    assert graph.copy(model)(words).numpy().ravel().tolist() == [2, 1, 0]


def test_an_adapted_normalization_is_kept(rows: np.ndarray) -> None:
    layer = L.Normalization()
    layer.adapt(rows)
    model = keras.Sequential([L.Input((12,)), layer])
    np.testing.assert_array_equal(graph.copy(model)(rows), model(rows))


def test_integer_layers_keep_their_type() -> None:
    layer = L.IntegerLookup(vocabulary=[5, 6])
    assert copy_layer(layer, name="c", dtype="mixed_float16").dtype == layer.dtype
    dense = L.Dense(2)
    dense.build((None, 3))
    assert copy_layer(dense, name="c", dtype="mixed_float16").compute_dtype == "float16"


def test_synchronized_normalization_stays_so() -> None:
    layer = L.BatchNormalization(synchronized=True)
    layer.build((None, 4, 4, 2))
    copied = copy_layer(layer, name="copy")
    assert (copied.synchronized, copied.fused) == (True, False)


def test_unfused_normalization_stays_unfused() -> None:
    layer = L.BatchNormalization(fused=False)
    layer(tf.zeros((2, 4, 4, 3)))
    copied = copy_layer(layer, name="copied")
    copied(tf.zeros((2, 4, 4, 3)))
    assert copied.fused is False


def test_a_layer_without_config_names_the_remedy() -> None:
    with pytest.raises(ModelError, match=r"'bare' \(Scale\) cannot be copied.*get_config\(\)"):
        copy_layer(Scale(np.ones(3), name="bare"), name="copied")
