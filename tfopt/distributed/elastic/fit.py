"""Train on while ranks are lost and added, and prove at the end that every step was taken.

Horovod's own loop (``horovod.tensorflow.elastic.run``, 0.28.1) recognizes a lost peer by the text
of an error, and returns None on any other: training ends early without a word. Here every error of
a collective is a lost peer, which is bounded by progress, and every other error is raised.
"""

from __future__ import annotations

import math
import socket
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.distributed.elastic.commits import Commit, CommitFile
from tfopt.distributed.elastic.row_order import rows_at, share_of
from tfopt.distributed.elastic.settings import (
    Batch,
    Change,
    Elastic,
    ElasticResult,
    NumberedRows,
    OnStep,
    require_rows_for_all,
    require_valid,
)
from tfopt.distributed.horovod import consistency
from tfopt.distributed.horovod.library import is_elastic, launched, library
from tfopt.distributed.horovod.membership import enter, hosts_changed, leave
from tfopt.distributed.horovod.optimizer import DistributedOptimizer
from tfopt.distributed.keepalive import guard_process
from tfopt.distributed.lost_peers import LOST, reason
from tfopt.distributed.versions import SAME_VERSIONS, require_equal, versions_here
from tfopt.errors import InputError, TrainingError

_TRIES_WITHOUT_PROGRESS = 3


class _HostsChanged(Exception):
    """The launcher has hosts to add or remove; all ranks are at the same commit."""


def fit_elastic(
    model: Any,
    data: tuple[Any, Any] | Batch,
    settings: Elastic,
    *,
    examples: int | None = None,
    on_step: OnStep | None = None,
) -> ElasticResult:
    """Train a compiled model; every rank of the job calls this with the same arguments.

    Args:
        model: Compiled, of tf_keras or Keras 3, built. Its optimizer is made to average.
        data: Arrays ``(x, y)`` that every rank can read, or a function from row numbers to them.
        settings: How to train.
        examples: Number of rows, if ``data`` is a function.
        on_step: Called on every rank after each update with its number, from 1, and the logs of
            this rank's part of the batch.

    Raises:
        InputError: If data, model and settings do not fit each other.
        TrainingError: If the ranks can no longer train, or did not all take every step.
        VerificationError: If the ranks hold different weights.
        StorageError: If the chief cannot write the checkpoint.
    """
    return _Run(model, NumberedRows.of(data, examples), settings, on_step).to_the_end()


