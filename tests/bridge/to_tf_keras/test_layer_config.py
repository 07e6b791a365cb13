"""Settings and activations of Keras 3 in the words of tf_keras."""

from __future__ import annotations

from typing import Any

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812

from tfopt.bridge.to_tf_keras.layer_config import (
    OBJECTS,
    NoTwin,
    activation_twin,
    policy_name,
    twin_settings,
)
from tfopt.keras2.core import keras as keras2

_ACTIVATIONS = [
    name
    for name in sorted(vars(keras3.activations))
    if callable(getattr(keras3.activations, name))
    # threshold() takes two more arguments, so that no layer can be given its name.
    and name not in ("deserialize", "get", "serialize", "threshold")
]
X = np.linspace(-4, 4, 36, dtype="float32").reshape(6, 6)


@pytest.mark.parametrize("name", _ACTIVATIONS)
def test_activation_computes_the_same(name: str) -> None:
    found = keras2.activations.get(activation_twin(name))
    wanted = getattr(keras3.activations, name)
    np.testing.assert_allclose(found(tf.constant(X)), wanted(tf.constant(X)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", _ACTIVATIONS)
def test_activation_survives_a_config(name: str) -> None:
    layer = keras2.layers.Activation(activation_twin(name))
    with keras2.utils.custom_object_scope(dict(OBJECTS)):
        again = keras2.layers.Activation.from_config(layer.get_config())
    np.testing.assert_array_equal(again(X), layer(X))


def test_there_are_activations() -> None:
    assert len(_ACTIVATIONS) >= 31


def test_hard_sigmoid_keeps_the_name_of_keras3() -> None:
    """Under its bare name a loaded model would compute tf_keras' other function."""
    twin = activation_twin("hard_sigmoid")
    assert twin.__name__ == "keras3_hard_sigmoid"
    assert (
        np.abs(np.asarray(keras2.activations.hard_sigmoid(tf.constant(X)) - twin(X))).max() > 0.01
    )


@pytest.mark.parametrize("activation", [lambda x: x, L.ReLU(), "no_such", np.tanh])
def test_activation_of_the_user_has_no_twin(activation: Any) -> None:
    with pytest.raises(NoTwin, match="not one of Keras' own"):
        activation_twin(activation)


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        ("float32", "float32"),
        ("mixed_float16", "mixed_float16"),
        ("mixed_bfloat16", "mixed_bfloat16"),
        ("bfloat16", "bfloat16"),
        (keras3.dtype_policies.DTypePolicy("float64"), "float64"),
        (keras3.dtype_policies.QuantizedDTypePolicy("int8", "mixed_bfloat16"), "mixed_bfloat16"),
    ],
)
def test_policy(policy: Any, name: str) -> None:
    assert policy_name(policy) == name
    if not isinstance(policy, str):
        assert policy_name(keras3.saving.serialize_keras_object(policy)) == name


def test_unknown_policy_has_no_twin() -> None:
    with pytest.raises(NoTwin, match="no dtype policy 'float7'"):
        policy_name("float7")


def _settings(layer: Any, name: str | None = None) -> dict[str, Any]:
    return twin_settings(layer, getattr(keras2.layers, name or type(layer).__name__))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (L.Resizing(3, 3, antialias=True), "antialias=True"),
        (L.Resizing(3, 3, pad_to_aspect_ratio=True), "pad_to_aspect_ratio=True"),
        (L.Conv2D(2, 3, data_format="channels_first"), ""),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_setting_away_from_its_default(layer: Any, message: str) -> None:
    if not message:
        assert _settings(layer)["data_format"] == "channels_first"
        return
    with pytest.raises(NoTwin, match=message):
        _settings(layer)


def test_slope_has_another_name() -> None:
    assert _settings(L.LeakyReLU(negative_slope=0.2))["alpha"] == pytest.approx(0.2)


@pytest.mark.parametrize("kind", [L.LSTM, L.GRU, L.SimpleRNN])
def test_zero_output_for_mask_reaches_the_twin(kind: Any) -> None:
    name = kind.__name__
    settings = _settings(kind(3, zero_output_for_mask=True))
    assert getattr(keras2.layers, name).from_config(settings).zero_output_for_mask is True


def test_caller_may_leave_settings_out() -> None:
    settings = twin_settings(L.Dense(3), keras2.layers.Dense, without=("units",))
    assert "units" not in settings
    assert settings["use_bias"] is True


def test_regularizer_and_constraint_come_along() -> None:
    layer = L.Dense(
        3, kernel_regularizer=keras3.regularizers.L1L2(0.1, 0.2), bias_constraint="non_neg"
    )
    twin = keras2.layers.Dense.from_config(_settings(layer))
    assert float(twin.kernel_regularizer.l1) == pytest.approx(0.1)
    assert isinstance(twin.bias_constraint, keras2.constraints.NonNeg)


def test_regularizer_of_the_user_has_no_twin() -> None:
    @keras3.saving.register_keras_serializable("tfopt_test_settings")
    class Mine(keras3.regularizers.Regularizer):
        def __call__(self, x: Any) -> Any:
            return 0.0

        def get_config(self) -> dict[str, Any]:
            return {}

    with pytest.raises(NoTwin, match="kernel_regularizer is 'Mine'"):
        _settings(L.Dense(3, kernel_regularizer=Mine()))


def test_initializer_that_tf_keras_lacks_is_of_no_matter() -> None:
    layer = L.Dense(3, kernel_initializer="orthogonal")
    twin = keras2.layers.Dense.from_config(_settings(layer))
    assert isinstance(twin.kernel_initializer, keras2.initializers.Orthogonal)
