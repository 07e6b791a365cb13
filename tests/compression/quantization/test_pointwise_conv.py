from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tfopt.compression.quantization.decompose import canonical
from tfopt.compression.quantization.pointwise_conv import (
    is_identity,
    is_scale,
    pointwise,
    reason_against,
)
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, keras

L = keras.layers
Body = Callable[[Any], Any]

BODIES: dict[str, Body] = {
    "Rescaling": lambda x: L.Rescaling(0.5, -1.0, name="x")(x),
    "Rescaling by channel": lambda x: L.Rescaling([1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.0, 1.0])(x),
    "Normalization": lambda x: L.Normalization(mean=[1.0] * 4, variance=[1.0, 2.0, 3.0, 4.0])(x),
    "Normalization of a constant": lambda x: L.Normalization(
        mean=[1.0] * 4, variance=[1.0, 2.0, 3.0, 0.0]
    )(x),
    "Normalization inverted": lambda x: L.Normalization(
        axis=None, mean=1.0, variance=4.0, invert=True
    )(x),
    "called twice": lambda x: (lambda layer: layer(layer(x)))(L.Rescaling(0.5, 1.0)),
    "BatchNormalization": lambda x: L.BatchNormalization()(L.ReLU()(x)),
    "BatchNormalization called twice": lambda x: (lambda layer: layer(layer(x)))(
        L.BatchNormalization()
    ),
    "pinned BatchNormalization": lambda x: L.BatchNormalization()(x, training=False),
    "Dense on pictures": lambda x: L.Dense(3, activation="relu")(x),
    "Dense on sequences": lambda x: L.Dense(3, activation="gelu")(L.Reshape((16, 16))(x)),
    "Dense on five axes": lambda x: L.Dense(3)(L.Reshape((2, 4, 8, 4))(x)),
    "Dense on sequences, then rows": lambda x: (
        lambda layer: L.Add()([layer(L.Flatten()(x)), L.Flatten()(layer(L.Reshape((1, 256))(x)))])
    )(L.Dense(5)),
    "Dense on rows, then sequences": lambda x: (
        lambda layer: L.Flatten()(
            L.Add()([L.Reshape((1, 256))(layer(L.Flatten()(x))), layer(L.Reshape((1, 256))(x))])
        )
    )(L.Dense(256)),
}


def model_of(body: Body) -> Model:
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, body(inputs))
    random = np.random.default_rng(0)
    for layer in model.layers:
        if not isinstance(layer, L.Normalization):
            layer.set_weights([random.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def kinds(model: Model) -> list[str]:
    return [type(layer).__name__ for layer in graph.layers_of(model)]


@pytest.mark.parametrize("name", BODIES)
def test_the_function_stays_the_same(name: str, images: np.ndarray) -> None:
    model = model_of(BODIES[name])
    np.testing.assert_allclose(canonical(model)(images), model(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Rescaling", ["DepthwiseConv2D"]),
        ("Normalization", ["DepthwiseConv2D"]),
        ("Normalization of a constant", ["Normalization"]),
        ("BatchNormalization", ["ReLU", "DepthwiseConv2D", "BatchNormalization"]),
        ("Dense on pictures", ["Conv2D", "Activation"]),
        (
            "Dense on sequences",
            ["Reshape", "AddHeight", "Conv2D", "Activation", "DropHeight"],
        ),
        ("Dense on five axes", ["Reshape", "Dense"]),
    ],
)
def test_what_works_on_pixels_is_a_convolution(name: str, expected: list[str]) -> None:
    assert kinds(canonical(model_of(BODIES[name])))[1:] == expected


def test_an_adapted_normalization(images: np.ndarray) -> None:
    layer = L.Normalization(name="x")
    layer.adapt(images)
    inputs = keras.Input((8, 8, 4))
    plain = canonical(keras.Model(inputs, layer(inputs)))
    np.testing.assert_allclose(plain(images), layer(images), rtol=1e-4, atol=1e-4)
    assert kinds(plain)[1:] == ["DepthwiseConv2D"]


def test_a_normalization_goes_on_training_and_its_convolution_does_not(images: np.ndarray) -> None:
    plain = canonical(model_of(BODIES["BatchNormalization"]))
    norm = plain.layers[-1]
    assert {weight.name.split("/")[-1] for weight in plain.trainable_weights} == {
        "gamma:0",
        "beta:0",
    }
    before = np.asarray(norm.moving_mean)
    plain(images, training=True)
    assert np.any(np.asarray(norm.moving_mean) != before)


def test_a_dense_layer_with_a_mask_stays_as_it_is() -> None:
    inputs = keras.Input((6,))
    hidden = L.Dense(4)(L.Embedding(9, 4, mask_zero=True)(inputs))
    assert "Dense" in kinds(canonical(keras.Model(inputs, L.LSTM(3)(hidden))))


def test_a_kernel_constraint_keeps_a_dense_layer() -> None:
    free = L.Dense(3, kernel_regularizer="l2")
    assert isinstance(pointwise(free), L.Conv2D)
    assert pointwise(L.Dense(3, kernel_constraint=keras.constraints.MaxNorm(1.0))) is None
    assert pointwise(L.Dense(3, kernel_regularizer=lambda kernel: 0.0)) is None


def test_what_is_a_scale() -> None:
    def built(layer: Any) -> Any:
        layer.build((None, 8, 8, 4))
        return layer

    plain = {"depthwise_initializer": "ones", "use_bias": False, "trainable": False}
    assert is_identity(built(L.DepthwiseConv2D(1, **plain)))
    assert not is_identity(built(L.DepthwiseConv2D(1, **{**plain, "trainable": True})))
    assert not is_identity(built(L.DepthwiseConv2D(1, **{**plain, "use_bias": True})))
    assert is_scale(built(L.DepthwiseConv2D(1)))
    assert not is_scale(built(L.DepthwiseConv2D(3)))
    assert not is_scale(built(L.DepthwiseConv2D(1, depth_multiplier=2)))
    assert not is_scale(built(L.DepthwiseConv2D(1, strides=2)))


def test_the_reason_names_the_layer_type() -> None:
    layer = L.Rescaling(2.0)
    layer(keras.Input((4,)))
    assert reason_against(layer).startswith("Rescaling runs on integers only on pictures")
