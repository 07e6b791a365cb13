"""KerasHub's embeddings of tokens and positions, and the head that reads them backwards."""

from __future__ import annotations

from itertools import chain
from typing import Any

from tfopt.bridge.to_tf_keras.blocks.base import (
    BlockParts,
    Undecomposable,
    call_arguments,
    precision,
    require_calls,
)
from tfopt.bridge.to_tf_keras.blocks.embedding_layers import (
    Bias,
    GatherPositions,
    PositionTable,
    ReversibleEmbedding,
)
from tfopt.bridge.to_tf_keras.layer_config import NoTwin, twin_settings
from tfopt.bridge.to_tf_keras.twin import Names, Twin
from tfopt.keras2.core import Layer, keras

_REVERSE_SETTINGS = ("tie_weights", "reverse_dtype", "logit_soft_cap")


def reversed_embeddings(model: Any) -> frozenset[int]:
    """Return the ids of the embeddings that a Keras 3 model calls in reverse.

    Args:
        model: A Functional or Sequential model.
    """
    found: set[int] = set()
    for layer in [model, *model._flatten_layers(include_self=False)]:
        if type(layer).__name__ == "MaskedLMHead" and layer.token_embedding is not None:
            found.add(id(layer.token_embedding))
        for node in chain.from_iterable(getattr(layer, "_nodes_by_depth", {}).values()):
            if node.arguments.kwargs.get("reverse"):
                found.add(id(node.operation))
    return frozenset(found)


def reversible_embedding(layer: Any, names: Names) -> Twin:
    """Turn a ReversibleEmbedding into an Embedding, or ours if it is called in reverse.

    Args:
        layer: A built layer of Keras 3.15 or KerasHub.
        names: The names in use.

    Raises:
        Undecomposable: If a setting cannot be followed.
    """
    takes = {"inputs", "reverse"}
    require_calls(layer, takes)
    parts = BlockParts(layer, names)
    table = _table(layer, parts, "")

    def call(*args: Any, **kwargs: Any) -> Any:
        given = call_arguments(layer, args, kwargs, takes=takes)
        if given.get("reverse"):
            return table(given["inputs"], reverse=True)
        return table(given["inputs"])

    return parts.twin_called(call)


def position_embedding(layer: Any, names: Names) -> Twin:
    """Turn ``keras_hub.layers.PositionEmbedding`` into a PositionTable.

    Args:
        layer: A built layer, called on sequences that begin at position 0.
        names: The names in use.

    Raises:
        Undecomposable: If a call argument cannot be followed.
    """
    require_calls(layer, {"inputs"})
    parts = BlockParts(layer, names)
    positions = _positions(layer, parts, "")

    def call(*args: Any, **kwargs: Any) -> Any:
        return positions(call_arguments(layer, args, kwargs, takes={"inputs"})["inputs"])

    return parts.twin_called(call)


def token_and_position_embedding(layer: Any, names: Names) -> Twin:
    """Turn ``keras_hub.layers.TokenAndPositionEmbedding`` into two tables and a sum.

    Args:
        layer: A built layer, called on sequences that begin at position 0.
        names: The names in use.

    Raises:
        Undecomposable: If a setting or a call argument cannot be followed.
    """
    require_calls(layer, {"inputs"})
    parts = BlockParts(layer, names)
    table = _table(layer.token_embedding, parts, "tokens")
    positions = _positions(layer.position_embedding, parts, "positions")
    add = parts.add("add", like=layer)

    def call(*args: Any, **kwargs: Any) -> Any:
        tokens = table(call_arguments(layer, args, kwargs, takes={"inputs"})["inputs"])
        return add([tokens, positions(tokens)])

    return parts.twin_called(call)


def masked_lm_head(layer: Any, names: Names) -> Twin:
    """Turn ``keras_hub.layers.MaskedLMHead`` into plain layers, its table tied as before.

    Args:
        layer: A built layer of one precision.
        names: The names in use.

    Raises:
        Undecomposable: If a setting or a call argument cannot be followed.
    """
    takes = {"inputs", "mask_positions"}
    require_calls(layer, takes)
    dtype = precision(layer)
    if dtype.startswith("mixed_"):
        # The layer casts nothing on its way in, unlike its parts; see autocast=False in it.
        raise Undecomposable(f"it mixes precisions ({dtype})")
    parts = BlockParts(layer, names)
    gather = GatherPositions(name=parts.name("gather"), dtype=dtype)
    intermediate = parts.dense(layer._intermediate_dense, "intermediate")
    norm = parts.norm(layer._intermediate_layer_norm, "norm")
    activation = parts.activation(layer, "output")
    if layer.token_embedding is None:
        output = _untied_output(layer, parts)
    else:
        output = _tied_output(layer, parts)

    def call(*args: Any, **kwargs: Any) -> Any:
        given = call_arguments(layer, args, kwargs, takes=takes)
        x = gather([given["inputs"], given["mask_positions"]])
        return activation(output(norm(intermediate(x))))

    return parts.twin_called(call)


def _untied_output(layer: Any, parts: BlockParts) -> Any:
    output = keras.layers.Dense(
        layer.vocabulary_size,
        name=parts.name("output"),
        dtype=precision(layer),
        trainable=layer.trainable,
    )
    parts.link(layer, output, "_kernel", held_as="kernel")
    parts.link(layer, output, "_bias", held_as="bias")
    return output


def _tied_output(layer: Any, parts: BlockParts) -> Any:
    table = _table(layer.token_embedding, parts, "tokens", is_reversed=True)
    bias = Bias(name=parts.name("output_bias"), dtype=precision(layer), trainable=layer.trainable)
    parts.link(layer, bias, "_bias", held_as="bias")
    return lambda x: bias(table(x, reverse=True))


def _table(layer: Any, parts: BlockParts, part: str, *, is_reversed: bool = False) -> Layer:
    """Return the one tf_keras layer that holds the table of an embedding.

    Raises:
        Undecomposable: If a setting cannot be followed, or the table is made already and
            cannot be read in reverse.
    """
    owners = parts.names.owners
    if id(layer) in owners:
        parts.linked_elsewhere(layer)
        table = owners[id(layer)]
        if is_reversed and not isinstance(table, ReversibleEmbedding):
            raise Undecomposable(f"its table {layer.name!r} is an Embedding, which has no way back")
        return table
    try:
        settings = {**twin_settings(layer, ReversibleEmbedding), "name": parts.name(part)}
    except NoTwin as reason:
        raise Undecomposable(str(reason)) from reason
    known = parts.names.reversed_embeddings
    if is_reversed or known is None or id(layer) in known or not layer.tie_weights:
        table = ReversibleEmbedding.from_config(settings)
    else:
        plain = {key: settings[key] for key in settings if key not in _REVERSE_SETTINGS}
        table = keras.layers.Embedding.from_config(plain)
    parts.link(layer, table, "embeddings")
    if not layer.tie_weights:
        parts.link(layer, table, "reverse_embeddings")
    owners[id(layer)] = table
    return table


def _positions(layer: Any, parts: BlockParts, part: str) -> PositionTable:
    table = PositionTable(
        layer.sequence_length,
        name=parts.name(part),
        dtype=precision(layer),
        trainable=layer.trainable,
    )
    parts.link(layer, table, "position_embeddings", held_as="embeddings")
    return table
