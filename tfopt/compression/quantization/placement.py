"""Decide where a model is rounded to 8 bits, layer by layer, with the reason.

The rules follow the integer kernels of LiteRT: a convolution or dense layer runs on
integers when its kernel, its input and its output have a range; batch normalization and
ReLU are folded into it, so the range belongs behind them; reshapes and maximum pooling
keep the range they are given; softmax, sigmoid and tanh have a fixed one
(LiteRT 8-bit quantization specification, "Int8 quantized operator specifications").
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import tensorflow as tf

from tfopt.compression.quantization.decompose import AddHeight, DropHeight
from tfopt.compression.quantization.pointwise_conv import (
    AFFINE,
    NORMALIZED,
    is_identity,
    is_over_channels,
    is_scale,
    reason_against,
)
from tfopt.keras2 import graph
from tfopt.keras2.core import Layer, Model, keras

_L = keras.layers


class Role(Enum):
    """What a layer is to the integer kernels."""

    INPUT = "input"
    INDICES = "works on integers already"
    KERNEL = "kernel"
    FOLDED = "folded into the layer before"
    INTEGER = "integer kernel"
    FIXED = "fixed output range"
    SAME_RANGE = "keeps its input's range"
    FLOAT = "float"


KERNEL_LAYERS = (_L.Dense, _L.Conv2D, _L.DepthwiseConv2D, _L.Conv2DTranspose)

_INTEGER_LAYERS = (
    _L.Add,
    _L.Subtract,
    _L.Multiply,
    _L.Maximum,
    _L.Minimum,
    _L.Concatenate,
    _L.GlobalAveragePooling1D,
    _L.GlobalAveragePooling2D,
    _L.LeakyReLU,
    _L.PReLU,
)
# By name, since importing the bridge imports Keras 3; LiteRT has an 8-bit GELU of both kinds.
_INTEGER_LAYERS_OF_THE_BRIDGE = ("tfopt.bridge.to_tf_keras.blocks.base.ApproximateGelu",)
_SAME_RANGE_LAYERS = (
    _L.MaxPooling1D,
    _L.MaxPooling2D,
    # The kernels of these two want one range for input and output: a range of its own
    # behind them, as tfmot puts it, would clip the input to the narrower output.
    _L.AveragePooling1D,
    _L.AveragePooling2D,
    _L.UpSampling2D,
    _L.GlobalMaxPooling1D,
    _L.GlobalMaxPooling2D,
    _L.Flatten,
    _L.Reshape,
    _L.Permute,
    _L.Dropout,
    _L.SpatialDropout1D,
    _L.SpatialDropout2D,
    _L.GaussianDropout,
    _L.GaussianNoise,
    _L.AlphaDropout,
    _L.ActivityRegularization,
    _L.ZeroPadding1D,
    _L.ZeroPadding2D,
    _L.Cropping1D,
    _L.Cropping2D,
    AddHeight,
    DropHeight,
)
_FOLDED_ACTIVATIONS = ("relu", "relu6")
# keras3_hard_silu is the bridge's name of x * relu6(x + 3) / 6, LiteRT's HARD_SWISH.
_INTEGER_ACTIVATIONS = ("gelu", "leaky_relu", "swish", "silu", "keras3_hard_silu")
_FIXED_ACTIVATIONS = ("softmax", "sigmoid", "tanh")
_INTEGER_OPERATORS = (
    "__operators__.add",
    "math.add",
    "math.subtract",
    "math.multiply",
    "math.maximum",
    "math.minimum",
    "nn.relu",
    "nn.relu6",
)
_SAME_RANGE_OPERATORS = ("__operators__.getitem", "reshape", "transpose", "identity")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model is rounded.

    Attributes:
        kernels: Names of layers whose kernel is rounded.
        outputs: Names of layers whose output is rounded.
        roles: Role of each layer.
        reasons: Why a layer with role ``FLOAT`` is left in floating point.
    """

    kernels: frozenset[str]
    outputs: frozenset[str]
    roles: Mapping[str, Role]
    reasons: Mapping[str, str]


