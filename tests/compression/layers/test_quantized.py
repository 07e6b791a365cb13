from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.compression.layers.quantized import (
    CUSTOM_OBJECTS,
    KernelScheme,
    RangeLayer,
    SchemedLayer,
)
from tfopt.keras2.core import Layer, keras

L = keras.layers


def schemed(layer: Layer, inputs: Any, **settings: Any) -> SchemedLayer:
    wrapped = SchemedLayer(layer, KernelScheme({"kernel": settings}))
    wrapped(inputs)
    return wrapped


def test_weights_go_in_and_come_out() -> None:
    inputs = tf.ones((2, 4))
    plain, other = L.Dense(3, bias_initializer="ones"), L.Dense(3)
    plain(inputs)
    other(inputs)
    wrapped = schemed(L.Dense(3), inputs, bits=None, masked=True)
    plain.kernel.assign(tf.eye(4, 3))
    wrapped.take_weights(plain)
    np.testing.assert_array_equal(wrapped(inputs), plain(inputs))
    wrapped.give_weights(other)
    for left, right in zip(plain.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_replaced_kernel_is_not_trained_but_its_values_are() -> None:
    wrapped = schemed(L.Dense(3), tf.ones((2, 4)), bits=None, shared=2)
    names = [weight.name.split("/")[-1].split(":")[0] for weight in wrapped.trainable_weights]
    assert sorted(names) == ["bias", "kernel_values"]
    everything = {id(weight) for weight in wrapped.weights}
    assert id(wrapped.kernels()["kernel"][0]) in everything
    assert len(everything) == len(wrapped.weights)


def test_a_frozen_layer_trains_nothing() -> None:
    wrapped = schemed(L.Dense(3, trainable=False), tf.ones((2, 4)), bits=None, shared=2)
    assert wrapped.trainable_weights == []
    assert len(wrapped.weights) == 5


def test_a_layer_called_twice_has_one_kernel() -> None:
    layer = SchemedLayer(L.Dense(4), KernelScheme({"kernel": {"bits": None, "shared": 2}}))
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layer(layer(inputs)))
    layer.share("kernel", np.array([0.5, 1.0], np.float32), np.eye(4, dtype=np.int32))
    kernel = np.eye(4) / 2 + 0.5
    np.testing.assert_allclose(model(np.ones((1, 4))), np.ones((1, 4)) @ kernel @ kernel)
    assert len(model.trainable_weights) == 2


def test_rounded_and_settled_kernels() -> None:
    wrapped = schemed(L.Dense(1, use_bias=False), tf.ones((2, 4)), bits=8)
    plain = L.Dense(1, use_bias=False)
    plain(tf.ones((2, 4)))
    plain.kernel.assign([[1.0], [0.5], [1e-4], [-1.0]])
    wrapped.take_weights(plain)
    assert wrapped.settled_kernels()["kernel"].ravel().tolist() == pytest.approx([1, 0.5, 1e-4, -1])
    found = wrapped.rounded_kernels()["kernel"].ravel()
    np.testing.assert_allclose(found, [1, 64 / 127, 0, -1], atol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_ranges_are_float32_whatever_the_global_policy(policy: str) -> None:
    keras.mixed_precision.set_global_policy(policy)
    try:
        layer = RangeLayer(name="range")
        assert layer(tf.ones((2, 3))).dtype == tf.float32
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_a_model_of_both_survives_a_file(tmp_path: Any) -> None:
    inputs = keras.Input((4,))
    scheme = KernelScheme({"kernel": {"bits": 8, "masked": True, "shared": 3}})
    hidden = SchemedLayer(L.Dense(3), scheme)(RangeLayer(name="in_range")(inputs))
    model = keras.Model(inputs, hidden)
    random = np.random.default_rng(0)
    model.set_weights([random.integers(0, 3, w.shape).astype(w.dtype) for w in model.get_weights()])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects=CUSTOM_OBJECTS)
    for left, right in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert loaded.layers[2].quantize_config.get_config() == scheme.get_config()
