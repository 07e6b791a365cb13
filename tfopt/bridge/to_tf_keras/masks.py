"""Tell the masks a user passed from those Keras 3 attached to a call by itself.

Keras 3 writes the mask of an input into the call, as an argument computed by nodes of
the graph. tf_keras carries masks by itself, so those arguments go; one that the user
passed stays.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from tfopt.bridge.keras3 import keras as keras3


@dataclass(frozen=True, slots=True)
class Arguments:
    """Arguments of one call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def without_own_masks(node: Any) -> Arguments:
    """Return the arguments of a call for its twin: the first by position, others by name.

    Args:
        node: A node of a Keras 3 graph.

    Returns:
        The arguments without ``training`` (``fit`` and ``predict`` of Keras 3 override one
        that was pinned), without None, and without masks that are those of the inputs.
        Those of a ``keras.ops`` operation are returned as they are.
    """
    op, given = node.operation, node.arguments
    if not isinstance(op, keras3.Layer):
        return Arguments(tuple(given.args), dict(given.kwargs))
    bound = _bound(op, given)
    if not bound:
        return Arguments((), {})
    first, *others = bound
    kwargs = {
        name: bound[name]
        for name in others
        if name != "training"
        and not _is_empty(bound[name])
        and not (_is_mask(name) and _is_own(bound[name], _masked_by(name, bound)))
    }
    return Arguments((bound[first],), kwargs)


def ignores_mask(node: Any) -> bool:
    """Return whether Keras 3 ran a layer without the mask that its first argument has.

    It fills in ``mask`` only for a layer that is called on one argument: not for a recurrent
    layer with an initial state (keras/src/layers/layer.py, "Populate mask argument(s)").

    Args:
        node: A node of a Keras 3 graph.
    """
    op = node.operation
    if not (isinstance(op, keras3.Layer) and getattr(op, "_call_has_mask_arg", False)):
        return False
    bound = _bound(op, node.arguments)
    with_tensors = [
        name
        for name, value in bound.items()
        if any(isinstance(one, keras3.KerasTensor) for one in keras3.tree.flatten(value))
    ]
    first = bound[with_tensors[0]] if with_tensors else None
    return (
        len(with_tensors) > 1
        and _is_empty(bound.get("mask"))
        and getattr(first, "_keras_mask", None) is not None
    )


def _bound(op: Any, given: Any) -> dict[str, Any]:
    """Return argument name to value, in the order of the call's signature."""
    signature = inspect.signature(op.call)
    bound = signature.bind_partial(*given.args, **given.kwargs)
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            named.update(value)
        elif signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
            named.update({f"{name}{number}": one for number, one in enumerate(value)})
        else:
            named[name] = value
    return named


def _is_empty(value: Any) -> bool:
    return all(one is None for one in keras3.tree.flatten(value))


def _is_mask(name: str) -> bool:
    return name == "mask" or (name.endswith("_mask") and name != "attention_mask")


def _masked_by(name: str, bound: dict[str, Any]) -> Any:
    """Return the argument that a mask argument belongs to."""
    if name == "mask":
        return next(iter(bound.values()))
    return bound.get(name.removesuffix("_mask"))


def _is_own(mask: Any, tensors: Any) -> bool:
    masks, sources = keras3.tree.flatten(mask), keras3.tree.flatten(tensors)
    if len(masks) != len(sources):
        return False
    return all(
        _same(one, getattr(source, "_keras_mask", None))
        for one, source in zip(masks, sources, strict=True)
    )


def _same(one: Any, other: Any) -> bool:
    """Return whether two symbolic tensors are computed alike from the same tensors.

    A model that was loaded computes each mask twice: once where it is attached, once
    where its config says that it is an argument.
    """
    if one is other:
        return True
    if not (isinstance(one, keras3.KerasTensor) and isinstance(other, keras3.KerasTensor)):
        return not isinstance(one, keras3.KerasTensor) and repr(one) == repr(other)
    ours, theirs = one._keras_history, other._keras_history
    if type(ours.operation) is not type(theirs.operation):
        return False
    if isinstance(ours.operation, keras3.Layer) and ours.operation is not theirs.operation:
        return False
    left, right = (
        keras3.tree.flatten((node.arguments.args, node.arguments.kwargs))
        for node in (
            ours.operation._inbound_nodes[ours.node_index],
            theirs.operation._inbound_nodes[theirs.node_index],
        )
    )
    if not left and not right:
        return False  # two different inputs
    return len(left) == len(right) and all(map(_same, left, right))
