"""Which embeddings of a model look up which of its inputs."""

from __future__ import annotations

from tfopt.keras2.core import Layer, Model, keras, nodes_of


def tables_of(model: Model) -> dict[str, list[Layer]]:
    """Return the embeddings that look up each integer input, by the input's name.

    An input goes straight into them, or through ``X_padded``, in which the encoders of
    ``models.transformers`` repeat the first token of input ``X`` where it is padded.

    Args:
        model: A Functional or Sequential model.
    """
    inputs = {tensor._keras_history.layer.name for tensor in model.inputs}
    found: dict[str, list[Layer]] = {}
    for node in nodes_of(model):
        if not isinstance(node.layer, keras.layers.Embedding):
            continue
        source = node.keras_inputs[0]._keras_history.layer.name
        name = source if source in inputs else source.removesuffix("_padded")
        if name in inputs:
            found.setdefault(name, []).append(node.layer)
    return found
