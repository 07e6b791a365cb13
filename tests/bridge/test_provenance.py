"""A converted model remembers where its weights came from, and nothing heavy."""

from dataclasses import FrozenInstanceError

import keras as keras3
import numpy as np
import pytest

from tfopt.bridge.provenance import carry, conversion_of, origin_of, plain_layers, was_converted
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.errors import ModelError
from tfopt.keras2.core import keras as keras2

L = keras3.layers


def nested():
    inner = [keras3.Input((4,)), L.Dense(4, name="dense"), L.BatchNormalization(name="norm")]
    x = keras3.Input((4,))
    y = keras3.Sequential(inner, name="base")(x)
    return keras3.Model(x, L.Dense(2, name="dense")(y), name="net")


def two():
    return keras2.Sequential([keras2.Input((4,)), keras2.layers.Dense(2)])


def test_places_name_the_layers_of_tf_keras():
    twin = to_tf_keras(nested())
    origin = origin_of(twin)
    found = [(place.path.split("/")[-1], place.layer) for place in origin.places.values()]
    assert found == [
        ("kernel", "base_dense"),
        ("bias", "base_dense"),
        ("gamma", "norm"),
        ("beta", "norm"),
        ("moving_mean", "norm"),
        ("moving_variance", "norm"),
        ("kernel", "dense"),
        ("bias", "dense"),
    ]
    assert origin.weights == 8
    with pytest.raises(FrozenInstanceError):
        origin.weights = 3


def test_a_setting_is_a_constant():
    layer = L.Normalization(mean=[1.0, 2.0], variance=[4.0, 9.0], name="scale")
    trained = L.Normalization(name="adapted")
    trained.adapt(np.random.default_rng(0).normal(3.0, 2.0, size=(50, 2)))
    model = keras3.Sequential([keras3.Input((2,)), layer, trained])
    twin = to_tf_keras(model)
    constants = [one for one in origin_of(twin).places.values() if one.layer is None]
    assert constants
    assert all(one.constant is not None for one in constants)


def test_plain_layers_looks_into_nested_models():
    twin = to_tf_keras(nested())
    names = [layer.name for layer in plain_layers(twin) if layer.weights]
    assert names == ["base_dense", "norm", "dense"]


def test_no_weight_is_kept_in_the_origin():
    """Constants aside, it is text and numbers."""
    twin = to_tf_keras(nested())
    origin = origin_of(twin)
    assert all(place.constant is None for place in origin.places.values())

    def leaves(value):
        if isinstance(value, dict):
            return [leaf for one in value.values() for leaf in leaves(one)]
        if isinstance(value, list | tuple):
            return [leaf for one in value for leaf in leaves(one)]
        return [value]

    kinds = {type(leaf) for leaf in leaves(origin.architecture)}
    assert kinds <= {str, int, float, bool, type(None)}


def test_the_way_back_is_carried():
    twin, other = to_tf_keras(nested()), two()
    assert origin_of(other) is None
    assert carry(twin, other) is other
    assert origin_of(other) is origin_of(twin)
    plain = two()
    carry(other if origin_of(plain) else plain, other)
    assert origin_of(other) is origin_of(twin)  # nothing to carry, nothing lost


def test_evidence_is_of_converted_models_only():
    twin = to_tf_keras(nested())
    assert was_converted(twin)
    assert conversion_of(twin).to == "tf_keras"
    for other in (two(), nested(), None, carry(twin, two())):
        assert not was_converted(other)
        with pytest.raises(ModelError, match="not converted by tfopt in this process. Convert it"):
            conversion_of(other)


def test_integers_forget_where_they_came_from(recwarn):
    model = keras3.Sequential([keras3.Input((4,)), L.Dense(8), L.Dense(2)])
    model.quantize("int8")
    assert origin_of(to_tf_keras(model)) is None
