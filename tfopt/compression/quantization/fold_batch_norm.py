"""Write batch normalizations that follow no convolution as one, when training is over.

In training such a normalization stands behind a convolution of ones (see ``pixelwise``).
The converter (TF 2.21) first merges equal constants and then folds normalizations into
them: two that share their ones come out wrong, or in float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfopt.compression.layers.quantized import KernelScheme, RangeLayer, SchemedLayer
from tfopt.compression.quantization.pointwise_conv import (
    Constants,
    depthwise,
    distinct,
    identity_name,
)
from tfopt.keras2 import graph
from tfopt.keras2.core import Layer, Model, keras

_LARGEST_SUM = 2.0**29
"""Most that a bias may be in the units of its 32-bit sum, for products to fit beside it."""

_SCHEME = {"depthwise_kernel": {"bits": 8, "channels": "depthwise"}}


def in_place_of_normalizations(wrapped: Model) -> Mapping[str, Callable[..., Any]]:
    """Return what to call in place of which layer; no weights are to be moved there.

    Args:
        wrapped: A flat model that emulates 8-bit arithmetic, in the middle of training.

    Returns:
        Layer name to a function of the layer's inputs, to be used in one rebuilding of
        the model; empty if no normalization stands behind a convolution of ones.
    """
    layers = {layer.name: layer for layer in graph.layers_of(wrapped)}
    sources = graph.producers_of(wrapped)
    wrappers = {
        layer.layer.name: name for name, layer in layers.items() if isinstance(layer, SchemedLayer)
    }
    ones = {
        name: wrappers[identity_name(name)]
        for name, layer in layers.items()
        if type(layer) is keras.layers.BatchNormalization and identity_name(name) in wrappers
    }
    rows = [
        _safe(_constants_of(layers[name]), _step_before(before, layers, sources))
        for name, before in ones.items()
    ]
    found: dict[str, Callable[..., Any]] = dict.fromkeys(ones.values(), _same)
    for name, row in zip(ones, distinct(rows), strict=True):
        found[name] = _Baked(layers[name], row)
    return found


class _Baked:
    """A depthwise convolution with an 8-bit kernel that does what a normalization does."""

    def __init__(self, norm: Layer, constants: Constants) -> None:
        self._constants = constants
        convolution = depthwise(identity_name(norm.name), use_bias=True)
        convolution.trainable = norm.trainable
        self._layer = SchemedLayer(convolution, KernelScheme(_SCHEME), name_prefix="quant_")

    def __call__(self, inputs: Any, training: Any = None) -> Any:
        """Return the outputs of the convolution, which is the same in training."""
        del training
        is_new = not self._layer.built
        outputs = self._layer(inputs)
        if is_new:
            ((kernel, _, _),) = self._layer.kernels().values()
            kernel.assign(self._constants.scale.reshape(kernel.shape))
            self._layer.layer.bias.assign(self._constants.offset)
            self._layer.prepare()
        return outputs


def _constants_of(norm: Layer) -> Constants:
    """Return what a normalization does to each channel in inference."""
    ones, zeros = np.ones(norm.moving_mean.shape), np.zeros(norm.moving_mean.shape)
    gamma = ones if norm.gamma is None else np.asarray(norm.gamma)
    beta = zeros if norm.beta is None else np.asarray(norm.beta)
    scale = gamma / np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
    offset = beta - np.asarray(norm.moving_mean) * scale
    return Constants(scale.astype(np.float32), offset.astype(np.float32))


def _step_before(
    name: str, layers: Mapping[str, Layer], sources: Mapping[str, Sequence[str]]
) -> float:
    """Return the smallest step of the 8-bit inputs of a layer; 1 if none has a range."""
    steps = [1.0]
    for source in sources[name]:
        while not isinstance(layers[source], RangeLayer) and len(sources.get(source, ())) == 1:
            (source,) = sources[source]  # up, past what keeps the range
        if isinstance(layers[source], RangeLayer):
            state = layers[source].quantizer_vars
            steps.append(float(state["max_var"] - state["min_var"]) / 255)
    return min(steps)


def _safe(constants: Constants, step: float) -> Constants:
    """Return constants that do not overflow, where a normalization ignores a channel.

    The bias counts in units of ``step * scale / 127``. A scale that is raised adds less than
    a ten-thousandth of the bias, or a millionth of the largest scale, to what comes out.
    """
    least = np.abs(constants.offset) * 127 / (step * _LARGEST_SUM)
    least = np.maximum(least, np.abs(constants.scale).max() * 2.0**-20)
    raised = np.where(constants.scale < 0, -least, least).astype(np.float32)
    is_small = np.abs(constants.scale) < least
    return Constants(np.where(is_small, raised, constants.scale), constants.offset)


def _same(inputs: Any, training: Any = None) -> Any:
    del training
    return inputs
