"""Callbacks for ``model.fit`` of both Kerases on several ranks of Horovod.

Keras 3 asks nothing of a callback but its methods, so the classes of tf_keras serve both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfopt.distributed.horovod import consistency
from tfopt.distributed.horovod.library import hvd
from tfopt.errors import InputError, VerificationError
from tfopt.keras2.core import is_keras3, keras

_ROWS = 2048


def for_horovod(data: Any = None) -> list[Any]:
    """Return the callbacks that every training on several ranks should have, in their order.

    Put them before callbacks that stop training, save, or log.

    Args:
        data: What ``fit`` gets; see ``RequireShards``. None checks only the numbers of steps.
    """
    return [
        BroadcastState(),
        RequireShards(data),
        MeanOfState(),
        AverageMetrics(),
        RequireAgreement(),
    ]


class BroadcastState(keras.callbacks.Callback):
    """Gives all ranks the weights and the optimizer state of one before the first step.

    A model that has no weights yet gets them right after its first step.

    Args:
        root: The rank whose state all get.
    """

    def __init__(self, root: int = 0) -> None:
        super().__init__()
        self._root = root
        self._is_done = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Broadcast, if the model is built on every rank."""
        self._is_done = False
        is_built = bool(self.model.built and self.model.variables)
        if all(one[0] for one in consistency.gather(np.array([int(is_built)]))):
            _build_optimizer(self.model)
            self._broadcast()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Broadcast, if it could not be done before."""
        if not self._is_done:
            self._broadcast()

    def _broadcast(self) -> None:
        self._is_done = True
        found = [*self.model.variables, *_optimizer_variables(self.model.optimizer)]
        unique = {id(one): one for one in found}
        consistency.broadcast(list(unique.values()), root=self._root)


class AverageMetrics(keras.callbacks.Callback):
    """Puts the mean over ranks in place of this rank's metrics at the end of an epoch.

    Callbacks that follow it (history, early stopping, logs) see the same numbers on every rank.
    The mean is that of the ranks, not weighted by their rows. A metric that only some ranks
    have, such as ``val_loss`` where one rank validates, is left alone.
    """

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Average the numbers in ``logs``, in place."""
        logs = {} if logs is None else logs
        names = sorted(name for name, value in logs.items() if np.ndim(value) == 0)
        common = set(names)
        for others in hvd().allgather_object(names):
            common &= set(others)
        shared = sorted(common)
        if shared:
            mine = tf.constant([float(logs[name]) for name in shared], tf.float64)
            for name, mean in zip(shared, hvd().allreduce(mine).numpy(), strict=True):
                logs[name] = float(mean)


class RequireAgreement(keras.callbacks.Callback):
    """Stops the run if weights differ between ranks: after the first step, and each epoch.

    Each check reads the trainable weights once and gathers 8 bytes a variable.

    Raises:
        VerificationError: On every rank, naming the variables and usual causes.
        TrainingError: On every rank, if some of them want to stop training and others not.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_first = True

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin again."""
        self._is_first = True

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Compare after the first step."""
        if self._is_first:
            self._is_first = False
            self._compare("after the first step")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Compare."""
        self._compare(f"after epoch {epoch + 1}")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Tell the other ranks that this one goes on."""
        if not self._is_first:
            consistency.require_equal_decision(decision=False, what="stop training")

    def on_train_end(self, logs: Any = None) -> None:
        """Tell the other ranks that this one stops; they are at the beginning of an epoch."""
        consistency.require_equal_decision(decision=True, what="stop training")

    def _compare(self, when: str) -> None:
        consistency.require_equal_weights(self.model.trainable_variables, when=when)


class RequireShards(keras.callbacks.Callback):
    """Stops the run before its first step if ranks have the same data or other numbers of steps.

    Args:
        data: What ``fit`` gets: an array, a tuple of arrays, or a batched ``tf.data.Dataset``.
            Up to ``rows`` rows are read. None checks only the numbers of steps.
        rows: Rows to look at, ``>= 1``. A shuffled copy of n rows on every rank is found
            if ``rows`` squared is well above n.

    Raises:
        DataError: On every rank.
    """

    def __init__(self, data: Any = None, *, rows: int = _ROWS) -> None:
        super().__init__()
        if rows < 1:
            raise InputError(f"rows must be >= 1. Received: {rows}.")
        self._data = data
        self._rows = rows

    def on_train_begin(self, logs: Any = None) -> None:
        """Compare steps and rows."""
        consistency.require_equal_steps(self.params.get("steps"))
        if self._data is not None:
            consistency.require_different_batches(_first_rows(self._data, self._rows))


class MeanOfState(keras.callbacks.Callback):
    """Gives statistics and ranges one value on all ranks before they are used.

    That is at the end of the last step of an epoch, before validation and before a checkpoint.
    Where the number of steps is not known beforehand, it is at the end of the epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_fresh = False

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Reduce after the last step."""
        self._is_fresh = batch + 1 == self.params.get("steps")
        if self._is_fresh:
            consistency.mean_of_state(_state_of(self.model))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Reduce, if the last step was not known to be the last."""
        if self.params.get("steps") is None:
            consistency.mean_of_state(_state_of(self.model))


