"""Keep what earlier steps made in layers that a step trains but does not change itself.

A pruned LSTM in a cluster step, or a clustered layer left out of a quantize step, would be
an ordinary layer there, and training would bring its zeros back and scatter its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tfopt.compression.kmeans import exact_sharing
from tfopt.compression.layers.masked import CUSTOM_OBJECTS as PRUNED_OBJECTS
from tfopt.compression.layers.masked import PrunedLayer, keeping_zeros
from tfopt.compression.layers.quantized import CUSTOM_OBJECTS as QUANTIZER_OBJECTS
from tfopt.compression.layers.quantized import KernelScheme, RangeLayer, SchemedLayer
from tfopt.compression.weight_statistics import (
    is_clustered,
    is_pruned,
    unique_values,
    zero_fraction,
)
from tfopt.errors import InputError, VerificationError
from tfopt.keras2 import graph
from tfopt.keras2.core import Layer, Model, keras, require_model
from tfopt.keras2.layer_copy import same_weights

Kernels = Mapping[str, npt.NDArray[np.floating]]

CUSTOM_OBJECTS: Mapping[str, Any] = {**PRUNED_OBJECTS, **QUANTIZER_OBJECTS}
"""Classes that a model in the middle of a prune or cluster step is saved with."""

SCHEMED_TYPES = (
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
    keras.layers.Embedding,
)
"""Layers whose kernels a ``SchemedLayer`` can replace."""


def holding(layer: Layer, kernels: Kernels) -> Layer:
    """Return an unbuilt layer, wrapped if its kernels hold zeros or values to keep.

    Args:
        layer: Copy of the layer, without weights.
        kernels: The kernels that it will be given, as ``measure.layer_kernels`` names them.
    """
    if not layer.trainable:
        return layer
    if type(layer) in SCHEMED_TYPES:
        scheme = {name: found for name, values in kernels.items() if (found := kept_in(values))}
        if scheme:
            return SchemedLayer(layer, KernelScheme(scheme), name_prefix="held_")
    elif any(is_pruned(values) for values in kernels.values()) and not takes_many_inputs(layer):
        return keeping_zeros(layer)
    return layer


def kept_in(kernel: npt.NDArray[np.floating]) -> dict[str, Any]:
    """Return the ``KernelQuantizer`` settings that keep a kernel's zeros and values, if any."""
    masked, clustered = is_pruned(kernel), is_clustered(kernel)
    if not (masked or clustered):
        return {}
    return {"bits": None, "masked": masked, "shared": clustered * unique_values(kernel)}


def takes_many_inputs(layer: Layer) -> bool:
    """Return whether a layer is called on several arguments, which no wrapper passes on."""
    return isinstance(layer, (keras.layers.MultiHeadAttention, keras.layers.Attention))


def give_weights(original: Layer, replacement: Any) -> None:
    """Copy the weights of a plain layer into whatever replaces it, masks and values too."""
    if not isinstance(replacement, SchemedLayer):
        same_weights(original, replacement)
        if isinstance(replacement, PrunedLayer):
            replacement.mask_present_zeros()
        return
    replacement.take_weights(original)
    for name, (kernel, quantizer, _) in replacement.kernels().items():
        if quantizer.shared:
            part = exact_sharing(kernel.numpy())
            replacement.share(name, part.values, part.indices)
    replacement.prepare()


def plain_layer(layer: Layer) -> Layer:
    """Return the layer inside a wrapper, or the layer itself."""
    if not isinstance(layer, (PrunedLayer, SchemedLayer)):
        return layer
    inner = layer.layer
    vars(inner).pop("get_prunable_weights", None)  # tfmot's mark on a layer
    return inner


def settle_weights(original: Layer, replacement: Layer) -> None:
    """Copy the weights out of a wrapper, kernels as the wrapper computes with them."""
    if isinstance(original, SchemedLayer):
        original.give_weights(replacement)
    elif isinstance(original, PrunedLayer):
        original.settle(replacement)
    else:
        same_weights(original, replacement)


def unwrapped(model: Model) -> Model:
    """Return a model with every wrapper of a prune or cluster step settled and removed."""
    with keras.utils.custom_object_scope(dict(CUSTOM_OBJECTS)):
        return graph.rebuild(model, plain_layer, move_weights=settle_weights)


def require_kept(before: Mapping[str, Kernels], after: Mapping[str, Kernels], *, step: str) -> None:
    """Raise unless pruned and clustered kernels still are.

    Args:
        before: Layer name to kernels before the step.
        after: The same after it.
        step: Name of the step, for the message.

    Raises:
        VerificationError: With the layer that lost zeros or shared values.
    """
    for layer, kernels in before.items():
        for name, values in kernels.items():
            now = after[layer][name].reshape(values.shape)
            if is_pruned(values) and np.any(now[values == 0]):
                raise VerificationError(
                    f"{step}: layer {layer!r} lost zeros: {zero_fraction({name: values}):.4f} "
                    f"before, {zero_fraction({name: now}):.4f} after."
                )
            if is_clustered(values) and unique_values(now) > unique_values(values):
                raise VerificationError(
                    f"{step}: layer {layer!r} lost its shared values: {unique_values(values)} "
                    f"before, {unique_values(now)} after."
                )
            if np.any(values) and not np.any(now):
                raise VerificationError(f"{step}: every weight of layer {layer!r} became zero.")


def require_unwrapped(model: Model, *, step: str) -> None:
    """Raise if a model is in the middle of a step, or already emulates 8-bit arithmetic.

    Raises:
        InputError: With what was found.
        ModelError: If it is not a Functional or Sequential tf_keras model.
    """
    for layer in require_model(model)._flatten_layers():
        if isinstance(layer, RangeLayer):
            raise InputError(
                f"{step}: {model.name!r} already emulates 8-bit arithmetic; start from the model "
                "that it was made from."
            )
        if isinstance(layer, (PrunedLayer, SchemedLayer)):
            raise InputError(
                f"{step}: {model.name!r} is in the middle of another step ({layer.name!r}); finish "
                "that step first."
            )


def flat_copy(model: Model, *, step: str) -> Model:
    """Return a flat copy of a model that is in the middle of no step.

    Raises:
        InputError: If it is.
        ModelError: If it cannot be copied.
    """
    require_unwrapped(model, step=step)
    return graph.copy(model)
