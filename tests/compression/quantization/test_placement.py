from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.bridge.to_tf_keras.blocks.base import ApproximateGelu
from tfopt.bridge.to_tf_keras.layer_config import OBJECTS
from tfopt.compression.quantization.decompose import canonical
from tfopt.compression.quantization.placement import Placement, Role, place
from tfopt.keras2.core import keras

L = keras.layers


def placed(body: Callable[[Any], Any], **settings: Any) -> Placement:
    inputs = keras.Input((8, 8, 4), name="in")
    return place(canonical(keras.Model(inputs, body(inputs))), **settings)


def conv(**settings: Any) -> Any:
    return L.Conv2D(4, 3, padding="same", name="conv", **settings)


def conv_2() -> Any:
    return L.Conv2D(2, 3, name="conv_2")


@pytest.mark.parametrize("kind", [conv, lambda: L.DepthwiseConv2D(3, name="conv")])
def test_normalization_and_relu_are_folded_and_the_range_lies_behind(kind: Any) -> None:
    found = placed(lambda x: L.ReLU(6.0, name="relu")(L.BatchNormalization(name="norm")(kind()(x))))
    assert found.roles["norm"] is found.roles["relu"] is Role.FOLDED
    assert found.outputs == {"in", "relu"}
    assert found.kernels == {"conv"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (lambda x: L.BatchNormalization(name="norm")(x), "between layers that stay float"),
        (
            lambda x: L.BatchNormalization(name="norm")(L.Dense(3)(L.Flatten()(x))),
            "into a convolution before it",
        ),
        (
            lambda x: L.BatchNormalization(name="norm")(L.ReLU()(L.Reshape((16, 16))(conv()(x)))),
            "into a convolution before it",
        ),
        (lambda x: L.BatchNormalization(name="norm", axis=1)(conv()(x)), "another axis"),
    ],
)
def test_other_normalization_stays_float(body: Any, reason: str) -> None:
    found = placed(body)
    assert found.roles["norm"] is Role.FLOAT
    assert reason in found.reasons["norm"]


@pytest.mark.parametrize(
    "before",
    [
        lambda x: L.ReLU(name="before")(conv()(x)),
        lambda x: L.Conv2DTranspose(3, 2, name="before")(x),
        lambda x: conv(activation="relu")(x),
    ],
)
def test_normalization_elsewhere_is_folded_into_a_convolution_of_its_own(before: Any) -> None:
    found = placed(lambda x: conv_2()(L.BatchNormalization(name="norm")(before(x))))
    assert found.roles["norm"] is Role.FOLDED
    assert found.roles["norm_scale"] is Role.KERNEL
    assert "norm" in found.outputs
    assert "norm_scale" not in found.outputs


def test_a_skipped_normalization_takes_its_convolution_along() -> None:
    found = placed(lambda x: L.BatchNormalization(name="norm")(L.ReLU()(conv()(x))), skip=["norm"])
    assert found.roles["norm"] is found.roles["norm_scale"] is Role.FLOAT
    assert found.reasons["norm_scale"] == "left out by skip"


def test_a_dense_layer_on_pictures_takes_a_normalization() -> None:
    found = placed(lambda x: L.BatchNormalization(name="norm")(L.Dense(3, name="dense")(x)))
    assert found.roles["norm"] is Role.FOLDED
    assert "norm_scale" not in found.roles


