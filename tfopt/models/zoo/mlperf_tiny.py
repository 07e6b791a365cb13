"""The MLPerf Tiny networks for images and for keyword spotting.

Shapes follow Banbury et al. 2021, "MLPerf Tiny Benchmark" (arXiv:2106.07597): a ResNet
with three stacks for 32x32 images, and the small DS-CNN of Zhang et al. 2017, "Hello
Edge" (arXiv:1711.07128). Convolutions keep their biases before batch normalization, as the
reference models do, so that parameter counts agree: 78,666 and 24,908. The references' weight
decay is left to the recipe's optimizer.
"""

from __future__ import annotations

from typing import Any

from tfopt.errors import ModelError
from tfopt.keras2.core import Model, keras
from tfopt.models.shapes import image_shape, outputs


def resnet8(input_shape: Any, classes: int | None, *, initializer: str = "he_normal") -> Model:
    """Return the MLPerf Tiny ResNet: three residual stacks of 16, 32 and 64 filters.

    The average pool spans whatever is left of the image, 8x8 for 32x32 inputs.

    Args:
        input_shape: Height, width (at least 4) and channels.
        classes: Number of classes; None for one number (regression).
        initializer: Kernel initializer.

    Returns:
        A Functional model that gives logits.

    Raises:
        ModelError: If the shape is not an image's, or too small.
    """
    shape = image_shape(input_shape, builder="resnet8", smallest=(4, 4))
    inputs = keras.Input(shape, name="image")
    x = _convolution(inputs, 16, name="stem", initializer=initializer)
    x = keras.layers.ReLU(name="stem_relu")(x)
    for number, filters in enumerate((16, 32, 64), start=1):
        x = _stack(x, filters, name=f"stack{number}", initializer=initializer)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dense(
        outputs(classes, builder="resnet8"), kernel_initializer=initializer, name="output"
    )(x)
    return keras.Model(inputs, x, name="resnet8")


def dscnn(input_shape: Any, classes: int | None, *, initializer: str = "glorot_uniform") -> Model:
    """Return the MLPerf Tiny DS-CNN: one convolution, four depthwise-separable ones.

    The first kernel is 10 x 4 with stride 2, made for 49 frames of 10 coefficients;
    on smaller inputs it is cut to their size.

    Args:
        input_shape: Frames (at least 2), coefficients (at least 2) and channels.
        classes: Number of classes; None for one number (regression).
        initializer: Kernel initializer.

    Returns:
        A Functional model that gives logits.

    Raises:
        ModelError: If the shape has not three axes, or is too small.
    """
    if len(input_shape) == 2 and not isinstance(input_shape, dict):
        raise ModelError(
            "dscnn takes spectrograms (frames, coefficients, channels). One example has shape "
            f"{tuple(input_shape)}. Add a channel axis: x[..., None]."
        )
    shape = image_shape(input_shape, builder="dscnn", smallest=(2, 2))
    layers = keras.layers
    kernel = (min(10, shape[0]), min(4, shape[1]))
    inputs = keras.Input(shape, name="spectrogram")
    x = _convolution(inputs, 64, name="stem", initializer=initializer, kernel=kernel, strides=2)
    x = layers.ReLU(name="stem_relu")(x)
    x = layers.Dropout(0.2, name="stem_dropout")(x)
    for number in range(1, 5):
        x = _separable(x, 64, name=f"block{number}", initializer=initializer)
    x = layers.Dropout(0.4, name="dropout")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(
        outputs(classes, builder="dscnn"), kernel_initializer=initializer, name="output"
    )(x)
    return keras.Model(inputs, x, name="dscnn")


def _convolution(
    x: Any,
    filters: int,
    *,
    name: str,
    initializer: str,
    kernel: int | tuple[int, int] = 3,
    strides: int = 1,
) -> Any:
    """Return a padded convolution followed by batch normalization."""
    x = keras.layers.Conv2D(
        filters,
        kernel,
        strides=strides,
        padding="same",
        kernel_initializer=initializer,
        name=f"{name}_conv",
    )(x)
    return keras.layers.BatchNormalization(name=f"{name}_bn")(x)


def _stack(x: Any, filters: int, *, name: str, initializer: str) -> Any:
    """Return a residual stack; it halves height and width if it changes the filters."""
    layers = keras.layers
    changes = x.shape[-1] != filters
    strides = 2 if changes else 1
    y = _convolution(x, filters, name=f"{name}_1", initializer=initializer, strides=strides)
    y = layers.ReLU(name=f"{name}_1_relu")(y)
    y = _convolution(y, filters, name=f"{name}_2", initializer=initializer)
    if changes:
        x = layers.Conv2D(
            filters,
            1,
            strides=strides,
            padding="same",
            kernel_initializer=initializer,
            name=f"{name}_shortcut",
        )(x)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, y]))


def _separable(x: Any, filters: int, *, name: str, initializer: str) -> Any:
    """Return a depthwise 3x3 and a pointwise convolution, each normalized and rectified."""
    layers = keras.layers
    x = layers.DepthwiseConv2D(
        3, padding="same", depthwise_initializer=initializer, name=f"{name}_depthwise"
    )(x)
    x = layers.BatchNormalization(name=f"{name}_depthwise_bn")(x)
    x = layers.ReLU(name=f"{name}_depthwise_relu")(x)
    x = _convolution(x, filters, name=f"{name}_pointwise", initializer=initializer, kernel=1)
    return layers.ReLU(name=f"{name}_pointwise_relu")(x)
