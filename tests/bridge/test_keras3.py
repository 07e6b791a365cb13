"""The door to Keras 3: what counts as a model, and which backend it needs."""

import keras as keras3
import numpy as np
import pytest

import tfopt.bridge.keras3 as door
from tfopt.bridge.to_keras3.convert import to_keras3
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.errors import ModelError
from tfopt.keras2.core import keras as keras2
from tfopt.models.load import load_model

L = keras3.layers


class OwnCall(keras3.Model):
    def call(self, inputs):
        return super().call(inputs)


class OwnStep(keras3.Sequential):
    def train_step(self, *arguments):
        return super().train_step(*arguments)


def test_what_counts_as_a_graph():
    x = keras3.Input((4,))
    y = L.Dense(2)(x)
    line = keras3.Sequential([x, L.Dense(2)])
    for graph in (keras3.Model(x, y), line, OwnStep([keras3.Input((3,)), L.Dense(2)])):
        assert door.is_graph(graph)
    own = OwnCall(x, y)
    two = keras2.Sequential([keras2.Input((4,)), keras2.layers.Dense(2)])
    for other in (own, keras3.Sequential([L.Dense(2)]), L.Dense(2), two, None, 3, keras3.Model):
        assert not door.is_graph(other)


def test_the_graph_of_a_sequential_model():
    line = keras3.Sequential([keras3.Input((4,)), L.Dense(2)])
    graph = door.graph_of(line)
    assert type(graph).__name__ == "Functional"
    assert [one.name for one in graph.layers][1:] == [one.name for one in line.layers]
    assert door.graph_of(graph) is graph


def test_the_module_decides_whose_an_object_is():
    assert door.is_keras3(keras3.Sequential())
    assert not door.is_keras3(keras2.Sequential())
    assert not door.is_keras3(np.ones(3))


# Keras 3.15 hands its variables to NumPy 2 in the old way.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_another_backend_is_named_wherever_keras_3_comes_in(monkeypatch, tmp_path):
    line = keras3.Sequential([keras3.Input((4,)), L.Dense(2)])
    line.save(tmp_path / "m.keras")
    two = keras2.Sequential([keras2.Input((4,)), keras2.layers.Dense(2)])
    monkeypatch.setattr(door.keras.backend, "backend", lambda: "jax")
    for use in (
        lambda: to_tf_keras(line),
        lambda: to_keras3(two),
        lambda: load_model(tmp_path / "m.keras"),
    ):
        with pytest.raises(ModelError, match="on the 'jax' backend here.*KERAS_BACKEND=tensorflow"):
            use()
    assert to_tf_keras(two) is two