@pytest.mark.parametrize(
    "layer",
    [
        lambda: L.Rescaling(0.5, 1.0, name="scale"),
        lambda: L.Rescaling([1.0, 2.0, 3.0, 4.0], name="scale"),
        lambda: L.Normalization(mean=[1.0] * 4, variance=[4.0] * 4, name="scale"),
    ],
)
def test_a_scale_for_each_channel_is_a_kernel(layer: Any) -> None:
    found = placed(lambda x: L.ReLU(name="relu")(layer()(conv()(x))))
    assert found.roles["scale"] is Role.KERNEL
    assert found.roles["relu"] is Role.FOLDED
    assert found.outputs == {"in", "conv", "relu"}


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (
            lambda: L.Normalization(axis=None, mean=100.0, variance=1.0, name="x"),
            "100 standard deviations from zero",
        ),
        (
            lambda: L.Normalization(axis=1, mean=np.arange(8.0), variance=np.ones(8), name="x"),
            "one scale for each channel",
        ),
        (lambda: L.Rescaling(np.ones((8, 4)), name="x"), "one scale for each channel"),
        (lambda: L.Rescaling(0.0, name="x"), "by zero"),
        (lambda: L.Rescaling(1e-6, 1.0, name="x"), "integers overflow"),
        (lambda: L.Rescaling(float("inf"), name="x"), "not finite"),
    ],
)
def test_scales_that_integers_would_get_wrong_stay_float(layer: Any, reason: str) -> None:
    found = placed(lambda x: L.Dense(2, name="out")(layer()(x)))
    assert found.roles["x"] is Role.FLOAT
    assert reason in found.reasons["x"]


def test_a_scale_of_integers_stays_float() -> None:
    inputs = keras.Input((8, 8, 4), dtype="uint8", name="in")
    hidden = L.Rescaling(1 / 255, name="x")(inputs)
    found = place(canonical(keras.Model(inputs, L.Conv2D(4, 3, name="conv")(hidden))))
    assert "of integers" in found.reasons["x"]
    assert found.outputs == {"x", "conv"}


def test_a_scale_of_rows_stays_float() -> None:
    inputs = keras.Input((8,), name="in")
    found = place(canonical(keras.Model(inputs, L.Dense(3)(L.Rescaling(2.0, name="x")(inputs)))))
    assert "only on pictures" in found.reasons["x"]


def test_a_scale_is_not_rounded_for_its_own_sake() -> None:
    found = placed(lambda x: L.Dense(3)(L.LayerNormalization()(L.Rescaling(2.0, name="x")(x))))
    assert "between layers that stay float" in found.reasons["x"]
    assert "in" not in found.outputs


@pytest.mark.parametrize(
    "layer",
    [
        lambda: L.Activation(OBJECTS["keras3_hard_silu"], name="x"),
        lambda: ApproximateGelu(name="x"),
    ],
)
def test_activations_of_the_bridge_work_on_integers(layer: Any) -> None:
    found = placed(lambda x: layer()(conv()(x)))
    assert found.roles["x"] is Role.INTEGER


def test_what_others_read_is_not_folded() -> None:
    def body(x: Any) -> Any:
        hidden = conv()(x)
        return L.Add(name="add")([hidden, L.ReLU(name="relu")(hidden)])

    found = placed(body)
    assert found.roles["relu"] is Role.INTEGER
    assert found.outputs == {"in", "conv", "relu", "add"}


def test_an_inner_tensor_that_is_also_an_output_is_rounded() -> None:
    inputs = keras.Input((8, 8, 4), name="in")
    hidden = conv()(inputs)
    found = place(canonical(keras.Model(inputs, [hidden, L.ReLU(name="relu")(hidden)])))
    assert {"conv", "relu"} <= found.outputs


def test_a_shared_row_of_layers_is_folded_in_both_calls() -> None:
    layer, norm = conv(), L.BatchNormalization(name="norm")
    found = placed(lambda x: L.Concatenate()([norm(layer(x)), norm(layer(L.ReLU()(x)))]))
    assert found.roles["norm"] is Role.FOLDED


def test_a_half_shared_row_is_folded_elsewhere() -> None:
    layer, norm = conv(), L.BatchNormalization(name="norm")
    found = placed(lambda x: L.Concatenate()([norm(layer(x)), layer(L.ReLU()(x))]))
    assert found.roles["norm"] is Role.FOLDED
    assert found.roles["norm_scale"] is Role.KERNEL
    assert "conv" in found.outputs


