"""Read a Keras 3 graph: which calls its outputs need, in order, and who uses which layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfopt.bridge.keras3 import graph_of, is_graph
from tfopt.bridge.keras3 import keras as keras3
from tfopt.bridge.to_tf_keras.masks import Arguments, without_own_masks
from tfopt.errors import ModelError


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a layer or operation.

    Attributes:
        node: The node of the Keras 3 graph.
        given: Its arguments, without the masks that Keras attaches by itself.
    """

    node: Any
    given: Arguments


def nodes_of(model: Any) -> Sequence[Any]:
    """Return all nodes of a Keras 3 graph, inputs too, in the order they run.

    Args:
        model: A Functional or built Sequential Keras 3 model.
    """
    by_depth = graph_of(model)._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def calls_of(model: Any) -> Sequence[Call]:
    """Return the calls that the outputs of a graph need, in the order they run.

    Operations that only compute masks for Keras 3 are not among them.

    Args:
        model: A Functional or built Sequential Keras 3 model.

    Raises:
        ModelError: If an operation is called on the weight of another layer.
    """
    needed = {id(tensor) for tensor in graph_of(model).outputs}
    calls: list[Call] = []
    for node in reversed(nodes_of(model)):
        made = {id(tensor) for tensor in node.outputs}
        if node.is_input or node.operation is None or not made & needed:
            continue
        given = without_own_masks(node)
        read = keras3.tree.flatten((given.args, given.kwargs))
        _refuse_variables(node.operation, read)
        needed |= {id(value) for value in read if isinstance(value, keras3.KerasTensor)}
        calls.append(Call(node, given))
    return calls[::-1]


def users_of_layers(model: Any) -> Mapping[int, set[int]]:
    """Return, for the id of each layer, the ids of the graphs that call it.

    Args:
        model: A Functional or built Sequential model; nested ones are looked into.
    """
    users: dict[int, set[int]] = defaultdict(set)
    waiting, seen = [model], set()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        for layer in current.layers:
            users[id(layer)].add(id(current))
            if is_graph(layer):
                waiting.append(layer)
    return users


def is_partly_frozen(layer: Any) -> bool:
    """Return whether single weights of a trainable Keras 3 layer are frozen.

    Args:
        layer: A built layer. Adapters freeze the weight they adapt; those are merged.
    """
    return any(
        part.trainable
        and not getattr(part, "lora_enabled", False)
        and any(not variable.trainable for variable in part._trainable_variables)
        for part in layer._flatten_layers()
    )


def _refuse_variables(op: Any, read: Sequence[Any]) -> None:
    for value in read:
        if isinstance(value, (keras3.Variable, tf.Variable)):
            raise ModelError(
                f"{type(op).__name__} {op.name!r} is called on the weight "
                f"{getattr(value, 'path', value.name)!r} of another layer (tied weights), which "
                "cannot be followed from one model to another. Put both uses into one layer, or "
                "use keras.layers.ReversibleEmbedding."
            )
