"""Keep the zeros of a pruned model through ordinary training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.compression.weight_statistics import is_clustered, is_pruned, unique_values
from tfopt.errors import InputError
from tfopt.keras2 import graph
from tfopt.keras2.core import Model

_CLUSTERED_WEIGHTS = 64
"""Kernels below this size may have few distinct values by chance."""


def require_trainable(model: Model) -> None:
    """Raise if ordinary training would destroy what a cluster step made.

    Raises:
        InputError: If a trainable kernel holds few distinct values beside zero.
    """
    for layer in graph.layers_of(graph.copy(model)):
        for name, variable in graph.kernels_of(layer).items():
            values = np.asarray(variable)
            kept = values[values != 0]
            if not layer.trainable or kept.size < _CLUSTERED_WEIGHTS or np.all(kept == kept[0]):
                continue
            if is_clustered(values):
                raise InputError(
                    f"Layer {layer.name!r} is clustered: its {name} of {kept.size} weights holds "
                    f"{unique_values(kept)} distinct values, which ordinary training would "
                    "scatter. Use a quantize step, which keeps them, or freeze the layer."
                )


@contextmanager
def held(model: Model) -> Iterator[int]:
    """Keep the zeros of pruned kernels at zero while the model trains.

    A stripped model is an ordinary one: without this, a few steps of fine-tuning bring
    nearly all its zeros back.

    Args:
        model: The model that is trained; its kernels get a constraint meanwhile.

    Yields:
        The number of kernels held.
    """
    pruned = [
        # Under mixed precision the optimizer sees the variable inside.
        getattr(variable, "_variable", variable)
        for layer in graph.layers_of(model)
        for variable in graph.kernels_of(layer).values()
        if is_pruned(np.asarray(variable))
    ]
    before = [variable.constraint for variable in pruned]
    for variable, constraint in zip(pruned, before, strict=True):
        variable._constraint = _masking(variable, constraint)
    try:
        yield len(pruned)
    finally:
        for variable, constraint in zip(pruned, before, strict=True):
            variable._constraint = constraint


def _masking(variable: Any, inner: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    mask = tf.cast(tf.not_equal(variable, 0), variable.dtype)
    return lambda values: (inner(values) if inner is not None else values) * mask
