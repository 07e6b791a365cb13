"""The layers that ``keras.applications`` defines for itself, as plain tf_keras layers.

They are no public classes, so tf_keras has no twins of them by name (Keras 3.15,
``keras/src/applications/convnext.py`` and ``inception_resnet_v2.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfopt.bridge.to_tf_keras.blocks.base import BlockParts, Undecomposable, precision
from tfopt.bridge.to_tf_keras.twin import Names, Rule, Twin
from tfopt.keras2.core import keras

_L = keras.layers


def layer_scale(layer: Any, names: Names) -> Twin:
    """Turn ``LayerScale`` of ConvNeXt into a depthwise convolution of 1x1, which is its maths.

    A product with one number for each channel runs on integers only in this form.

    Args:
        layer: A built layer.
        names: The names in use.

    Raises:
        Undecomposable: If it is not called on pictures.
    """
    if _ranks(layer) != {4}:
        raise Undecomposable("it is called on a tensor that is no picture")
    parts = BlockParts(layer, names)
    scale = _L.DepthwiseConv2D(
        1,
        use_bias=False,
        trainable=layer.trainable,
        name=parts.name(""),
        dtype=precision(layer),
    )
    parts.link(layer, scale, "gamma", held_as="depthwise_kernel")
    return parts.twin_called(scale)


def stochastic_depth(layer: Any, names: Names) -> Twin:
    """Turn ``StochasticDepth`` into dropout of whole examples.

    Args:
        layer: A built layer.
        names: The names in use.

    Raises:
        Undecomposable: If it drops every example, or none of its calls has a known rank.
    """
    ranks = _ranks(layer)
    if len(ranks) != 1 or not 0 <= layer.drop_path_rate < 1:
        raise Undecomposable("its rate or the rank of its input has no form as dropout")
    parts = BlockParts(layer, names)
    (rank,) = ranks
    dropout = _L.Dropout(
        layer.drop_path_rate,
        noise_shape=(None, *[1] * (rank - 1)),
        name=parts.name(""),
        dtype=precision(layer),
    )
    return parts.twin_called(dropout)


def scaled_residual(layer: Any, names: Names) -> Twin:
    """Turn ``CustomScaleLayer`` of InceptionResNetV2 into Rescaling and Add.

    Args:
        layer: A built layer.
        names: The names in use.
    """
    parts = BlockParts(layer, names)
    dtype = precision(layer)
    scale = _L.Rescaling(layer.scale, name=parts.name("scale"), dtype=dtype)
    add = _L.Add(name=parts.name(""), dtype=dtype)

    def call(inputs: Any) -> Any:
        shortcut, residual = inputs
        return add([shortcut, scale(residual)])

    return parts.twin_called(call)


def _ranks(layer: Any) -> set[int]:
    """Return the ranks of the tensors that a layer is called on."""
    return {len(tensor.shape) for node in layer._inbound_nodes for tensor in node.input_tensors}


RULES: Mapping[str, Rule] = {
    "keras.CustomScaleLayer": scaled_residual,
    "keras.LayerScale": layer_scale,
    "keras.StochasticDepth": stochastic_depth,
}
"""By the top package and the name of the class, as ``transformers.RULES``."""
