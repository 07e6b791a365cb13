"""Layers that take a Keras mask off a tensor, and put one on.

Keras 3 gives a recurrent layer that is called with an initial state no mask (its rule looks
for ``sequence_mask`` then), but still attaches the mask to the outputs; tf_keras does both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfopt.keras2.core import keras as keras2


class WithoutMask(keras2.layers.Layer):
    """Returns its input, without a mask."""

    def __init__(self, **layer_settings: Any) -> None:
        super().__init__(**layer_settings)
        self._autocast = False
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Return a tensor of the same values."""
        return tf.identity(inputs)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """Return None."""


class WithMaskOf(keras2.layers.Layer):
    """Returns the first of two tensors, with the mask of the second."""

    def __init__(self, **layer_settings: Any) -> None:
        super().__init__(**layer_settings)
        self._autocast = False
        self.supports_masking = True

    def call(self, inputs: Sequence[Any]) -> Any:
        """Return a tensor of the values of the first one."""
        return tf.identity(inputs[0])

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the mask of the second tensor."""
        return None if mask is None else mask[1]


OBJECTS: Mapping[str, type] = {"WithMaskOf": WithMaskOf, "WithoutMask": WithoutMask}
