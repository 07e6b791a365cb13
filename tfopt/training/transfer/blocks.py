"""The head of a flat model, and the blocks below it, counted from the head down."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np

from tfopt.compression.base import matching, require_matches
from tfopt.errors import InputError
from tfopt.keras2 import graph
from tfopt.keras2.core import Layer, Model, keras

MOST_DEPTH_BLOCKS = 12
"""Blocks of a model without block numbers, as in ConvNeXt's fine-tuning (arXiv:2201.03545)."""

_BLOCK = re.compile(r"(?:^|_)layer_(\d+)_")
_POOLED = "pooled"
_COLLAPSES = (
    keras.layers.Flatten,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling3D,
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.GlobalMaxPooling3D,
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.AveragePooling3D,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
)


def weighted_layers(model: Model) -> list[Layer]:
    """Return the layers of a flat model that have weights, in the order they run."""
    return [layer for layer in graph.layers_of(model) if layer.weights]


def head_of(model: Model, patterns: Sequence[str] | None) -> frozenset[str]:
    """Return the names of the layers with weights in the head.

    Args:
        model: A flat model.
        patterns: Patterns of their names; None takes what lies between the last pooling
            or flattening (or a layer named ``pooled``) and the outputs.

    Raises:
        InputError: If a pattern matches nothing, no head is found, or nothing is below it.
    """
    names = [layer.name for layer in weighted_layers(model)]
    if patterns is not None:
        require_matches(patterns, names, setting="transfer.head")
        found = {name for pattern in patterns for name in matching(names, pattern)}
    else:
        found = _after_last_pooling(model) & set(names)
    if not found or len(found) == len(names):
        what = "no layer with weights" if not found else "every layer with weights"
        raise InputError(
            f"transfer.head: {what} of model {model.name!r} is part of the head, which ends at "
            "the last pooling or flattening. Give the patterns of its layers as transfer.head. "
            f"Layers: {', '.join(names) or 'none'}."
        )
    return frozenset(found)


def blocks_below(model: Model, head: Collection[str]) -> dict[str, int]:
    """Return each layer's block: 0 is the head, 1 the block below it, and so on.

    Blocks are those of a transformer with names ``layer_{i}_...``, the embeddings below as
    one more; or else kernels in the order they run, cut into at most ``MOST_DEPTH_BLOCKS``
    equal runs, each with the norms that follow.

    Args:
        model: A flat model.
        head: Names of the head's layers.
    """
    body = [layer for layer in weighted_layers(model) if layer.name not in head]
    levels = _numbered(body) or _by_depth(body)
    top = max(levels.values(), default=0)
    return dict.fromkeys(head, 0) | {name: top - level + 1 for name, level in levels.items()}


def _numbered(body: Sequence[Layer]) -> dict[str, int]:
    """Return levels from the bottom by block number; empty if no layer has one.

    What follows the last block, such as a final norm, counts as part of it.
    """
    numbers = [int(m[1]) if (m := _BLOCK.search(layer.name)) else None for layer in body]
    known = [number for number in numbers if number is not None]
    if not known:
        return {}
    last = max(place for place, number in enumerate(numbers) if number is not None)
    return {
        layer.name: (max(known) + 1 if place > last else 0) if number is None else number + 1
        for place, (layer, number) in enumerate(zip(body, numbers, strict=True))
    }


def _by_depth(body: Sequence[Layer]) -> dict[str, int]:
    starters = [layer.name for layer in body if graph.kernels_of(layer)]
    runs = np.array_split(starters, min(MOST_DEPTH_BLOCKS, max(1, len(starters))))
    level_of = {str(name): level for level, run in enumerate(runs) for name in run}
    levels: dict[str, int] = {}
    current = 0
    for layer in body:
        current = level_of.get(layer.name, current)
        levels[layer.name] = current
    return levels


def _after_last_pooling(model: Model) -> set[str]:
    """Return the layers from the outputs back to a pooling; nothing if there is none."""
    producers = graph.producers_of(model)
    layers = {layer.name: layer for layer in graph.layers_of(model)}
    found: set[str] = set()
    has_ended = False
    waiting = [tensor._keras_history.layer.name for tensor in model.outputs]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        if isinstance(layers[name], _COLLAPSES) or name == _POOLED:
            has_ended = True
            continue
        found.add(name)
        waiting += producers[name]
    return found if has_ended else set()