def place(model: Model, *, skip: Sequence[str] = ()) -> Placement:
    """Return where a flat model with split activations is rounded.

    Args:
        model: As ``canonical.canonical`` makes it.
        skip: Patterns of layer names left in floating point.
    """
    layers = {layer.name: layer for layer in graph.layers_of(model)}
    sources = graph.producers_of(model)
    readers = graph.consumers_of(model)
    roles: dict[str, Role] = {}
    reasons: dict[str, str] = {}
    for name, layer in layers.items():
        roles[name], reason = _role(layer, sources[name], layers, roles, readers)
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in skip):
            roles[name], reason = Role.FLOAT, "left out by skip"
        if roles[name] is Role.FLOAT:
            reasons[name] = reason
    for name, layer in layers.items():
        reader = readers[name][0] if readers[name] else ""
        if is_identity(layer) and _is_float_normalization(reader, layers, roles):
            roles[name], reasons[name] = Role.FLOAT, reasons[reader]
    for name in _islands(layers, roles, sources, readers):
        roles[name] = Role.FLOAT
        reasons[name] = "lies between layers that stay float, where rounding gains nothing"
    outputs = {
        name for name in layers if _is_rounded(name, layers=layers, roles=roles, readers=readers)
    }
    return Placement(
        kernels=frozenset(name for name, role in roles.items() if role is Role.KERNEL),
        outputs=frozenset(outputs),
        roles=roles,
        reasons=reasons,
    )


def _is_float_normalization(
    name: str, layers: Mapping[str, Layer], roles: Mapping[str, Role]
) -> bool:
    return roles.get(name) is Role.FLOAT and type(layers[name]) is _L.BatchNormalization


def _islands(
    layers: Mapping[str, Layer],
    roles: Mapping[str, Role],
    sources: Mapping[str, Sequence[str]],
    readers: Mapping[str, Sequence[str]],
) -> set[str]:
    """Return the operators on integers that no chain of such operators ties to a kernel.

    Rounding there costs accuracy and saves no bytes; before a square root or a logarithm
    it can even round to zero, whose gradient is infinite.
    """
    passing = (Role.KERNEL, Role.FOLDED, Role.INTEGER, Role.FIXED, Role.SAME_RANGE)
    edge = [
        name for name, role in roles.items() if role is Role.KERNEL and not is_scale(layers[name])
    ]
    tied = set(edge)
    while edge:
        name = edge.pop()
        for other in (*sources[name], *readers[name]):
            if other not in tied and roles.get(other) in passing:
                tied.add(other)
                edge.append(other)
    return {
        name
        for name, role in roles.items()
        if role in passing and role is not Role.SAME_RANGE and name not in tied
    }


def _role(
    layer: Layer,
    sources: Sequence[str],
    layers: Mapping[str, Layer],
    roles: Mapping[str, Role],
    readers: Mapping[str, Sequence[str]],
) -> tuple[Role, str]:
    """Return a layer's role, given those of the layers before it, and why if it is float."""
    kind = type(layer)
    if kind is _L.InputLayer:
        return Role.INPUT, ""
    if not _is_float(layer):
        return Role.INDICES, ""
    if kind in KERNEL_LAYERS:
        return Role.KERNEL, ""
    # What can be folded is read by nobody else before, in every call of a shared layer.
    alone = readers[sources[0]] == [layer.name] * len(sources)
    before, before_role = layers[sources[0]], roles[sources[0]]
    if kind is _L.BatchNormalization:
        if alone and type(before) in NORMALIZED and before_role is Role.KERNEL:
            if is_over_channels(layer):
                return Role.FOLDED, ""
            return Role.FLOAT, "batch normalization over another axis than the last"
        return Role.FLOAT, "LiteRT folds batch normalization only into a convolution before it"
    if (
        _activation_name(layer) in _FOLDED_ACTIVATIONS
        and alone
        and _takes_relu(before, before_role)
    ):
        return Role.FOLDED, ""
    return _role_by_kind(layer)


