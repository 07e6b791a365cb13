"""Students that start as new, or as the teacher."""

from __future__ import annotations

import numpy as np

from tfopt.distillation.student import born_again, flat
from tfopt.keras2.core import Model, keras

L = keras.layers


def normalized() -> Model:
    adapted = L.Normalization(name="adapted")
    adapted.adapt(np.arange(12, dtype=np.float32).reshape(6, 2))
    inputs = keras.Input((2,))
    x = L.Dense(4, name="hidden")(adapted(inputs))
    x = L.Dense(3, name="fixed", trainable=False)(L.BatchNormalization(name="norm")(x))
    return keras.Model(inputs, L.Dense(2, name="out")(x))


def test_born_again_is_untrained_but_for_what_cannot_be_trained() -> None:
    model = normalized()
    model.get_layer("norm").gamma.assign([2.0, 2.0, 2.0, 2.0])
    again = born_again(model)
    for name in ("adapted", "fixed"):
        for one, two in zip(
            model.get_layer(name).get_weights(), again.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(one, two)
    assert not np.array_equal(
        model.get_layer("hidden").kernel.numpy(), again.get_layer("hidden").kernel.numpy()
    )
    np.testing.assert_array_equal(again.get_layer("norm").gamma.numpy(), 1.0)


def test_nested_models_are_opened_so_that_layers_can_be_named() -> None:
    inner = keras.Sequential([keras.Input((2,)), L.Dense(3, name="inside")])
    outer = keras.Sequential([keras.Input((2,)), inner, L.Dense(2)])
    assert flat(outer).get_layer("inside").units == 3
    plain = normalized()
    assert flat(plain) is plain
