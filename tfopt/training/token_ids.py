"""Check that integer inputs are rows that the model's embeddings have."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfopt.data.arrays import ArraySplit
from tfopt.data.split import Split
from tfopt.data.tokens import TokenSplit
from tfopt.errors import DataError
from tfopt.legacy_keras import Model, keras


def require_known_ids(model: Model, split: Split, *, what: str) -> None:
    """Raise if an input holds a number that its embedding has no row for.

    TensorFlow gathers zeros for such numbers on some devices, and fails in the middle of
    training on others. Embeddings that stand right behind an input are looked at, on data
    that is in memory.

    Args:
        model: A built model.
        split: The examples.
        what: How the message names them.

    Raises:
        DataError: Naming the input, the number and the embedding.
    """
    if not isinstance(split, ArraySplit):
        return
    for position, layer in _embeddings(model):
        name = model.inputs[position]._keras_history.layer.name
        inputs = split.inputs
        array = inputs[name] if isinstance(inputs, dict) else tf.nest.flatten(inputs)[position]
        if array.min() >= 0 and array.max() < layer.input_dim:
            continue
        bad = array.min() if array.min() < 0 else array.max()
        hint = ""
        if isinstance(split, TokenSplit):
            hint = " Set data.text.tokenizer to the one that the model was made for."
        raise DataError(
            f"The {what} holds {bad} in input {name!r}, but the embedding {layer.name!r} of model "
            f"{model.name!r} has rows 0 to {layer.input_dim - 1}.{hint}"
        )


def require_free_length(model: Model, split: Split, *, what: str) -> None:
    """Raise if training batches differ in length, and the model takes one length only.

    Raises:
        DataError: Naming the input and its length.
    """
    if not isinstance(split, TokenSplit) or not split.is_bucketed:
        return
    for tensor in model.inputs:
        length = tensor.shape[1] if tensor.shape.rank > 1 else None
        if length is not None:
            raise DataError(
                f"The {what} comes in batches of different lengths, but input "
                f"{tensor._keras_history.layer.name!r} of model {model.name!r} takes rows of "
                f"{length} alone. Set data.text: {{padding: max, max_tokens: {length}}}, or build "
                "the model for the input_shape that the data gives."
            )


def require_known_positions(model: Model, split: Split, *, what: str) -> None:
    """Raise if texts may be longer than the table of positions of a transformer.

    A model that takes rows of one length was checked when it was built.

    Raises:
        DataError: With both lengths.
    """
    layers = {layer.name: layer for layer in model.layers}
    table = layers.get("position_embeddings")
    if not isinstance(split, TokenSplit) or not isinstance(table, keras.layers.Embedding):
        return
    shift = layers.get("position_rows")  # RoBERTa's positions begin at 2
    first = int(shift._inbound_nodes[0].call_args[1]) if shift is not None else 0
    longest = table.input_dim - first
    if split.max_tokens > longest:
        raise DataError(
            f"The {what} has up to {split.max_tokens} tokens in a row, but model {model.name!r} "
            f"has {longest} positions. Set data.text.max_tokens: {longest} or less."
        )


def _embeddings(model: Model) -> list[tuple[int, Any]]:
    """Return each embedding that an input goes straight into, with the input's position."""
    places = {id(tensor): position for position, tensor in enumerate(model.inputs)}
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Embedding):
            fed = [tensor for node in layer._inbound_nodes for tensor in node.keras_inputs]
            found += [(places[id(t)], layer) for t in fed if id(t) in places]
    return found
