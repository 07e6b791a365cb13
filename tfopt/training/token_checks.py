"""Check that integer inputs are rows that the model's embeddings have."""

from __future__ import annotations

import tensorflow as tf

from tfopt.data.arrays import ArraySplit
from tfopt.data.split import Split
from tfopt.data.text.batches import TokenSplit
from tfopt.errors import DataError
from tfopt.keras2.core import Model, keras
from tfopt.keras2.embeddings import tables_of


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
    names = [tensor._keras_history.layer.name for tensor in model.inputs]
    for name, layer in ((name, layer) for name, some in tables_of(model).items() for layer in some):
        inputs = split.inputs
        is_named = isinstance(inputs, dict)
        array = inputs[name] if is_named else tf.nest.flatten(inputs)[names.index(name)]
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
    for name, length in fixed_lengths(model).items():
        raise DataError(
            f"The {what} comes in batches of different lengths, but input {name!r} of model "
            f"{model.name!r} takes rows of {length} alone. Set data.text: {{padding: max, "
            f"max_tokens: {length}}}, or build the model for the input_shape that the data gives."
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


def fixed_lengths(model: Model) -> dict[str, int]:
    """Return the inputs that take rows of one length only, by name."""
    return {
        tensor._keras_history.layer.name: tensor.shape[1]
        for tensor in model.inputs
        if tensor.shape.rank > 1 and tensor.shape[1] is not None
    }
