"""Write what works on each pixel of a picture as a convolution of 1x1, which runs on integers.

LiteRT folds batch normalization into a convolution before it; one that follows anything
else (a pre-activation network such as DenseNet) becomes a float product and a float sum.
Behind a depthwise convolution that passes everything on unchanged it is folded like any
other, and goes on training. Rescaling and Normalization become such a convolution themselves.
The converter runs a Dense layer on more than two axes in float, its bias apart, between
operators that work out the shapes; as a convolution it is one operator on integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tfopt.keras2 import graph
from tfopt.keras2.core import Layer, Model, keras

_L = keras.layers
_Row = npt.NDArray[np.float32]

_PENALTIES_OF_ANY_SHAPE = (
    type(None),
    keras.regularizers.L1,
    keras.regularizers.L2,
    keras.regularizers.L1L2,
)

NORMALIZED = (_L.Conv2D, _L.DepthwiseConv2D)
"""Layers that LiteRT folds a batch normalization behind them into."""

AFFINE = (_L.Rescaling, _L.Normalization)

MOST_OFFSET = 1e4
"""Largest offset of a Rescaling over its scale. LiteRT adds the offset in 32 bits, in units of
``scale / 127`` times the input's step, and it overflows at 1.7e7 input steps."""

MOST_DEVIATIONS = 16.0
"""Largest distance of a mean from zero, in standard deviations, at which Normalization works
on 8 bits. An 8-bit range includes zero, so at 16 only four bits are left for what varies."""


def as_convolutions(model: Model) -> Model:
    """Return the same function, with per-channel layers on pictures as convolutions.

    Args:
        model: A flat model of plain layers without activations; it is not changed.
    """
    layers = {layer.name: layer for layer in graph.layers_of(model)}
    rows = {
        name: found
        for name, layer in layers.items()
        if type(layer) in AFFINE
        and not reason_against(layer)
        and (found := constants_of(layer)) is not None
    }
    constants = dict(zip(rows, distinct(list(rows.values())), strict=True))
    lonely = _lonely_normalizations(model, layers)
    if not constants and not lonely:
        return model

    def replace(layer: Layer) -> Any:
        if layer.name in constants:
            return _Fixed(layer.name, constants[layer.name])
        return _Behind(layer) if layer.name in lonely else layer

    return graph.rebuild(model, replace)


def pointwise(dense: Layer) -> Layer | None:
    """Return the convolution of 1x1 that does what a Dense layer does; no weights are copied.

    Args:
        dense: Its activation is left out.

    Returns:
        The convolution; None if the layer has a constraint, or a regularizer of the user's
        own, which may depend on the shape of the kernel.
    """
    if (
        dense.kernel_constraint is not None
        or type(dense.kernel_regularizer) not in _PENALTIES_OF_ANY_SHAPE
    ):
        return None
    return _L.Conv2D(
        dense.units,
        1,
        use_bias=dense.use_bias,
        kernel_regularizer=dense.kernel_regularizer,
        bias_regularizer=dense.bias_regularizer,
        activity_regularizer=dense.activity_regularizer,
        bias_constraint=dense.bias_constraint,
        trainable=dense.trainable,
        dtype="float32",
        name=dense.name,
    )


def is_scale(layer: Layer) -> bool:
    """Return whether a layer multiplies each channel by one number.

    It is not worth rounding for its own sake: it has hardly any weights.
    """
    return (
        type(layer) is _L.DepthwiseConv2D
        and layer.kernel_size == layer.strides == (1, 1)
        and layer.depth_multiplier == 1
    )


def is_identity(layer: Layer) -> bool:
    """Return whether a layer passes everything on, so that a normalization can be folded."""
    return (
        is_scale(layer)
        and not (layer.use_bias or layer.trainable)
        and bool(np.all(np.asarray(layer.depthwise_kernel) == 1))
    )


def identity_name(norm: str) -> str:
    """Return the name of the convolution of ones in front of a batch normalization."""
    return f"{norm}_scale"


def is_over_channels(layer: Layer) -> bool:
    """Return whether a batch normalization has one scale for each entry of the last axis."""
    return list(layer.axis) == [len(layer.get_input_shape_at(0)) - 1]


def reason_against(layer: Layer) -> str:
    """Return why a Rescaling or Normalization cannot run on integers; empty if it can."""
    kind = type(layer).__name__
    if not all(tensor.dtype.is_floating for tensor in _inputs_of(layer)):
        return f"{kind} of integers makes floats of them first"
    if not _is_on_pictures(layer):
        return f"{kind} runs on integers only on pictures, (batch, height, width, channels)"
    found = constants_of(layer)
    if found is None:
        return f"{kind} runs on integers only with one scale for each channel"
    if not (np.all(np.isfinite(found.scale)) and np.all(np.isfinite(found.offset))):
        return f"{kind} has constants that are not finite"
    if not np.all(found.scale):
        return f"{kind} by zero"
    if type(layer) is _L.Rescaling and np.any(np.abs(found.offset / found.scale) > MOST_OFFSET):
        return "its offset is so large over its scale that integers overflow"
    deviations = float(np.max(np.abs(found.offset)))
    if type(layer) is _L.Normalization and not layer.invert and deviations > MOST_DEVIATIONS:
        return (
            f"its mean is {deviations:.3g} standard deviations from zero, so that 8 bits would "
            "round away what varies"
        )
    return ""


