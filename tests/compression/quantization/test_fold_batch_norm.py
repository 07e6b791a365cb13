from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfopt.compression.base import StepContext
from tfopt.compression.layers.quantized import SchemedLayer
from tfopt.compression.quantization.fold_batch_norm import in_place_of_normalizations
from tfopt.compression.quantization.qat import Quantize
from tfopt.compression.strip import strip
from tfopt.config.schema import QuantizeStep
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, keras

L = keras.layers
Context = Callable[..., StepContext]


def preactivated(blocks: int = 1, **settings: Any) -> Model:
    inputs = keras.Input((8, 8, 4))
    hidden = inputs
    for number in range(blocks):
        hidden = L.BatchNormalization(name=f"norm_{number}", **settings)(hidden)
        hidden = L.Conv2D(4, 3, padding="same", activation="relu")(hidden)
    return keras.Model(inputs, hidden)


def baked_kernels(model: Model) -> dict[str, np.ndarray]:
    return {
        layer.layer.name: layer.settled_kernels()["depthwise_kernel"].ravel()
        for layer in graph.layers_of(model)
        if isinstance(layer, SchemedLayer) and layer.layer.name.endswith("_scale")
    }


def test_training_sees_a_normalization_and_the_result_has_none(
    images: np.ndarray, labels: np.ndarray, context_for: Context, train: Callable[..., None]
) -> None:
    model = preactivated()
    head = keras.Model(model.inputs, L.Dense(3)(L.Flatten()(model.outputs[0])))
    step = Quantize(QuantizeStep())
    wrapped = step.wrap(head, context_for(images))
    norm = wrapped.get_layer("norm_0")
    before = np.asarray(norm.moving_mean)
    train(wrapped, images, labels, epochs=1)
    assert np.any(before != np.asarray(norm.moving_mean))
    after = step.unwrap(wrapped)
    assert not [one for one in after.layers if isinstance(one, L.BatchNormalization)]
    np.testing.assert_allclose(after(images), wrapped(images), atol=1e-4)
    step.measure(head, after, context_for(images))
    np.testing.assert_allclose(strip(after)(images), strip(wrapped)(images), atol=1e-4)


def test_a_normalization_without_scale_and_center(images: np.ndarray, context_for: Context) -> None:
    step = Quantize(QuantizeStep())
    wrapped = step.wrap(preactivated(scale=False, center=False), context_for(images))
    np.testing.assert_allclose(step.unwrap(wrapped)(images), wrapped(images), atol=1e-4)


def test_no_two_kernels_are_equal(images: np.ndarray, context_for: Context) -> None:
    step = Quantize(QuantizeStep())
    found = baked_kernels(step.unwrap(step.wrap(preactivated(blocks=3), context_for(images))))
    assert len(found) == 3
    assert len({kernel.tobytes() for kernel in found.values()}) == 3
    for kernel in found.values():
        np.testing.assert_allclose(kernel, 1 / np.sqrt(1.001), rtol=1e-5)


def test_a_channel_that_a_normalization_ignores_does_not_overflow(
    images: np.ndarray, context_for: Context
) -> None:
    model = preactivated()
    norm = model.get_layer("norm_0")
    norm.gamma.assign([1.0, 0.0, -1e-12, 0.0])
    norm.beta.assign([0.0, 1.0, 1.0, 0.0])
    step = Quantize(QuantizeStep())
    wrapped = step.wrap(model, context_for(images))
    after = step.unwrap(wrapped)
    (kernel,) = baked_kernels(after).values()
    low, high = images.min(), images.max()
    sums = 127 / (np.abs(kernel) * (high - low) / 255)
    assert np.all(sums[1:3] < 2**30)
    assert np.all(kernel != 0)
    assert kernel[2] < 0
    np.testing.assert_allclose(after(images), wrapped(images), atol=1e-3)


def test_nothing_is_in_place_of_a_folded_normalization(
    cnn: Model, images: np.ndarray, context_for: Context
) -> None:
    assert not in_place_of_normalizations(Quantize(QuantizeStep()).wrap(cnn, context_for(images)))
