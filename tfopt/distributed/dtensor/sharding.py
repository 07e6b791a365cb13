"""Which weights DTensor divides over the devices of the model axis, and how tensors get there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorflow.experimental import dtensor

from tfopt.errors import ModelError
from tfopt.keras2.core import Layer, Model, keras

BATCH, MODEL = "batch", "model"

_NO_GENERATOR = "it draws random numbers, other ones on a mesh than on one device"
_NO_LAYOUT = "FusedBatchNormV3, with which it computes, has no layout in DTensor"
_REFUSED: Mapping[Any, str] = {
    keras.layers.BatchNormalization: _NO_LAYOUT,
    keras.layers.LayerNormalization: _NO_LAYOUT,
    keras.layers.DepthwiseConv2D: "the gradient of its kernel has no layout in DTensor",
    keras.layers.SeparableConv2D: "the gradient of its kernel has no layout in DTensor",
    keras.layers.Conv1D: "DTensor takes it with undivided channels only",
    keras.layers.MultiHeadAttention: _NO_GENERATOR,
    keras.layers.RNN: _NO_GENERATOR,
    keras.layers.Dropout: _NO_GENERATOR,
}
"""Measured on TensorFlow 2.21 with a mesh of 2 x 2 logical CPUs. The first step finds more."""


def require_divisible(model: Model) -> None:
    """Raise if DTensor cannot train a layer of the model.

    Raises:
        ModelError: Naming every such layer, and why.
    """
    reasons = {layer.name: reason for layer in model.layers if (reason := _reason(layer))}
    if reasons:
        text = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise ModelError(
            f"strategy.kind 'model_parallel' cannot train model {model.name!r} on this version of "
            f"TensorFlow: {text}. Leave these layers out, or choose another strategy."
        )


def divided_weights(model: Model, mesh: Any) -> dict[str, Any]:
    """Return the layouts of the weights that are divided, ``layer.attribute`` to layout.

    Outputs of Dense and Embedding layers are divided where their number allows it. All other
    weights are on every device: convolutions take whole filters only.
    """
    parts = mesh.dim_size(MODEL)
    rows = dtensor.Layout([dtensor.UNSHARDED, MODEL], mesh)
    found = {}
    for layer in model.layers:
        if type(layer) is keras.layers.Dense and layer.units % parts == 0:
            found[f"{layer.name}.kernel"] = rows
            found[f"{layer.name}.bias"] = dtensor.Layout([MODEL], mesh)
        if type(layer) is keras.layers.Embedding and layer.output_dim % parts == 0:
            found[f"{layer.name}.embeddings"] = rows
    return found


def spread_rows(value: Any, mesh: Any) -> Any:
    """Return a tensor whose rows are divided over the batch axis."""
    rest = [dtensor.UNSHARDED] * (value.shape.rank - 1)
    return dtensor.relayout(on_all(value, mesh), dtensor.Layout([BATCH, *rest], mesh))


def on_all(value: Any, mesh: Any) -> Any:
    """Return a tensor that is whole on every device."""
    return dtensor.copy_to_mesh(value, dtensor.Layout.replicated(mesh, rank=value.shape.rank))


def whole(value: Any, mesh: Any) -> npt.NDArray[Any]:
    """Return the array that a tensor or variable of DTensor stands for."""
    tensor = value.read_value() if hasattr(value, "read_value") else value
    layout = dtensor.Layout.replicated(mesh, rank=tensor.shape.rank)
    return np.asarray(dtensor.relayout(tensor, layout).numpy())


def bytes_by_device(variables: Sequence[Any]) -> list[int]:
    """Return how many bytes of the variables lie on each device, off their components."""
    parts = [dtensor.unpack(variable.read_value()) for variable in variables]
    return [sum(part.numpy().nbytes for part in on) for on in zip(*parts, strict=True)]


def _reason(layer: Layer) -> str:
    if isinstance(layer, keras.Model):
        return "it is a model of its own"
    for kind, reason in _REFUSED.items():
        if isinstance(layer, kind) and not (kind is keras.layers.Conv1D and layer.rank != 1):
            return reason
    if any(variable.constraint is not None for variable in layer.trainable_weights):
        return "its weights have a constraint"
    if layer.non_trainable_weights and layer.trainable:
        return "it has weights that change without a gradient"
    return ""
