"""Refuse a student and a teacher that read the same token numbers as different words."""

from __future__ import annotations

from typing import Any

from tfopt.errors import ModelError
from tfopt.legacy_keras import Model, keras, nodes_of


def require_same_vocabulary(student: Model, teacher: Model) -> None:
    """Raise if both look up the same input in tables of different length.

    Token 7 of one tokenizer is not token 7 of another, so teacher and student would read
    different texts. Equal lengths prove nothing; unequal ones are a mistake.

    Args:
        student: A flat model.
        teacher: A flat model.

    Raises:
        ModelError: Naming the input and both tables.
    """
    theirs = _tables(teacher)
    for name, (layer, words) in _tables(student).items():
        other, count = theirs.get(name, (layer, words))
        if count != words:
            raise ModelError(
                f"Student and teacher both read {name!r}, but the student's table {layer!r} has "
                f"{words:,} tokens and the teacher's {other!r} {count:,}. They come from different "
                "tokenizers, so the same numbers are different words to them. Give the student "
                "the teacher's tokenizer, or distil in Python from a function that tokenizes for "
                "the teacher: tfopt.Distiller(student, teacher=function)."
            )


def _tables(model: Model) -> dict[str, tuple[str, int]]:
    """Return the table that each input is looked up in: input name to layer and length."""
    found: dict[str, tuple[str, int]] = {}
    for node in nodes_of(model):
        size: Any = getattr(node.layer, "input_dim", None)
        for tensor in node.keras_inputs:
            source = tensor._keras_history.layer
            if isinstance(source, keras.layers.InputLayer) and isinstance(size, int):
                found[source.name] = (node.layer.name, size)
    return found
