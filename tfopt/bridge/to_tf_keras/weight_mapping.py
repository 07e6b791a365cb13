"""Say which weight of a tf_keras layer holds which weight of its Keras 3 twin."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from tfopt.bridge.to_tf_keras.twin import Link
from tfopt.errors import ModelError
from tfopt.keras2.core import Layer


@dataclass(frozen=True, slots=True)
class Held:
    """A weight that a Keras 3 layer computes with.

    Attributes:
        variable: Where Keras 3 keeps it.
        shape: Its shape as it is used.
        read: How to compute it, where it is not the variable itself.
    """

    variable: Any
    shape: tuple[int, ...]
    read: Callable[[], npt.NDArray[Any]] | None = None


def links_of(layer: Any, held: Sequence[Held], twin: Layer) -> list[Link]:
    """Return a link for every weight, aligned by name and shape.

    Args:
        layer: The Keras 3 layer; for messages.
        held: Its weights.
        twin: The built tf_keras layer.

    Returns:
        Links in the order of ``held``. A twin without weights (they became settings)
        has links without a target.

    Raises:
        ModelError: If the weights of the two do not match one to one.
    """
    if not twin.weights:
        return [Link(one.variable, None, read=one.read) for one in held]
    pairs = _in_order(held, twin.weights) or _by_name(held, twin.weights)
    if pairs is None:
        ours = ", ".join(f"{_tail(one.variable.path)} {one.shape}" for one in held)
        theirs = ", ".join(f"{_tail(one.name)} {tuple(one.shape)}" for one in twin.weights)
        raise ModelError(
            f"The weights of layer {layer.name!r} ({type(layer).__name__}) do not match those of "
            f"its tf_keras twin. Keras 3: {ours or 'none'}. tf_keras: {theirs}."
        )
    return [Link(one.variable, target, read=one.read) for one, target in pairs]


def _in_order(held: Sequence[Held], targets: Sequence[Any]) -> list[tuple[Held, Any]] | None:
    """Return the pairs if both sides have the same names and shapes in the same order."""
    if len(held) != len(targets):
        return None
    pairs = list(zip(held, targets, strict=True))
    same = all(_key(one) == _target_key(target) for one, target in pairs)
    return pairs if same else None


def _by_name(held: Sequence[Held], targets: Sequence[Any]) -> list[tuple[Held, Any]] | None:
    """Return the pairs if the longest common ends of the paths settle every one."""
    if len(held) != len(targets):
        return None
    waiting: dict[tuple[str, tuple[int, ...]], list[Any]] = defaultdict(list)
    for target in targets:
        waiting[_target_key(target)].append(target)
    pairs = []
    for one in held:
        candidates = waiting[_key(one)]
        if not candidates:
            return None
        scores = [_common_end(one.variable.path, target.name) for target in candidates]
        if scores.count(max(scores)) > 1:
            return None
        pairs.append((one, candidates.pop(scores.index(max(scores)))))
    return pairs


def _key(one: Held) -> tuple[str, tuple[int, ...]]:
    return _tail(one.variable.path), one.shape


def _target_key(target: Any) -> tuple[str, tuple[int, ...]]:
    return _tail(target.name), tuple(target.shape)


def _tail(path: str) -> str:
    name = path.rpartition("/")[2].removesuffix(":0")
    return "kernel" if name == "depthwise_kernel" else name  # tf_keras' word for the same


def _common_end(path: str, name: str) -> int:
    """Return how many parts two paths share, counted from the end."""
    ours, theirs = path.split("/")[::-1], name.removesuffix(":0").split("/")[::-1]
    shared = 0
    for one, other in zip(ours, theirs, strict=False):
        if one != other:
            break
        shared += 1
    return shared
