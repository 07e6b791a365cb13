"""Converted models are saved with the classes in OBJECTS, and only by giving them."""

import keras as keras3
import numpy as np
import pytest

from tfopt.bridge.custom_objects import OBJECTS
from tfopt.bridge.provenance import conversion_of
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.keras2.core import keras as keras2

L, ops = keras3.layers, keras3.ops
X = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")


def odd_model(activation):
    """Needs an operation, a fallback layer and an activation that tf_keras lacks."""
    x = keras3.Input((6,))
    y = L.Dense(6, activation, name="dense")(x)
    y = ops.logaddexp(y, x)
    return keras3.Model(x, L.RMSNormalization(name="rms")(y))


def test_every_name_leads_to_a_class_or_function_of_ours():
    assert OBJECTS
    for name, found in OBJECTS.items():
        assert callable(found)
        assert found.__module__.startswith("tfopt.bridge."), name
        assert keras2.saving.get_registered_object(name) is None


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_a_converted_model_is_saved_with_them(tmp_path, name):
    # tf_keras itself cannot read a function in an .h5 file.
    model = odd_model("hard_silu" if name == "m.keras" else "tanh")
    twin = to_tf_keras(model)
    assert {one.how for one in conversion_of(twin).layers} >= {"operation"}
    twin.save(tmp_path / name)
    loaded = keras2.models.load_model(tmp_path / name, custom_objects=dict(OBJECTS), compile=False)
    np.testing.assert_allclose(loaded(X), model(X), atol=1e-6)
    with pytest.raises((TypeError, ValueError)):
        keras2.models.load_model(tmp_path / name, compile=False)
