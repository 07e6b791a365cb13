"""Compute a batch in parts, one after the other, and update once (gradient accumulation).

A batch is what it was: its rows, its place in the schedules, its one update. Only what has to be
in memory at once becomes smaller. So nothing else knows of parts, and between two steps
there is nothing to save.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import tensorflow as tf

from tfopt.compression.layers.masked import PrunedLayer
from tfopt.keras2.core import Model

Pairs = list[tuple[Any, Any]]

# The threads in which tf.distribute traces its replicas each have their own.
_collected: ContextVar[list[Pairs] | None] = ContextVar("tfopt_collected", default=None)


@contextmanager
def computed_in_parts(model: Model, parts: int) -> Iterator[None]:
    """Let ``fit`` compute each batch in parts of equally many rows, and average gradients.

    Whatever the training step of the model is, it must apply gradients through the optimizer.

    Args:
        model: A compiled model.
        parts: How many, ``>= 1``; rows of a batch are a multiple.
    """
    if parts == 1:
        yield
        return
    optimizer = model.optimizer
    plain: Any = type(optimizer)
    # Its own class may have a metaclass, as a LossScaleOptimizer has.
    optimizer.__class__ = type(plain)(plain.__name__, (_Collecting, plain), {})
    counters = [
        layer.pruning_step for layer in model._flatten_layers() if isinstance(layer, PrunedLayer)
    ]
    model.train_step = _step_in_parts(model.train_step, optimizer, parts, counters)
    try:
        yield
    finally:
        del model.train_step
        optimizer.__class__ = plain


class _Collecting:
    """Mixed into an optimizer: gradients of a part are collected, all others applied."""

    def apply_gradients(self, grads_and_vars: Any, *positional: Any, **named: Any) -> Any:
        """Apply or collect; see ``tf_keras.optimizers.Optimizer.apply_gradients``."""
        collected = _collected.get()
        if collected is None:
            return super().apply_gradients(  # type: ignore[misc]  # of the optimizer's own class
                grads_and_vars, *positional, **named
            )
        collected.append(list(grads_and_vars))
        return self.iterations  # type: ignore[attr-defined]  # as above


def _step_in_parts(
    step: Callable[[Any], dict[str, Any]], optimizer: Any, parts: int, counters: Sequence[Any]
) -> Callable[[Any], dict[str, Any]]:
    def train_step(data: Any) -> dict[str, Any]:
        logs: dict[str, Any] = {}
        found: list[list[Pairs]] = []
        done: list[Any] = []
        for part in _divided(data, parts):
            # TensorFlow would compute all parts at once, in as much memory as the batch.
            with tf.control_dependencies(done), _collecting() as collected:
                if done:
                    # tfmot's layers count what they compute, and a schedule counts batches.
                    for counter in counters:
                        counter.assign_sub(1)
                logs = step(part)
            found.append(collected)
            done = [tf.group(*[_values(one) for pairs in collected for one, _ in pairs])]
        for calls in zip(*found, strict=True):
            optimizer.apply_gradients(_means(calls))
        return logs

    return train_step


@contextmanager
def _collecting() -> Iterator[list[Pairs]]:
    collected: list[Pairs] = []
    token = _collected.set(collected)
    try:
        yield collected
    finally:
        _collected.reset(token)


def _divided(data: Any, parts: int) -> list[Any]:
    split = [tf.split(tensor, parts) for tensor in tf.nest.flatten(data)]
    return [tf.nest.pack_sequence_as(data, list(part)) for part in zip(*split, strict=True)]


def _values(gradient: Any) -> Any:
    if gradient is None:
        return tf.no_op()
    return gradient.values.op if isinstance(gradient, tf.IndexedSlices) else gradient.op


def _means(calls: Sequence[Pairs]) -> Pairs:
    """Return each variable with the mean of its gradients."""
    return [
        (_mean([gradient for gradient, _ in pairs]), pairs[0][1])
        for pairs in zip(*calls, strict=True)
    ]


def _mean(gradients: Sequence[Any]) -> Any:
    first, count = gradients[0], len(gradients)
    if first is None:
        return None
    if isinstance(first, tf.IndexedSlices):
        values = tf.concat([one.values for one in gradients], axis=0) / count
        indices = tf.concat([one.indices for one in gradients], axis=0)
        return tf.IndexedSlices(values, indices, first.dense_shape)
    return tf.add_n(list(gradients)) / count
