"""Train batch by batch, for strategies that ``fit`` of tf_keras does not serve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tfopt.distributed.base import Steps
from tfopt.keras2.core import Model, keras


@dataclass(frozen=True, slots=True)
class Epochs:
    """What is trained on, and judged by.

    Attributes:
        batches: The batches of all epochs, one after the other.
        steps: Batches in an epoch.
        first: First epoch, from 0.
        last: End of the epochs, exclusive.
        judged: The batches that each epoch is judged by; None judges none.
    """

    batches: Iterable[Any]
    steps: int
    first: int
    last: int
    judged: Iterable[Any] | None


def fit_by_steps(model: Model, steps: Steps, epochs: Epochs, callbacks: list[Any]) -> None:
    """Train as ``fit`` does: the same callbacks at the same moments, with the same logs.

    Args:
        model: A compiled model; callbacks may set its ``stop_training``.
        steps: What takes the steps.
        epochs: What to train on; if it ends too early, so does training.
        callbacks: tf_keras callbacks that wait for no log but what they read with ``float``.
    """
    calls = keras.callbacks.CallbackList(
        callbacks, model=model, add_history=False, epochs=epochs.last, steps=epochs.steps
    )
    model.stop_training = False
    batches = iter(epochs.batches)
    calls.on_train_begin()
    for epoch in range(epochs.first, epochs.last):
        model.reset_metrics()
        calls.on_epoch_begin(epoch)
        if not _train(steps, batches, epochs.steps, calls):
            return
        logs = steps.logs()
        if epochs.judged is not None:
            logs |= _judged(model, steps, epochs.judged)
        calls.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    model.optimizer.finalize_variable_values(model.trainable_variables)
    calls.on_train_end()


def _train(steps: Steps, batches: Iterator[Any], count: int, calls: Any) -> bool:
    """Take the steps of an epoch; return whether there were enough batches."""
    for number in range(count):
        batch = next(batches, None)
        if batch is None:
            return False
        calls.on_train_batch_begin(number)
        calls.on_train_batch_end(number, steps.train(batch))
    return True


def _judged(model: Model, steps: Steps, batches: Iterable[Any]) -> dict[str, float]:
    model.reset_metrics()
    for batch in batches:
        steps.judge(batch)
    return {f"val_{name}": value for name, value in steps.logs().items()}
