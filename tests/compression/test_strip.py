"""Stripping leaves plain layers with the weights that a step trained."""

import keras as keras3
import numpy as np
import pytest

import tfopt
from tfopt.compression.layers.quantized import RangeLayer, SchemedLayer
from tfopt.compression.strip import strip
from tfopt.compression.weight_statistics import model_kernels, unique_values, zero_fraction
from tfopt.errors import ModelError
from tfopt.keras2.core import keras

X = np.random.default_rng(0).normal(size=(64, 16)).astype("float32")
Y = np.arange(64) % 3


def dense():
    keras.utils.set_random_seed(2)
    layers = [keras.layers.Dense(16, "relu", name="a"), keras.layers.Dense(3, name="b")]
    return keras.Sequential([keras.Input((16,), name="x"), *layers], name="net")


def convolutions(kit):
    """Layers that quantization rewrites: one dimension, and separable ones."""
    x = kit.Input((16, 3), name="x")
    y = kit.layers.Conv1D(6, 3, padding="causal", name="line")(x)
    y = kit.layers.BatchNormalization(name="norm")(y)
    y = kit.layers.ReLU(name="relu")(y)
    y = kit.layers.Reshape((4, 4, 6), name="square")(y)
    y = kit.layers.SeparableConv2D(5, 3, name="separable")(y)
    y = kit.layers.GlobalAveragePooling2D(name="mean")(y)
    return kit.Model(x, kit.layers.Dense(3, name="head")(y), name="net")


PICTURES = np.random.default_rng(1).normal(size=(64, 16, 3)).astype("float32")


def test_a_plain_model_is_copied():
    model = dense()
    found = strip(model)
    assert [layer.name for layer in found.layers if layer.weights] == ["a", "b"]
    assert found.get_layer("a") is not model.get_layer("a")
    np.testing.assert_array_equal(found(X), model(X))
    found.get_layer("a").kernel.assign(np.zeros((16, 16)))
    assert np.any(model.layers[0].kernel.numpy())


def test_what_the_steps_trained_is_kept():
    model = tfopt.prune(dense(), (X, Y), sparsity=0.5, epochs=1)
    model = tfopt.cluster(model, (X, Y), clusters=6, epochs=1)
    ready = tfopt.quantize(model, (X, Y), epochs=1)
    before = ready.get_weights()
    plain = strip(ready)
    assert not any(isinstance(one, RangeLayer | SchemedLayer) for one in plain._flatten_layers())
    assert {type(layer).__name__ for layer in plain.layers} <= {"InputLayer", "Dense", "Activation"}
    assert zero_fraction(model_kernels(plain)) == pytest.approx(0.5, abs=0.02)
    assert all(unique_values(kernel) <= 6 for kernel in model_kernels(plain).values())
    np.testing.assert_allclose(plain(X), ready(X), atol=0.15)
    assert all(map(np.array_equal, before, ready.get_weights()))


def test_code_runs_only_on_models():
    with pytest.raises(ModelError, match="must be a tf_keras.Model"):
        tfopt.strip(keras.layers.Dense(2))
    with pytest.raises(ModelError, match="'s' is a Sequential model without an input shape"):
        tfopt.strip(keras.Sequential([keras.layers.Dense(2)], name="s"))


def test_rewritten_layers_of_tf_keras_compute_the_same():
    model = convolutions(keras)
    ready = tfopt.quantize(model, (PICTURES, Y), epochs=0)
    plain = tfopt.strip(ready)
    assert {type(one).__module__.partition(".")[0] for one in plain._flatten_layers()} == {
        "tf_keras"
    }
    np.testing.assert_allclose(plain(PICTURES), model(PICTURES), atol=1e-5)


def test_rewritten_layers_of_keras_3_come_back():
    model = convolutions(keras3)
    ready = tfopt.quantize(model, (PICTURES, Y), epochs=0)
    plain = tfopt.strip(ready)
    assert type(plain).__module__.startswith("keras.src")
    np.testing.assert_allclose(plain(PICTURES), model(PICTURES), atol=1e-5)
    assert [layer.name for layer in plain.layers] == [layer.name for layer in model.layers]


def test_a_sequence_of_any_length_is_stripped():
    x = keras3.Input((None, 3), name="x")
    y = keras3.layers.Conv1D(4, 3, activation="relu", padding="same", name="line")(x)
    y = keras3.layers.GlobalAveragePooling1D(name="mean")(y)
    model = keras3.Model(x, keras3.layers.Dense(3, name="head")(y))
    plain = tfopt.strip(tfopt.quantize(model, (PICTURES, Y), epochs=0))
    assert plain.input_shape == (None, None, 3)
    np.testing.assert_allclose(plain(PICTURES[:, :9]), model(PICTURES[:, :9]), atol=1e-5)
