"""Asynchronous steps: servers hold the weights, workers take steps, and the chief hands them out.

Only the chief runs the recipe. It reads the data, in the same order as one process, and gives
each batch to the next worker that is free, so every batch of an epoch is trained on once,
whatever the source, and workers need no files. What a worker computes with may be older than
what it changes: the result differs from run to run.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from tfopt.config.distributed import StrategySettings as Settings
from tfopt.distributed.base import Spread
from tfopt.distributed.environment import Place
from tfopt.distributed.lost_peers import named_loss
from tfopt.distributed.single import Single
from tfopt.distributed.tf_distribute.cluster import (
    ClusterAddresses,
    first_absent,
    is_listening,
    read_cluster,
)
from tfopt.distributed.tf_distribute.ports import require_own_port
from tfopt.errors import ExitCode, InputError, PeersLost

_STEPS_AHEAD = 4  # a worker; as many batches wait in the chief's memory
_LOOK_EVERY_SECONDS = 5.0
_START_SECONDS = 120.0
_NOTE = (
    "asynchronous: workers changed the weights without waiting for each other, so the result "
    "differs from run to run, and from that of one process"
)


class ParameterServer(Single):
    """The chief of a cluster with parameter servers; see ``Strategy`` for the contract.

    Args:
        native: TensorFlow's strategy, connected.
        cluster: Who belongs to it.
    """

    name = "parameter_server"
    copies = True

    def __init__(self, native: Any, cluster: ClusterAddresses) -> None:
        self._native = native
        self._cluster = cluster
        self._coordinator = tf.distribute.coordinator.ClusterCoordinator(native)

    def scope(self) -> AbstractContextManager[Any]:
        """Return TensorFlow's scope: variables made in it live on the servers."""
        scope: AbstractContextManager[Any] = self._native.scope()
        return scope

    def steps_of(self, model: Any) -> AsynchronousSteps:
        """Return what hands the steps out to the workers."""
        return AsynchronousSteps(model, self._native, self._coordinator, self._cluster)

    def spread(self) -> Spread:
        """Return the size of the cluster, and that its steps were asynchronous."""
        workers, servers = len(self._cluster.workers), len(self._cluster.servers)
        return Spread({"asynchronous": True, "workers": workers, "servers": servers}, _NOTE)

    def close(self) -> None:
        """See to it that this process ends, also without a worker that was lost."""
        if not all(is_listening(address) for address in self._cluster.workers):
            # TensorFlow waits for a lost worker to come back, for ever, when Python ends.
            error = sys.exception()
            code = int(getattr(error, "exit_code", ExitCode.INTERNAL_ERROR)) if error else 0
            atexit.register(_leave, code)


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class AsynchronousSteps:
    """Gives batches to workers; see ``Steps`` for the contract.

    A step that a worker did not finish before it was lost is given to another one; what it had
    changed by then stays changed.
    """

    def __init__(
        self, model: Any, native: Any, coordinator: Any, cluster: ClusterAddresses
    ) -> None:
        self._model = model
        self._native = native
        self._coordinator = coordinator
        self._cluster = cluster
        self._pending: deque[Any] = deque()
        self._most = _STEPS_AHEAD * len(cluster.workers)
        self._test = self._function(model.test_step)
        model.make_train_function = self._make
        self._make()

    def train(self, batch: Any) -> Mapping[str, Any]:
        """Hand a step out; reading its loss waits for it."""
        return {"loss": _Loss(self, self._begin(self._model.train_tf_function, batch))}

    def judge(self, batch: Any) -> None:
        """Hand a batch of validation out."""
        self._begin(self._test, batch)

    def logs(self) -> dict[str, float]:
        """Wait for all workers, and read the metrics off the servers."""
        while self._pending:
            self.wait_for(self._pending.popleft())
        with named_loss("waiting for all steps"):
            self._coordinator.join()
        return {metric.name: float(metric.result()) for metric in self._model.metrics}

    def wait_for(self, remote: Any) -> Any:
        """Return what a step gave.

        Raises:
            PeersLost: If a server or all workers are gone.
        """
        # get() and fetch() wait for ever, and so does TensorFlow when no worker is left.
        while not remote._status_available_event.wait(_LOOK_EVERY_SECONDS):
            if not any(is_listening(address) for address in self._cluster.workers):
                raise PeersLost(
                    f"All {len(self._cluster.workers)} workers are gone, so no step can be taken. "
                    "Their own output says why; start the cluster again with --resume."
                )
        with named_loss("waiting for a step"):
            return remote.fetch()

    def _begin(self, function: Any, batch: Any) -> Any:
        while len(self._pending) >= self._most:
            self.wait_for(self._pending.popleft())
        with named_loss("handing out a step"):
            remote = self._coordinator.schedule(function, args=(batch,))
        self._pending.append(remote)
        return remote

    def _make(self, *, force: bool = False) -> None:
        """Build the training step; what ``Model.make_train_function`` does for ``fit``."""
        self._model.train_tf_function = self._function(self._model.train_step)

    def _function(self, step: Any) -> Any:
        return tf.function(
            lambda batch: self._native.run(step, args=(batch,)), reduce_retracing=True
        )


class _Loss:
    """The loss of a step that may not be done yet."""

    def __init__(self, steps: AsynchronousSteps, remote: Any) -> None:
        self._steps = steps
        self._remote = remote

    def __float__(self) -> float:
        return float(self._steps.wait_for(self._remote)["loss"])


def open_parameter_server(settings: Settings, place: Place) -> ParameterServer:
    """Return the strategy of the chief. It waits for workers and servers.

    Raises:
        InputError: If one of them does not answer, or this process cannot listen.
    """
    require_own_port(os.environ)
    cluster = read_cluster(os.environ["TF_CONFIG"])
    if absent := first_absent((*cluster.servers, *cluster.workers), seconds=_START_SECONDS):
        raise InputError(
            f"Nothing listens on {absent} of TF_CONFIG after {_START_SECONDS:.0f} s. Start the "
            "same command there, with its own task in TF_CONFIG."
        )
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    try:
        native = tf.distribute.ParameterServerStrategy(resolver)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise InputError(
            f"The chief cannot join the cluster of TF_CONFIG: {str(error).splitlines()[0]:.300}"
        ) from error
    return ParameterServer(native, cluster)


def serve() -> None:
    """Be the worker or server that ``TF_CONFIG`` says, until the chief is gone.

    Raises:
        InputError: If this process cannot listen on its address, or no chief comes.
    """
    require_own_port(os.environ)
    task = json.loads(os.environ["TF_CONFIG"])["task"]
    cluster = read_cluster(os.environ["TF_CONFIG"])
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    try:
        server = tf.distribute.Server(
            resolver.cluster_spec(), job_name=task["type"], task_index=int(task["index"])
        )
    except (tf.errors.OpError, ValueError) as error:
        raise InputError(
            f"This {task['type']} cannot listen on its address of TF_CONFIG: "
            f"{str(error).splitlines()[0]:.300}"
        ) from error
    cluster.wait_while_chief_is_there()
    del server  # it serves from threads of its own for as long as this process is there
