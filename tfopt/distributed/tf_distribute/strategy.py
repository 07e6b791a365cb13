"""The strategies of ``tf.distribute``: several devices of a process, several workers."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfopt.config.distributed import StrategySettings as Settings
from tfopt.distributed.base import Spread, Steps
from tfopt.distributed.communication_time import ExchangeClock
from tfopt.distributed.elastic.run_state import Journey
from tfopt.distributed.environment import Place
from tfopt.distributed.lost_peers import named_loss
from tfopt.distributed.tf_distribute.ports import require_own_port
from tfopt.distributed.threads import share_cores, workers_here
from tfopt.errors import InputError


class Distributed:
    """A ``tf.distribute`` strategy; see ``tfopt.distributed.base.Strategy`` for the contract.

    Args:
        name: Its kind.
        native: The strategy of TensorFlow; its replicas are those of one process, or one
            worker has as many as the next.
        place: Where this process stands.
    """

    copies = True
    journey: Journey | None = None
    random_stream = 0  # TensorFlow mixes the replica's number into every draw

    def __init__(self, name: str, native: Any, place: Place) -> None:
        self.name = name
        self.rank = place.rank
        self.size = place.size
        self.replicas = int(native.num_replicas_in_sync)
        self.local_replicas = self.replicas // place.size
        self._native = native
        self._clock: ExchangeClock | None = None

    def scope(self) -> AbstractContextManager[Any]:
        """Return TensorFlow's scope."""
        scope: AbstractContextManager[Any] = self._native.scope()
        return scope

    def distribute(self, batches: Any) -> Any:
        """Return a distributed dataset of batches that are divided already."""
        return self._native.distribute_datasets_from_function(lambda _: batches)

    def whole(self, batches: Any) -> Any:
        """Return batches that TensorFlow divides, or that every replica of all workers takes.

        Among workers TensorFlow leaves out rows, or judges some of them twice, when the last
        batch cannot be divided.
        """
        if self.size == 1:
            return batches
        times = self.local_replicas
        repeated = batches.flat_map(lambda *b: tf.data.Dataset.from_tensors(b).repeat(times))
        return self.distribute(repeated.repeat())

    def steps_of(self, model: Any) -> Steps | None:
        """Leave it to ``fit``."""
        return None

    def spread(self) -> Spread:
        """Say nothing more."""
        return Spread()

    def optimizer(self, optimizer: Any) -> Any:
        """Return the optimizer: that of tf_keras sums over the replicas itself."""
        if self.replicas == 1:
            return optimizer
        self._clock = ExchangeClock()
        return self._clock.measure(optimizer)

    def exchange_fraction(self) -> float | None:
        """Return which share of a step waited for other replicas."""
        return None if self._clock is None else self._clock.take()

    def recorded(self, file: Path) -> AbstractContextManager[Any]:
        """Return a context that does nothing: TensorFlow's profiler is the tool for this."""
        return nullcontext()

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the values: metrics of tf_keras are those of all replicas."""
        return dict(values)

    def settle(self, variables: Sequence[Any]) -> None:
        """Assign to every moving average what reading it gives: the mean over replicas."""
        for variable in variables:
            if variable.dtype.is_floating and self._is_kept_apart(variable):
                variable.assign(variable.read_value())

    def copies_of(self, variable: Any) -> Sequence[Any]:
        """Return the copies on the devices of this process."""
        found: Sequence[Any] = self._native.experimental_local_results(variable)
        return found

    def gather(self, value: Any) -> list[Any]:
        """Return what each process gave."""
        if self.size == 1:
            return [value]
        own = _packed(value)
        lengths = self._summed(_at(self.rank, np.array([own.size], np.int32), self.size))
        room = int(lengths.max())
        padded = np.zeros(room, np.int32)
        padded[: own.size] = own
        rows = self._summed(_at(self.rank, padded, self.size))
        return [_unpacked(row, int(n)) for row, n in zip(rows, lengths[:, 0], strict=True)]

    def from_chief(self, value: Any) -> Any:
        """Return the chief's value."""
        if self.size == 1:
            return value
        own = _packed(value) if self.rank == 0 else np.zeros(0, np.int32)
        room = int(self._summed(np.array([own.size], np.int32))[0])
        filled = own if self.rank == 0 else np.zeros(room, np.int32)
        return _unpacked(self._summed(filled), room)

    def close(self) -> None:
        """Do nothing: TensorFlow leaves the cluster when the process ends."""

    def _summed(self, values: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Return the sum of equally shaped arrays over all processes."""

        # Every local replica would add its process's values: only the first one does.
        def own(context: Any) -> Any:
            is_first = context.replica_id_in_sync_group % self.local_replicas == 0
            return tf.constant(values if is_first else np.zeros_like(values))

        with named_loss("waiting for all"):
            per_replica = self._native.experimental_distribute_values_from_function(own)
            total = self._native.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)
        found: npt.NDArray[np.int32] = total.numpy()
        return found

    def _is_kept_apart(self, variable: Any) -> bool:
        kind = getattr(variable, "synchronization", None)
        return kind == tf.VariableSynchronization.ON_READ


def open_mirrored(settings: Settings, place: Place) -> Distributed:
    """Return the strategy of several devices in one process.

    Raises:
        InputError: If there are not as many devices.
    """
    native = tf.distribute.MirroredStrategy(devices_of_process(settings))
    return Distributed("mirrored", native, place)


def devices_of_process(settings: Settings) -> list[str]:
    """Return the GPUs of this machine that are asked for, or as many logical CPUs.

    Raises:
        InputError: If there are not as many devices.
    """
    graphics = tf.config.list_physical_devices("GPU")
    wanted = settings.devices or max(1, len(graphics))
    if graphics and wanted > len(graphics):
        raise InputError(
            f"strategy.devices is {wanted}, but this machine has {len(graphics)} GPU(s)."
        )
    kind = "GPU" if graphics else "CPU"
    if not graphics:
        _divide_processor(wanted)
    return [f"{kind}:{number}" for number in range(wanted)]


def open_multi_worker(settings: Settings, place: Place) -> Distributed:
    """Return the strategy of the workers that ``TF_CONFIG`` names. It waits for all of them.

    Raises:
        InputError: If this worker's address cannot be listened on.
    """
    require_own_port(os.environ)
    share_cores(workers_here(os.environ))
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=tf.distribute.experimental.CommunicationImplementation.AUTO
    )
    try:
        native = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise InputError(
            f"Rank {place.rank} cannot join the {place.size} workers of TF_CONFIG: "
            f"{str(error).splitlines()[0]:.300}"
        ) from error
    return Distributed("multi_worker", native, place)


def _divide_processor(wanted: int) -> None:
    """Make the processor as many devices as asked, unless it is so already.

    Raises:
        InputError: If TensorFlow is running already with another number.
    """
    if wanted == 1:
        return
    processor = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * wanted
    try:
        tf.config.set_logical_device_configuration(processor, parts)
    except RuntimeError as error:  # devices are fixed once TensorFlow has run something
        found = len(tf.config.list_logical_devices("CPU"))
        if found < wanted:
            raise InputError(
                f"strategy.devices is {wanted}, but TensorFlow already runs on {found} CPU "
                "device(s) in this process. Start a process of its own for this run."
            ) from error


def _at(rank: int, values: npt.NDArray[np.int32], size: int) -> npt.NDArray[np.int32]:
    placed = np.zeros((size, *values.shape), np.int32)
    placed[rank] = values
    return placed


def _packed(value: Any) -> npt.NDArray[np.int32]:
    """Return a value's bytes as whole numbers, which add up with zeros without loss."""
    raw = pickle.dumps(value)
    padding = -len(raw) % 4
    return np.frombuffer(raw + b"\0" * padding, np.int32)


def _unpacked(values: npt.NDArray[np.int32], length: int) -> Any:
    return pickle.loads(values[:length].tobytes())