class WarmUp(keras.callbacks.Callback):
    """Raises the learning rate from that of one process to that of all over the first epochs.

    The rate grows in a straight line from ``base`` to ``base`` times the number of ranks, or times
    its square root (Goyal et al. 2017, arXiv:1706.02677, section 2.2). Other callbacks or
    schedules may lower it afterwards.

    Args:
        base: The rate that fits one process, ``> 0``. It does not come from the optimizer, so that
            a resumed run goes on where it was.
        epochs: Epochs of growth, ``> 0``; fractions are allowed.
        scale: ``linear``, ``sqrt``, or ``none``: grow from ``base / ranks`` to ``base``.
        steps_per_epoch: Needed where ``fit`` does not know it.

    Raises:
        InputError: If a setting is impossible, or the optimizer has a schedule.
    """

    def __init__(
        self,
        base: float,
        *,
        epochs: float = 5,
        scale: Literal["linear", "sqrt", "none"] = "linear",
        steps_per_epoch: int | None = None,
    ) -> None:
        super().__init__()
        factors = {"linear": hvd().size(), "sqrt": hvd().size() ** 0.5, "none": 1.0}
        if scale not in factors:
            raise InputError(f"scale must be one of {', '.join(factors)}. Received: {scale!r}.")
        if base <= 0 or epochs <= 0:
            raise InputError(f"base and epochs must be > 0. Received: {base} and {epochs}.")
        self._first = base / hvd().size() if scale == "none" else base
        self._last = base * factors[scale]
        self._epochs = epochs
        self._steps = steps_per_epoch
        self._epoch = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Look whether the rate can be set."""
        self._steps = self._steps or self.params.get("steps")
        if self._steps is None:
            raise InputError(
                "WarmUp needs steps_per_epoch: fit() does not know how many there are."
            )
        try:
            self.model.optimizer.learning_rate = self._first
        except TypeError as error:
            raise InputError(
                "WarmUp sets the learning rate, and this optimizer has a schedule. Give it a "
                "number, or put the warm-up into the schedule."
            ) from error

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remember the epoch."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Set the rate of this step."""
        steps = self._steps or 1
        done = (self._epoch + batch / steps) / self._epochs
        if done < 1 + 1 / (steps * self._epochs):
            rate = self._first + (self._last - self._first) * min(done, 1.0)
            self.model.optimizer.learning_rate = rate


def _build_optimizer(model: Any) -> None:
    """Make the state of an optimizer exist, so that it can be broadcast."""
    optimizer = model.optimizer
    if is_keras3(optimizer) and type(optimizer).__module__.startswith("horovod"):
        raise VerificationError(
            "Horovod's own DistributedOptimizer does not average gradients of Keras 3: its hooks "
            "are those of Keras 2, and are never called. Use tfopt.DistributedOptimizer(optimizer)."
        )
    variables = list(model.trainable_variables)
    if hasattr(optimizer, "build"):
        if not getattr(optimizer, "built", False):
            optimizer.build(variables)
    else:
        optimizer._create_all_weights(variables)


def _optimizer_variables(optimizer: Any) -> list[Any]:
    found = optimizer.variables
    held = list(found() if callable(found) else found)
    if not is_keras3(optimizer) and isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
        scale = optimizer._loss_scale
        if optimizer.dynamic:
            held += [scale.current_loss_scale, scale.counter]
    return held


def _state_of(model: Any) -> list[Any]:
    """Return what training changes beside trainable weights and metrics."""
    metrics = {id(one) for metric in model.metrics for one in metric.variables}
    return [one for one in model.non_trainable_variables if id(one) not in metrics]


def _first_rows(data: Any, rows: int) -> Any:
    """Return the first rows of arrays or of a batched dataset, as a list of arrays."""
    if not isinstance(data, tf.data.Dataset):
        return [np.asarray(part[:rows]) for part in tf.nest.flatten(data)]
    batches: list[Sequence[Any]] = []
    count = 0
    for batch in data:
        parts = [part.numpy() for part in tf.nest.flatten(batch)]
        batches.append(parts)
        count += len(parts[0])
        if count >= rows:
            break
    return [np.concatenate(parts)[:rows] for parts in zip(*batches, strict=True)]