def _role_by_kind(layer: Layer) -> tuple[Role, str]:
    kind, activation, operator = type(layer), _activation_name(layer), _operator(layer)
    if activation in _FIXED_ACTIVATIONS:
        return Role.FIXED, ""
    if kind in _SAME_RANGE_LAYERS or activation == "linear" or operator in _SAME_RANGE_OPERATORS:
        return Role.SAME_RANGE, ""
    if (
        kind in _INTEGER_LAYERS
        or f"{kind.__module__}.{kind.__qualname__}" in _INTEGER_LAYERS_OF_THE_BRIDGE
        or activation in (*_FOLDED_ACTIVATIONS, *_INTEGER_ACTIVATIONS)
        or operator in _INTEGER_OPERATORS
    ):
        return Role.INTEGER, ""
    if kind in AFFINE:
        return Role.FLOAT, reason_against(layer)
    what = f"layer type {kind.__name__}"
    if kind is _L.ReLU:
        what = "a ReLU with a slope, a threshold or a limit other than 6"
    if operator:
        what = f"operator tf.{operator}"
    elif activation:
        what = f"activation {activation!r}"
    return Role.FLOAT, f"{what} has no 8-bit training rule"


def _takes_relu(before: Layer, role: Role) -> bool:
    """Return whether the integer kernel of ``before`` applies a ReLU by itself."""
    if type(before) is _L.Conv2DTranspose or role not in (Role.KERNEL, Role.FOLDED, Role.INTEGER):
        return False
    return type(before) in (*KERNEL_LAYERS, _L.BatchNormalization, _L.Add)


def _is_rounded(
    name: str,
    *,
    layers: Mapping[str, Layer],
    roles: Mapping[str, Role],
    readers: Mapping[str, Sequence[str]],
) -> bool:
    role = roles[name]
    if role in (Role.FIXED, Role.SAME_RANGE, Role.INDICES):
        return False
    if role in (Role.INPUT, Role.FLOAT):
        return _is_float(layers[name]) and _feeds_integers(name, roles, readers, set())
    if len(set(readers[name])) == 1 and (reader := readers[name][0]) != "<output>":
        # The range belongs behind what is folded in, and a concatenation imposes its own.
        return roles[reader] is not Role.FOLDED and not (
            type(layers[reader]) is _L.Concatenate and roles[reader] is Role.INTEGER
        )
    return True


def _feeds_integers(
    name: str,
    roles: Mapping[str, Role],
    readers: Mapping[str, Sequence[str]],
    seen: Collection[str],
) -> bool:
    for reader in readers[name]:
        if reader == "<output>" or reader in seen:
            continue
        if roles[reader] in (Role.KERNEL, Role.INTEGER, Role.FIXED):
            return True
        if roles[reader] is Role.SAME_RANGE and _feeds_integers(
            reader, roles, readers, {*seen, reader}
        ):
            return True
    return False


def _is_float(layer: Layer) -> bool:
    return any(tensor.dtype.is_floating for tensor in tf.nest.flatten(layer.get_output_at(0)))


def _activation_name(layer: Layer) -> str | None:
    """Return the name of what an activation layer computes; None for other layers."""
    if type(layer) is _L.Activation:
        return getattr(layer.activation, "__name__", type(layer.activation).__name__)
    if type(layer) is _L.Softmax:
        return "softmax"
    if type(layer) is _L.ReLU:
        plain = not layer.negative_slope and not layer.threshold
        if plain and layer.max_value is None:
            return "relu"
        return "relu6" if plain and layer.max_value == 6 else None
    return None


def _operator(layer: Layer) -> str:
    """Return the name of a TensorFlow function used as a layer, such as ``math.multiply``."""
    symbol = getattr(layer, "symbol", None)
    return symbol if isinstance(symbol, str) else ""
