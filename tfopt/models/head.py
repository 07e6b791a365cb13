"""Take the head off a model and put a new one on."""

from __future__ import annotations

from typing import Any

from tfopt.config.head import AUTO, Head
from tfopt.errors import ModelError
from tfopt.keras2.core import Model, is_graph, keras
from tfopt.models.shapes import outputs
from tfopt.registry import did_you_mean

NAME = "head"
_POOLING = "Pooling"
_RANK_OF_VECTORS = 2
_POOLS = {
    ("average", 3): keras.layers.GlobalAveragePooling1D,
    ("average", 4): keras.layers.GlobalAveragePooling2D,
    ("average", 5): keras.layers.GlobalAveragePooling3D,
    ("max", 3): keras.layers.GlobalMaxPooling1D,
    ("max", 4): keras.layers.GlobalMaxPooling2D,
    ("max", 5): keras.layers.GlobalMaxPooling3D,
}


def with_head(model: Model, settings: Head, *, classes: int | None) -> Model:
    """Return the model with a new head, on the layers it has.

    Args:
        model: A built model with one output; its layers are shared.
        settings: The ``head`` section.
        classes: Classes of the data; None for numbers.

    Raises:
        ModelError: If the layer to remove is not there, or no head can be told from the rest.
    """
    features = _features(model, settings.remove)
    x = features
    if x.shape.rank > _RANK_OF_VECTORS:
        pool = _POOLS.get((settings.pooling, x.shape.rank), keras.layers.Flatten)
        x = pool(name=_free_name(model, f"{NAME}_pool"))(x)
    if settings.dropout:
        x = keras.layers.Dropout(settings.dropout, name=_free_name(model, f"{NAME}_dropout"))(x)
    units = outputs(classes, builder="model.head") if settings.classes == AUTO else settings.classes
    x = keras.layers.Dense(units, name=_free_name(model, NAME))(x)
    inputs = model._nested_inputs
    return keras.Model(inputs, x, name=model.name)


def _features(model: Model, remove: str) -> Any:
    if remove != AUTO:
        return _before(model, remove)
    if len(model.outputs) != 1:
        raise ModelError(
            f"model.head: {model.name!r} has {len(model.outputs)} outputs. Name the first layer to "
            "take off as model.head.remove."
        )
    tensor = model.outputs[0]
    if tensor.shape.rank > _RANK_OF_VECTORS:
        return tensor
    while not _is_end(tensor):
        sources = _sources(tensor)
        if len(sources) != 1:
            raise ModelError(
                f"model.head: {model.name!r} has no pooling or flattening in front of its output. "
                "Name the first layer to take off as model.head.remove. Layers: "
                f"{', '.join(layer.name for layer in model.layers)}."
            )
        tensor = sources[0]
    return tensor


def _before(model: Model, name: str) -> Any:
    """Return the tensor that a layer reads."""
    names = [layer.name for layer in model.layers]
    if name not in names:
        raise ModelError(
            f"model.head.remove: {model.name!r} has no layer {name!r}.{did_you_mean(name, names)} "
            f"Layers: {', '.join(names)}."
        )
    sources = model.get_layer(name)._inbound_nodes[-1].keras_inputs
    if len(sources) != 1 or model.get_layer(name)._inbound_nodes[-1].is_input:
        raise ModelError(
            f"model.head.remove: layer {name!r} reads {len(sources)} tensors, and the new head "
            "takes one. Name a layer further down or up."
        )
    return sources[0]


def _is_end(tensor: Any) -> bool:
    """Return whether features end here: at a pooling, a flattening, or a model inside."""
    layer = tensor._keras_history.layer
    is_pooling = _POOLING in type(layer).__name__ or isinstance(layer, keras.layers.Flatten)
    return is_pooling or is_graph(layer)


def _sources(tensor: Any) -> list[Any]:
    history = tensor._keras_history
    node = history.layer._inbound_nodes[history.node_index]
    return [] if node.is_input else list(node.keras_inputs)


def _free_name(model: Model, name: str) -> str:
    taken = {layer.name for layer in model._flatten_layers()}
    while name in taken:
        name = f"new_{name}"
    return name
