from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.compression.layers.masked import (
    CUSTOM_OBJECTS,
    PrunedLayer,
    fewest_zeros,
    keeping_zeros,
    prunable_kernels,
)
from tfopt.compression.tfmot import ConstantSparsity, PruneLowMagnitude, UpdatePruningStep
from tfopt.keras2.core import keras

L = keras.layers


def at_once(share: float) -> ConstantSparsity:
    return ConstantSparsity(share, begin_step=1, end_step=1, frequency=1)


def pruned_once(kernel: np.ndarray, share: float, kind: type = PrunedLayer) -> np.ndarray:
    layer = kind(L.Dense(kernel.shape[1], use_bias=False), pruning_schedule=at_once(share))
    model = keras.Sequential([L.Input((kernel.shape[0],)), layer])
    layer.layer.kernel.assign(kernel)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(
        np.ones((1, kernel.shape[0])), np.ones((1, kernel.shape[1])), verbose=0,
        callbacks=[UpdatePruningStep()],
    )  # fmt: skip
    return layer.layer.kernel.numpy()


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_masks_are_exact_where_magnitudes_repeat(share: float) -> None:
    constant = np.full((10, 8), 0.5, np.float32)
    assert np.sum(pruned_once(constant, share) == 0) == fewest_zeros((10, 8), share)
    # The guard is not vacuous: tfmot's own mask prunes nothing here.
    assert np.sum(pruned_once(constant, share, PruneLowMagnitude) == 0) == 0


def test_the_smallest_magnitudes_go() -> None:
    kernel = np.random.default_rng(0).normal(size=(10, 8)).astype(np.float32)
    kept = pruned_once(kernel, 0.75) != 0
    np.testing.assert_array_equal(kept, np.abs(kernel) > np.quantile(np.abs(kernel), 0.75))


@pytest.mark.parametrize(
    ("size", "share", "zeros"),
    [(1, 0.9, 0), (2, 0.99, 1), (4, 0.8, 3), (4, 0.1, 0), (1000, 0.999, 999), (1000, 0.9, 900)],
)
def test_one_weight_is_always_kept(size: int, share: float, zeros: int) -> None:
    assert fewest_zeros((size,), share) == zeros
    kernel = np.random.default_rng(0).normal(size=(size, 1)).astype(np.float32)
    if size < 10:
        assert np.sum(pruned_once(kernel, share) == 0) == zeros


def test_the_config_keeps_the_two_of_four_setting() -> None:
    layer = PrunedLayer(L.Dense(4), pruning_schedule=at_once(0.5), sparsity_m_by_n=(2, 4))
    with keras.utils.custom_object_scope(dict(CUSTOM_OBJECTS)):
        assert PrunedLayer.from_config(layer.get_config()).sparsity_m_by_n == (2, 4)
    # tfmot's own config loses it (footgun F8).
    own = PruneLowMagnitude(L.Dense(4), pruning_schedule=at_once(0.5), sparsity_m_by_n=(2, 4))
    assert PruneLowMagnitude.from_config(own.get_config()).sparsity_m_by_n is None


@pytest.mark.parametrize(
    "make",
    [lambda: L.Bidirectional(L.SimpleRNN(3)), lambda: L.TimeDistributed(L.Dense(3))],
)
def test_present_zeros_stay_in_layers_within_layers(make: Any) -> None:
    layer = keeping_zeros(make())
    model = keras.Sequential([L.Input((5, 4)), layer, L.Flatten(), L.Dense(1)])
    for kernel in prunable_kernels(layer.layer).values():
        kernel.assign(tf.where(tf.range(kernel.shape[-1]) % 2 == 0, kernel, 0.0))
    layer.mask_present_zeros()
    model.compile("adam", "mse")
    inputs = np.random.default_rng(0).normal(size=(16, 5, 4))
    model.fit(inputs, inputs[:, 0, 0], epochs=2, verbose=0, callbacks=[UpdatePruningStep()])
    assert layer.is_at_target()
    for kernel in prunable_kernels(layer.layer).values():
        np.testing.assert_array_equal(kernel.numpy()[..., 1::2], 0)
        assert np.all(kernel.numpy()[..., ::2])


def test_settling_multiplies_the_masks_in() -> None:
    layer = keeping_zeros(L.Dense(3))
    layer(tf.ones((1, 4)))
    layer.pruning_vars[0][1].assign(tf.eye(4, 3))
    plain = L.Dense(3)
    plain(tf.ones((1, 4)))
    layer.settle(plain)
    np.testing.assert_array_equal(plain.kernel, layer.layer.kernel * tf.eye(4, 3))
    np.testing.assert_array_equal(plain.bias, layer.layer.bias)


def test_only_the_pointwise_kernel_of_a_separable_convolution_is_pruned() -> None:
    layer = L.SeparableConv2D(3, 3)
    layer(tf.ones((1, 4, 4, 2)))
    assert list(prunable_kernels(layer)) == ["pointwise_kernel"]