def test_a_concatenation_gives_its_inputs_their_range() -> None:
    found = placed(lambda x: L.Concatenate(name="both")([conv()(x), x]))
    assert found.outputs == {"in", "both"}


@pytest.mark.parametrize(
    "tail",
    [lambda x: L.GlobalAveragePooling2D(name="end")(x), lambda x: L.ReLU(name="end")(x)],
)
def test_the_end_of_the_model_is_rounded(tail: Any) -> None:
    assert "end" in placed(lambda x: tail(conv()(x))).outputs


@pytest.mark.parametrize("kind", [L.MaxPooling2D, L.AveragePooling2D, L.Flatten, L.UpSampling2D])
def test_layers_that_keep_the_range_are_not_rounded_again(kind: type) -> None:
    found = placed(lambda x: kind(name="same")(conv()(x)))
    assert found.roles["same"] is Role.SAME_RANGE
    assert found.outputs == {"in", "conv"}


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "tanh"])
def test_fixed_ranges_are_not_rounded(activation: str) -> None:
    found = placed(lambda x: conv(activation=activation)(x))
    assert found.roles["conv_activation"] is Role.FIXED
    assert found.outputs == {"in", "conv"}


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (lambda: L.ReLU(4.0, name="x"), "a ReLU with a slope, a threshold or a limit"),
        (lambda: L.TimeDistributed(L.Dense(2), name="x"), "layer type TimeDistributed"),
        (lambda: L.LayerNormalization(name="x"), "layer type LayerNormalization"),
        (lambda: L.Lambda(lambda t: t * 2, name="x"), "layer type Lambda"),
        (lambda: L.Activation("elu", name="x"), "activation 'elu'"),
    ],
)
def test_layers_without_a_rule_stay_float_between_rounded_ones(layer: Any, reason: str) -> None:
    found = placed(lambda x: L.Dense(2, name="out")(layer()(conv()(x))))
    assert found.roles["x"] is Role.FLOAT
    assert reason in found.reasons["x"]
    assert {"conv", "x", "out"} <= found.outputs


def test_a_float_layer_that_feeds_no_integers_is_not_rounded() -> None:
    assert "x" not in placed(lambda x: L.LayerNormalization(name="x")(conv()(x))).outputs


def test_operators() -> None:
    found = placed(lambda x: tf.reshape((conv()(x) + 1.0)[:, 0], (-1, 32)))
    names = {name: role for name, role in found.roles.items() if name.startswith("tf.")}
    assert sorted(role.name for role in names.values()) == ["INTEGER", "SAME_RANGE", "SAME_RANGE"]


def test_integer_tensors_are_not_rounded() -> None:
    inputs = keras.Input((6,), dtype="int32", name="in")
    hidden = L.Embedding(9, 4, name="words")(inputs + 1)
    found = place(canonical(keras.Model(inputs, L.Dense(3, name="out")(hidden))))
    assert found.roles["tf.__operators__.add"] is Role.INDICES
    assert found.outputs == {"words", "out"}


def test_every_tensor_of_a_float_layer_is_meant() -> None:
    found = placed(lambda x: L.Dense(3, name="out")(tf.split(x, 2, axis=-1)[0]))
    assert "tf.split" in found.outputs


@pytest.mark.parametrize("axes", [None, [1, 2]])
def test_prelu_works_on_integers(axes: Any) -> None:
    assert placed(lambda x: L.PReLU(shared_axes=axes, name="x")(conv()(x))).roles["x"] is (
        Role.INTEGER
    )


def test_skipped_layers_stay_float() -> None:
    found = placed(lambda x: L.Dense(2, name="out")(conv()(x)), skip=["co*"])
    assert found.roles["conv"] is Role.FLOAT
    assert found.reasons["conv"] == "left out by skip"
    assert "conv" in found.outputs
