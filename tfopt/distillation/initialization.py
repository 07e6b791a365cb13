"""Give a student the weights of a teacher's layers that are like its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tfopt.errors import InputError
from tfopt.keras2.core import Layer, Model
from tfopt.registry import did_you_mean
from tfopt.results import LayerDecision

_BLOCK = re.compile(r"layer_(\d+)_(.+)")


def like_teacher(
    student: Model, teacher: Model, *, blocks: Sequence[int] = (), copy: bool = True
) -> list[LayerDecision]:
    """Copy the weights of every layer that has the same name and shapes in the teacher.

    Args:
        student: A flat model; changed in place.
        teacher: A flat model.
        blocks: Which block of the teacher each block of the student takes after: block k,
            whose layers are named ``layer_{k}_...``, takes ``layer_{blocks[k]}_...``.
            Blocks keep their numbers without it.
        copy: Whether to change the student, or only to say what would be done.

    Returns:
        For each of the student's layers with weights, whether it was copied or why not.

    Raises:
        InputError: If the teacher has no such block, or no layer fits.
    """
    theirs = {layer.name: layer for layer in teacher.layers if layer.weights}
    decisions = []
    for layer in student.layers:
        if not layer.weights:
            continue
        name = _source_name(layer.name, blocks)
        source = theirs.get(name)
        if source is None and name != layer.name:
            raise InputError(
                f"The student's layer {layer.name!r} is to start as {name!r}, which the teacher "
                f"{teacher.name!r} does not have.{did_you_mean(name, theirs)} Change "
                "student.arguments.layers, or set initialize: fresh."
            )
        reason = _why_not(layer, source, teacher.name)
        if not reason and source is not None:
            if copy:
                layer.set_weights(source.get_weights())
            reason = "starts as in the teacher" + (f": {name}" if name != layer.name else "")
            decisions.append(_decision(layer, reason, copied=True))
        else:
            decisions.append(_decision(layer, f"starts fresh: {reason}", copied=False))
    if not any(entry.values["copied_parameters"] for entry in decisions):
        raise InputError(
            f"The student {student.name!r} shares no layer with the teacher {teacher.name!r}: none "
            "has the same name and shapes. Set initialize: fresh, or name its layers as the "
            f"teacher's: {', '.join(theirs)}."
        )
    return decisions


def fresh(student: Model) -> list[LayerDecision]:
    """Return, for each layer with weights of a flat model, that it starts as it was made."""
    layers = [layer for layer in student.layers if layer.weights]
    return [_decision(layer, "starts as it was built or loaded", copied=False) for layer in layers]


def _decision(layer: Layer, reason: str, *, copied: bool) -> LayerDecision:
    is_trained = bool(layer.trainable_weights)
    return LayerDecision(
        layer=layer.name,
        kind=type(layer).__name__,
        done=is_trained,
        reason=reason if is_trained else f"{reason}; frozen, so it is not trained",
        values={
            "parameters": layer.count_params(),
            "copied_parameters": layer.count_params() if copied else 0,
        },
    )


def _source_name(name: str, blocks: Sequence[int]) -> str:
    found = _BLOCK.fullmatch(name)
    if found is None or int(found[1]) >= len(blocks):
        return name
    return f"layer_{blocks[int(found[1])]}_{found[2]}"


def _why_not(layer: Layer, source: Any, teacher: str) -> str:
    if source is None:
        return f"{teacher!r} has no layer of this name"
    own, other = _shapes(layer), _shapes(source)
    if own != other:
        return f"its weights are {_text(own)}, those of {teacher!r} {_text(other)}"
    return ""


def _shapes(layer: Layer) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]


def _text(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join("x".join(map(str, shape)) or "a number" for shape in shapes)
