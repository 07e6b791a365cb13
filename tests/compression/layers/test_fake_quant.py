from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfopt.compression.layers.fake_quant import EMA_DECAY, KernelQuantizer
from tfopt.compression.layers.quantized import RangeLayer
from tfopt.keras2.core import keras

RANDOM = np.random.default_rng(0)


def range_layer(low: float, high: float) -> RangeLayer:
    layer = RangeLayer(name="range")
    layer(tf.zeros((1, 2)))
    layer.quantizer_vars["min_var"].assign(low)
    layer.quantizer_vars["max_var"].assign(high)
    return layer


def range_of(layer: RangeLayer) -> tuple[float, float]:
    return tuple(float(layer.quantizer_vars[name]) for name in ("min_var", "max_var"))


def test_activations_are_rounded_to_256_levels_and_clipped() -> None:
    layer = range_layer(0.0, 2.55)
    found = layer(tf.constant([[0.014, 1.0, 99.0, -1.0]]))
    np.testing.assert_allclose(found, [[0.01, 1.0, 2.55, 0.0]], atol=1e-6)
    assert range_of(layer) == pytest.approx((0.0, 2.55))


def test_a_range_follows_training_batches() -> None:
    layer = range_layer(-1.0, 1.0)
    layer(tf.constant([[-2.0, 3.0]]), training=True)
    step = 1 - EMA_DECAY
    assert range_of(layer) == pytest.approx((-1 - step, 1 + 2 * step))


def test_zero_stays_within_the_range() -> None:
    layer = range_layer(0.0, 0.0)
    layer(tf.constant([[2.0, 3.0]]), training=True)
    assert range_of(layer) == pytest.approx((0.0, 3.0))


def test_a_dead_tensor_keeps_its_range_and_wakes_up_with_one() -> None:
    layer = range_layer(0.0, 0.3)
    for _ in range(50):
        layer(tf.zeros((4, 2)), training=True)
    assert range_of(layer) == pytest.approx((0.0, 0.3))
    asleep = range_layer(0.0, 0.0)
    asleep(tf.zeros((4, 2)), training=True)
    assert range_of(asleep) == (0.0, 0.0)
    asleep(tf.constant([[-0.5, 0.25]]), training=True)
    assert range_of(asleep) == pytest.approx((-0.5, 0.25))


def test_gradients_pass_within_the_range_only() -> None:
    layer = range_layer(-1.0, 1.0)
    values = tf.constant([[0.4, 7.0]])
    with tf.GradientTape() as tape:
        tape.watch(values)
        outputs = tf.reduce_sum(layer(values))
    assert tape.gradient(outputs, values).numpy().tolist() == [[1.0, 0.0]]


def rounded(kernel: np.ndarray, **settings: object) -> tuple[np.ndarray, dict[str, tf.Variable]]:
    quantizer = KernelQuantizer(**settings)
    layer = keras.layers.Layer()
    state = quantizer.build(tf.TensorShape(kernel.shape), "kernel", layer)
    if "mask" in state:
        state["mask"].assign((kernel != 0).astype(np.float32))
    return quantizer(tf.constant(kernel), True, state).numpy(), state


@pytest.mark.parametrize(
    ("channels", "shape", "ranges"),
    [("none", (5, 4), ()), ("last", (3, 3, 2, 4), (4,)), ("depthwise", (3, 3, 4, 2), (8,))],
)
def test_kernels_are_rounded_to_symmetric_ranges(
    channels: str, shape: tuple[int, ...], ranges: tuple[int, ...]
) -> None:
    kernel = RANDOM.normal(size=shape).astype(np.float32)
    found, state = rounded(kernel, channels=channels)
    assert state["max_var"].shape == ranges
    np.testing.assert_allclose(state["min_var"], -state["max_var"])
    per_range = kernel.reshape(-1, *ranges) if ranges else kernel.reshape(-1, 1)
    scale = np.abs(per_range).max(axis=0) / 127
    error = np.abs(found - kernel).reshape(per_range.shape)
    assert np.all(error <= scale * 0.51)
    levels = found.reshape(per_range.shape) / scale
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-3)


def test_zeros_stay_zero_when_the_kernel_moves() -> None:
    kernel = np.array([[0.0, 0.5], [-1.0, 0.0]], np.float32)
    quantizer = KernelQuantizer(masked=True)
    _, state = rounded(kernel, masked=True)
    moved = quantizer(tf.constant(kernel + 0.1), True, state).numpy()
    np.testing.assert_array_equal(moved == 0, kernel == 0)


def test_a_shared_kernel_is_gathered_and_its_gradient_summed() -> None:
    quantizer = KernelQuantizer(bits=None, shared=2)
    state = quantizer.build(tf.TensorShape((3,)), "kernel", keras.layers.Layer())
    state["values"].assign([0.5, -2.0])
    state["indices"].assign([1, 0, 1])
    with tf.GradientTape() as tape:
        kernel = quantizer(tf.zeros(3), True, state)
        loss = tf.reduce_sum(kernel * [1.0, 10.0, 100.0])
    assert kernel.numpy().tolist() == [-2.0, 0.5, -2.0]
    gradient = tf.convert_to_tensor(tape.gradient(loss, state["values"]))
    assert gradient.numpy().tolist() == [10.0, 101.0]


def test_the_config_is_the_constructor() -> None:
    quantizer = KernelQuantizer(bits=None, channels="last", masked=True, shared=3)
    assert KernelQuantizer(**quantizer.get_config()).get_config() == quantizer.get_config()
