"""LeNet, in the two forms that the compression literature reports on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfopt.errors import ModelError
from tfopt.keras2.core import Model, keras
from tfopt.models.shapes import image_shape, known_shape, outputs

# Two 5x5 convolutions without padding, each followed by 2x2 pooling: 16 -> 12 -> 6 -> 2 -> 1.
_SMALLEST_SIDE = 16


def lenet5(
    input_shape: Any,
    classes: int | None,
    *,
    filters: Sequence[int] = (20, 50),
    units: int = 500,
    initializer: str = "glorot_uniform",
) -> Model:
    """Return LeNet-5 as Caffe defines it: 431,080 parameters on MNIST.

    The form of ``examples/mnist/lenet.prototxt`` in Caffe, which Deep Compression (Han
    et al. 2016, arXiv:1510.00149) and later papers compress, with ReLU after the
    convolutions too.

    Args:
        input_shape: Height, width (at least 16) and channels.
        classes: Number of classes; None for one number (regression).
        filters: Filters of the two convolutions.
        units: Units of the hidden dense layer. A tenth as large, for a student: filters
            6 and 16, 150 units (42,632 parameters).
        initializer: Kernel initializer.

    Returns:
        A Functional model that gives logits.

    Raises:
        ModelError: If the shape is not an image's or too small, or sizes are below 1.

    """
    if len(filters) != 2 or min(*filters, units) < 1:
        raise ModelError(
            "lenet5 takes filters of two convolutions and units, each at least 1. Received: "
            f"filters={list(filters)}, units={units}."
        )
    smallest = (_SMALLEST_SIDE, _SMALLEST_SIDE)
    shape = image_shape(input_shape, builder="lenet5", smallest=smallest)
    layers = keras.layers
    options = {"kernel_initializer": initializer}
    inputs = keras.Input(shape, name="image")
    x = layers.Conv2D(filters[0], 5, activation="relu", name="conv1", **options)(inputs)
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = layers.Conv2D(filters[1], 5, activation="relu", name="conv2", **options)(x)
    x = layers.MaxPooling2D(2, name="pool2")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(units, activation="relu", name="dense", **options)(x)
    x = layers.Dense(outputs(classes, builder="lenet5"), name="output", **options)(x)
    return keras.Model(inputs, x, name="lenet5")


def lenet300(
    input_shape: Any, classes: int | None, *, initializer: str = "glorot_uniform"
) -> Model:
    """Return LeNet-300-100: two hidden dense layers, 266,610 parameters on MNIST.

    Args:
        input_shape: Any shape; it is flattened.
        classes: Number of classes; None for one number (regression).
        initializer: Kernel initializer.

    Returns:
        A Functional model that gives logits.

    Raises:
        ModelError: If the shape is not known.
    """
    shape = known_shape(input_shape, builder="lenet300")
    layers = keras.layers
    options = {"kernel_initializer": initializer}
    inputs = keras.Input(shape, name="image")
    x = layers.Flatten(name="flatten")(inputs)
    x = layers.Dense(300, activation="relu", name="dense1", **options)(x)
    x = layers.Dense(100, activation="relu", name="dense2", **options)(x)
    x = layers.Dense(outputs(classes, builder="lenet300"), name="output", **options)(x)
    return keras.Model(inputs, x, name="lenet300")