@dataclass(slots=True)
class _Run:
    model: Any
    source: NumberedRows
    settings: Elastic
    on_step: OnStep | None
    step: int = 0
    position: int = 0
    loss: float = math.nan
    size: int = 0
    rate: float | None = None
    commit: Commit | None = None
    file: CommitFile | None = None
    changes: list[Change] = field(default_factory=list)

    def to_the_end(self) -> ElasticResult:
        self._prepare()
        noticed: tuple[str, int, float] | None = None
        tries, best = 0, -1
        while True:
            try:
                self._join(noticed)
                self._train()
                return self._finish()
            except _HostsChanged:
                noticed = ("hosts changed", self.step, time.monotonic())
            except LOST as error:
                committed = -1 if self.commit is None else self.commit.step
                tries, best = (0 if committed > best else tries + 1), committed
                self._require_hope(error, tries)
                noticed = ("lost", self.step, time.monotonic())
            leave(lost=noticed[0] == "lost")

    def _prepare(self) -> None:
        """Check and complete what is given, before the ranks meet."""
        require_valid(self.settings)
        if launched().is_launched:
            guard_process()  # a program of its own may be stopped and go on (Ctrl-Z, fg)
        _make_average(self.model.optimizer)
        self.model.optimizer.build(self.model.trainable_variables)
        if self.settings.learning_rate_scaling != "none":
            self.rate = _fixed_rate(self.model.optimizer)
        if self.settings.checkpoint is not None:
            self.file = CommitFile(
                self.settings.checkpoint, seed=self.settings.seed, examples=self.source.examples
            )

    def _join(self, noticed: tuple[str, int, float] | None) -> None:
        """Meet the ranks of this moment, and take over the furthest commit among them."""
        enter(self.settings.lost_seconds)
        is_new = self.commit is None
        if self.commit is None and self.file is not None:
            self.commit = self.file.read(len(self._variables()))
        self._restore()
        everyone = consistency.gather(np.array([not is_new, self.step, self.position], np.int64))
        if not all(one[0] for one in everyone):
            # Only ranks that differ raise, so the others go on without them.
            require_equal(_gather_text, versions_here(), SAME_VERSIONS, rank=library().rank())
            advice = "Every rank must call fit_elastic with the same arguments and data."
            require_equal(_gather_text, self._arguments(), advice, rank=library().rank())
        # What a new process reads from a disk may be of another time than those who train.
        root = max(range(len(everyone)), key=lambda rank: (*everyone[rank][:2], -rank))
        consistency.broadcast(self._variables(), root=root)
        self.step, self.position = int(everyone[root][1]), int(everyone[root][2])
        self.size = library().size()
        require_rows_for_all(self.settings.batch_size, self.size)
        self._scale_rate()
        self.commit = self._snapshot()
        if noticed is not None:
            cause, reached, since = noticed
            seconds = time.monotonic() - since
            self.changes.append(Change(cause, reached, self.step, self.size, seconds))

    def _arguments(self) -> dict[str, str]:
        names = ("steps", "batch_size", "commit_every_steps", "seed", "learning_rate_scaling")
        own = {name: str(getattr(self.settings, name)) for name in names}
        return {"rows": str(self.source.examples), **own}

    def _train(self) -> None:
        while self.step < self.settings.steps:
            self._update()
            if self.step % self.settings.commit_every_steps == 0:
                self._agree()
                if self.step < self.settings.steps and hosts_changed():
                    raise _HostsChanged

    def _update(self) -> None:
        count, examples = self.settings.batch_size, self.source.examples
        rows = rows_at(self.position, count, examples=examples, seed=self.settings.seed)
        own = rows[share_of(count, library().rank(), self.size)]
        x, y = self.source.batch(own)
        weight = len(own) * self.size / count
        # The mean over ranks counts each rank once; parts of other sizes weigh as many rows.
        weights = None if weight == 1 else np.full(len(own), weight, np.float32)
        logs = self.model.train_on_batch(x, y, sample_weight=weights, return_dict=True)
        self.step, self.position = self.step + 1, self.position + count
        self.loss = float(logs["loss"])
        if self.on_step is not None:
            self.on_step(self.step, logs)

    def _agree(self) -> None:
        """Commit, after showing that all ranks are at the same step with the same weights.

        Raises:
            TrainingError: If they are not, or the loss is not finite.
        """
        consistency.mean_of_state(self.model.non_trainable_weights)
        consistency.require_equal_weights(self._variables(), when=f"after step {self.step}")
        bits = int(np.float64(self.loss).view(np.int64))
        everyone = consistency.gather(np.array([self.step, self.position, bits], np.int64))
        if len({(int(one[0]), int(one[1])) for one in everyone}) > 1:
            steps = [int(one[0]) for one in everyone]
            raise TrainingError(f"The ranks are at different steps: {steps} (rank 0 first).")
        losses = [float(one[2].view(np.float64)) for one in everyone]
        self.loss = float(np.mean(losses))
        if not math.isfinite(self.loss):
            raise TrainingError(
                f"The loss is {self.loss} after step {self.step} (ranks: {losses}). Lower the "
                "learning rate, or look for NaN in the data."
            )
        self.commit = self._snapshot()
        if self.file is not None and library().rank() == 0:
            self.file.write(self.commit)

    def _finish(self) -> ElasticResult:
        """Prove that every surviving rank took all the steps.

        Raises:
            TrainingError: If one did not.
        """
        self._agree()
        if self.step != self.settings.steps:
            raise TrainingError(f"Training ended after {self.step} of {self.settings.steps} steps.")
        return ElasticResult(self.step, self.loss, library().rank(), self.size, tuple(self.changes))

    def _require_hope(self, error: tf.errors.OpError, tries: int) -> None:
        where = f"Rank on {socket.gethostname()} lost its peers after step {self.step}"
        told = reason(error)
        if not is_elastic():
            place = "the beginning" if self.file is None else f"{self.file.path}"
            raise TrainingError(
                f"{where}, and the job is not elastic: {told} Start it again, and it goes on "
                f"from {place}; with --min-num-proc and --host-discovery-script, horovodrun starts "
                "a job that goes on without them."
            ) from error
        if tries >= _TRIES_WITHOUT_PROGRESS:
            raise TrainingError(
                f"{where} for the {tries + 1}th time without a commit in between. The last error: "
                f"{told}"
            ) from error

    def _scale_rate(self) -> None:
        if self.rate is not None:
            is_linear = self.settings.learning_rate_scaling == "linear"
            factor = self.size if is_linear else math.sqrt(self.size)
            self.model.optimizer.learning_rate = self.rate * factor

    def _variables(self) -> list[Any]:
        own = self.model.optimizer.variables
        return [*self.model.weights, *(own() if callable(own) else own)]

    def _snapshot(self) -> Commit:
        values = [np.array(one.numpy()) for one in self._variables()]
        return Commit(self.step, self.position, values)

    def _restore(self) -> None:
        if self.commit is None:
            return
        for variable, value in zip(self._variables(), self.commit.values, strict=True):
            variable.assign(value)
        self.step, self.position = self.commit.step, self.commit.position


def _make_average(optimizer: Any) -> None:
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not any(hasattr(one, "tfopt_distribution") for one in (optimizer, inner)):
        DistributedOptimizer(optimizer)


def _fixed_rate(optimizer: Any) -> float:
    """Return the learning rate, which must be a number to be scaled.

    Raises:
        InputError: If it is a schedule.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    rate = inner._learning_rate
    if not hasattr(rate, "assign"):
        raise InputError(
            "learning_rate_scaling needs a fixed learning rate; a schedule would undo it. "
            f"Received: {type(rate).__name__}."
        )
    return float(rate.numpy())


def _gather_text(text: str) -> list[str]:
    letters = np.frombuffer(text.encode(), np.uint8).astype(np.int64)
    return [one.astype(np.uint8).tobytes().decode() for one in consistency.gather(letters)]
