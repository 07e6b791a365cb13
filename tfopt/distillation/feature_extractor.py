"""Run a model once and look at tensors inside of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfopt.errors import ModelError
from tfopt.keras2.core import Model, keras
from tfopt.registry import did_you_mean


@dataclass(frozen=True, slots=True)
class Tapped:
    """What one forward pass gave.

    Attributes:
        raw: What the model itself returns.
        outputs: The same by output name.
        features: Inner tensors by the names they were asked for.
    """

    raw: Any
    outputs: Mapping[str, Any]
    features: Mapping[str, Any]


class Tap:
    """A model that also gives inner tensors, in the same forward pass.

    It shares every layer with the model, so batch normalization sees each batch once.

    Args:
        model: A tf_keras model; it is not changed.
        names: Layer names, ``layer:1`` for the second output of a layer. None are allowed
            for a subclassed model, whose inside cannot be seen.
        what: How messages name the model.

    Raises:
        ModelError: If a name is not there.
    """

    def __init__(self, model: Model, names: Sequence[str] = (), *, what: str = "model") -> None:
        self._model = model
        self._names = tuple(dict.fromkeys(names))
        self._run = model
        if self._names:
            tensors = [_tensor(model, name, what) for name in self._names]
            # Losses that were added to the model as tensors hang beside its outputs.
            path = keras.Model(model.input, [model.output, tensors])
            reached = {id(layer) for layer in path.layers}
            beside = [layer.output for layer in model.layers if id(layer) not in reached]
            self._run = keras.Model(model.input, [model.output, tensors, beside])

    def __call__(self, inputs: Any, *, training: bool) -> Tapped:
        """Return outputs and features of a batch."""
        if not self._names:
            raw = self._run(inputs, training=training)
            return Tapped(raw, named_outputs(self._model, raw), {})
        raw, features, *_ = self._run(inputs, training=training)
        return Tapped(
            raw, named_outputs(self._model, raw), dict(zip(self._names, features, strict=True))
        )


def named_outputs(model: Any, raw: Any) -> dict[str, Any]:
    """Return a model's outputs by name.

    Names are the keys of a dictionary, else the model's own output names, else ``0``, ``1``.

    Args:
        model: The model, or anything without output names.
        raw: A tensor, or a flat list, tuple or dictionary of tensors.

    Raises:
        ModelError: If outputs are nested deeper.
    """
    if isinstance(raw, Mapping):
        found = {str(name): tensor for name, tensor in raw.items()}
    else:
        flat = list(raw) if isinstance(raw, list | tuple) else [raw]
        names = getattr(model, "output_names", None) or []
        if len(names) != len(flat):
            names = ["output"] if len(flat) == 1 else [str(number) for number in range(len(flat))]
        found = dict(zip(names, flat, strict=True))
    if any(tf.nest.is_nested(tensor) for tensor in found.values()):
        raise ModelError(
            f"Outputs must be a tensor, or a flat list or dictionary of them. Received nested: "
            f"{sorted(found)}."
        )
    return found


def _tensor(model: Model, name: str, what: str) -> Any:
    if not getattr(model, "_is_graph_network", False):
        raise ModelError(
            f"The {what} {model.name!r} is a subclassed model, so its tensor {name!r} cannot be "
            "seen. Use losses on outputs only, or build it with the Functional API."
        )
    layer_name, _, number = name.partition(":")
    layers = {layer.name: layer for layer in model.layers}
    if layer_name not in layers:
        inner = [part.name for part in model.layers if isinstance(part, keras.Model)]
        nested = f" Layers inside of {inner} cannot be named." if inner else ""
        raise ModelError(
            f"The {what} {model.name!r} has no layer {layer_name!r}."
            f"{did_you_mean(layer_name, layers)}{nested} It has: {', '.join(layers)}."
        )
    layer = layers[layer_name]
    nodes = [node for node in layer.inbound_nodes if _is_inside(node, model)]
    if len(nodes) != 1:
        raise ModelError(
            f"Layer {layer_name!r} of the {what} {model.name!r} is called {len(nodes)} times, so "
            "its name is no single tensor. Name a layer that is called once."
        )
    outputs = tf.nest.flatten(nodes[0].outputs)
    if not (number or "0").isdigit() or int(number or 0) >= len(outputs):
        raise ModelError(
            f"Layer {layer_name!r} of the {what} {model.name!r} has {len(outputs)} output(s). "
            f"Received: {name!r}."
        )
    return outputs[int(number or 0)]


def _is_inside(node: Any, model: Model) -> bool:
    """Return whether a node belongs to this model; a layer may also serve in another."""
    return any(node in nodes for nodes in model._nodes_by_depth.values())
