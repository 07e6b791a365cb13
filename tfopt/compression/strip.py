"""Remove what a step leaves in a model, and keep the weights it trained."""

from __future__ import annotations

from typing import Any

from tfopt.compression.layers.quantized import RangeLayer
from tfopt.compression.preserve import CUSTOM_OBJECTS, plain_layer, settle_weights
from tfopt.compression.quantization.decompose import AddHeight, DropHeight
from tfopt.keras2 import graph
from tfopt.keras2.core import Layer, Model, keras


def strip(model: Model) -> Model:
    """Return the plain floating-point model inside one that a step has changed.

    Zeros and shared values are in its kernels; 8-bit ranges are gone, so exporting it needs
    calibration again.

    Args:
        model: A model in the middle of a step, or one that emulates 8-bit arithmetic.

    Returns:
        A model of plain layers. A model without anything to remove is copied.

    Raises:
        ModelError: If it is not a Functional or Sequential tf_keras model.
    """

    def plain(layer: Layer) -> Any:
        if isinstance(layer, (AddHeight, DropHeight)):
            return _Reshaping(layer)
        return _same if isinstance(layer, RangeLayer) else plain_layer(layer)

    def move(original: Layer, replacement: Any) -> None:
        if original.weights and replacement is not _same:
            settle_weights(original, replacement)

    with keras.utils.custom_object_scope(dict(CUSTOM_OBJECTS)):
        return graph.rebuild(model, plain, move_weights=move)


class _Reshaping:
    """Does what a layer of ours does, by one of Keras' own."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._made: Layer | None = None

    def __call__(self, tensor: Any) -> Any:
        if self._made is None:
            steps, channels = tensor.shape[-2], tensor.shape[-1]
            height = (1,) if isinstance(self._layer, AddHeight) else ()
            sides = (*height, -1 if steps is None else steps, channels)
            self._made = keras.layers.Reshape(sides, name=self._layer.name)
        return self._made(tensor)


def _same(tensor: Any) -> Any:
    return tensor
