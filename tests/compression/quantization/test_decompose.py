from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tfopt.compression.quantization.decompose import canonical
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, keras

L = keras.layers
Body = Callable[[Any], Any]

BODIES: dict[str, Body] = {
    "dense activation": lambda x: L.Dense(3, activation="tanh")(x),
    "activation layer": lambda x: L.Dense(3, activation=L.PReLU())(x),
    "separable same": lambda x: L.SeparableConv2D(
        6, 3, strides=2, padding="same", depth_multiplier=2, activation="relu"
    )(x),
    "separable dilated": lambda x: L.SeparableConv2D(2, 3, dilation_rate=2, use_bias=False)(x),
    "conv1d": lambda x: L.Conv1D(3, 3, strides=2, activation="relu")(L.Reshape((16, 16))(x)),
    "conv1d causal": lambda x: L.Conv1D(3, 3, padding="causal", dilation_rate=2, activation="selu")(
        L.Reshape((16, 16))(x)
    ),
    "conv1d groups": lambda x: L.Conv1D(4, 3, groups=2)(L.Reshape((16, 16))(x)),
    "transpose": lambda x: L.Conv2DTranspose(3, 3, strides=2, activation="elu")(x),
}


def model_of(body: Body) -> Model:
    inputs = keras.Input((8, 8, 4))
    return keras.Model(inputs, body(inputs))


@pytest.mark.parametrize("name", BODIES)
def test_the_function_stays_the_same(name: str, images: np.ndarray) -> None:
    model = model_of(BODIES[name])
    plain = canonical(model)
    expected = model(images, training=False)
    np.testing.assert_allclose(plain(images, training=False), expected, atol=1e-5)
    assert not [
        layer.name
        for layer in plain.layers
        if getattr(layer, "kernel", None) is not None
        and layer.activation is not keras.activations.linear
    ]


def kinds(model: Model) -> list[str]:
    return [type(layer).__name__ for layer in graph.layers_of(model)]


def test_a_row_of_one_dimensional_layers_stays_in_two_dimensions(images: np.ndarray) -> None:
    def body(x: Any) -> Any:
        x = L.Conv1D(3, 3, name="first")(L.Reshape((16, 16))(x))
        x = L.ReLU()(L.BatchNormalization()(x))
        return L.Flatten()(L.Conv1D(3, 3, activation="relu", name="second")(x))

    model = model_of(body)
    norm = next(layer for layer in model.layers if isinstance(layer, L.BatchNormalization))
    norm.set_weights([np.random.default_rng(0).uniform(0.5, 1.5, 3) for _ in range(4)])
    plain = canonical(model)
    np.testing.assert_allclose(plain(images), model(images), atol=1e-5)
    assert kinds(plain)[2:] == [
        "AddHeight", "Conv2D", "BatchNormalization", "ReLU", "Conv2D", "Activation", "DropHeight",
        "Flatten",
    ]  # fmt: skip


def test_normalization_elsewhere_is_left_alone(images: np.ndarray) -> None:
    model = model_of(lambda x: L.BatchNormalization()(L.Reshape((16, 16))(x)))
    assert kinds(canonical(model)) == ["InputLayer", "Reshape", "BatchNormalization"]


def test_a_shared_one_dimensional_layer_may_be_called_twice(images: np.ndarray) -> None:
    shared, norm = L.Conv1D(16, 3, padding="same"), L.BatchNormalization()

    def body(x: Any) -> Any:
        x = L.Reshape((16, 16))(x)
        return norm(shared(norm(shared(x))))

    model = model_of(body)
    np.testing.assert_allclose(canonical(model)(images), model(images), atol=1e-5)


def test_pinned_normalization_stays_pinned(images: np.ndarray) -> None:
    model = model_of(lambda x: L.BatchNormalization()(x, training=False))
    plain = canonical(model)
    np.testing.assert_array_equal(plain(images, training=True), plain(images, training=False))


def test_everything_is_float32_whatever_the_global_policy(images: np.ndarray) -> None:
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = model_of(BODIES["conv1d causal"])
        plain = canonical(model)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert {layer.compute_dtype for layer in plain.layers} == {"float32"}


def test_regularizers_and_constraints_move_along() -> None:
    model = model_of(
        lambda x: L.SeparableConv2D(
            2, 3, depthwise_regularizer="l2", pointwise_regularizer="l2",
            depthwise_constraint="max_norm", name="both",
        )(x)
    )  # fmt: skip
    plain = canonical(model)
    assert float(sum(plain.losses)) == pytest.approx(float(sum(model.losses)))
    assert plain.get_layer("both_depthwise").depthwise_constraint is not None