@dataclass(frozen=True, slots=True)
class Constants:
    """What each channel is multiplied by, and what is added; float32, shape ``(channels,)``."""

    scale: _Row
    offset: _Row


def constants_of(layer: Layer) -> Constants | None:
    """Return what a Rescaling or Normalization does to each channel.

    Args:
        layer: A built layer on tensors of four axes.

    Returns:
        The constants; None if they differ along another axis.
    """
    if type(layer) is _L.Rescaling:
        scale, offset = np.asarray(layer.scale), np.asarray(layer.offset)
    else:
        mean, variance = np.asarray(layer.mean), np.asarray(layer.variance)
        # tf_keras/src/layers/preprocessing/normalization.py: call
        deviation = np.maximum(np.sqrt(variance), keras.backend.epsilon())
        if layer.invert:
            scale, offset = deviation, mean
        else:
            scale, offset = 1.0 / deviation, -mean / deviation
    channels = int(layer.get_input_shape_at(0)[-1])
    rows = [_row(values, channels) for values in (scale, offset)]
    return None if rows[0] is None or rows[1] is None else Constants(rows[0], rows[1])


def distinct(rows: Sequence[Constants]) -> list[Constants]:
    """Return the constants, no two scales of them equal; each changes by some millionths at most.

    The converter (TF 2.21) makes one constant of two equal ones before it joins operators,
    and of an operator whose kernel has two users it leaves parts in float.
    """
    used: dict[bytes, int] = {}
    found = []
    for row in rows:
        number = used.get(row.scale.tobytes(), 0)
        used[row.scale.tobytes()] = number + 1
        found.append(Constants(row.scale * np.float32(1 + number * 2.0**-20), row.offset))
    return found


def _row(values: npt.NDArray[Any], channels: int) -> _Row | None:
    if values.size not in (1, channels) or (values.ndim and values.shape[-1] != values.size):
        return None
    return np.broadcast_to(values.reshape(-1), (channels,)).astype(np.float32)


def _inputs_of(layer: Layer) -> list[Any]:
    return [layer.get_input_at(number) for number in range(len(layer._inbound_nodes))]


def _is_on_pictures(layer: Layer) -> bool:
    """Return whether every call of a layer has an input of four axes, channels known."""
    shapes = [tensor.shape for tensor in _inputs_of(layer)]
    return all(shape.rank == 4 and shape[-1] is not None for shape in shapes)


def _lonely_normalizations(model: Model, layers: Mapping[str, Layer]) -> set[str]:
    """Return the batch normalizations on pictures that no convolution before them can take."""
    sources, readers = graph.producers_of(model), graph.consumers_of(model)

    def follows_convolution(name: str) -> bool:
        before = sources[name][0]
        # What can be folded is read by nobody else before, in every call of a shared layer.
        alone = readers[before] == [name] * len(sources[name])
        return alone and type(layers[before]) in NORMALIZED

    return {
        name
        for name, layer in layers.items()
        if type(layer) is _L.BatchNormalization
        and _is_on_pictures(layer)
        and is_over_channels(layer)
        and not follows_convolution(name)
    }


def depthwise(name: str, *, use_bias: bool) -> Layer:
    """Return a frozen convolution that multiplies each channel by 1.

    Args:
        name: Its name.
        use_bias: Whether it adds something.
    """
    return _L.DepthwiseConv2D(
        1,
        use_bias=use_bias,
        depthwise_initializer="ones",
        trainable=False,
        dtype="float32",
        name=name,
    )


class _Fixed:
    """A depthwise convolution with given constants, in place of a layer without weights."""

    def __init__(self, name: str, constants: Constants) -> None:
        self._values = [constants.scale, constants.offset]
        if not np.any(constants.offset):
            self._values.pop()
        self._layer = depthwise(name, use_bias=len(self._values) == 2)

    def __call__(self, inputs: Any) -> Any:
        """Return the outputs of the convolution."""
        is_new = not self._layer.built
        outputs = self._layer(inputs)
        if is_new:
            shapes = [tuple(weight.shape) for weight in self._layer.weights]
            self._layer.set_weights(
                [value.reshape(shape) for value, shape in zip(self._values, shapes, strict=True)]
            )
        return outputs

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Do nothing: an adapted Normalization's weights are among the constants."""


class _Behind:
    """A batch normalization behind a convolution that passes everything on."""

    def __init__(self, norm: Layer) -> None:
        self._identity = depthwise(identity_name(norm.name), use_bias=False)
        self._norm: Callable[..., Any] = norm
        self.set_weights = norm.set_weights

    def __call__(self, inputs: Any, training: Any = None) -> Any:
        """Return the outputs of the normalization."""
        pinned = {} if training is None else {"training": training}
        return self._norm(self._identity(inputs), **pinned)
