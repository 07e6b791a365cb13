"""What a training stage needs: the model, its rows, and how to train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tfopt.config.schema import Augment, Fit
from tfopt.data.epochs import EpochPlan
from tfopt.data.split import Split
from tfopt.distributed.base import Strategy
from tfopt.distributed.single import Single
from tfopt.keras2.core import Model
from tfopt.training.layer_rates import VariableRate
from tfopt.training.task import Task


class TrainingRows(Protocol):
    """What a stage trains on: a split, or rows with what teachers said about them."""

    @property
    def examples(self) -> int:
        """Return the number of rows."""

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the batches in an epoch; see ``Split``."""

    def training_batches(self, plan: EpochPlan) -> Any:
        """Return a process's part of the batches of epochs; see ``Split``."""

    def sample_inputs(self, count: int, *, seed: int) -> Any:
        """Return the inputs of some rows; see ``Split``."""


@dataclass(frozen=True, slots=True)
class FitJob:
    """Everything one training stage needs.

    Attributes:
        model: The model to train, changed in place; or a distiller around it.
        train: Training examples.
        validation: Examples that choose epochs, or None.
        settings: Epochs, optimizer, learning rate and the like.
        task: Loss and metric.
        batch_size: Examples in a step, of all replicas together.
        augment: Random changes to training images.
        seed: Seed of order, augmentation and dropout, ``>= 0``.
        callbacks: tf_keras callbacks the model itself needs, such as tfmot's.
        at_target: Whether the model is as compressed as promised; only epochs that end
            so can be the best one.
        jit_compile: Compile the step with XLA.
        rates: Variables with a learning rate of their own.
        checkpoint: File of the state between epochs; None keeps none.
        log_dir: Folder of TensorBoard logs; None writes none.
        strategy: How the steps are spread; the model is made in its scope.
    """

    model: Model
    train: TrainingRows
    validation: Split | None
    settings: Fit
    task: Task
    batch_size: int
    augment: Augment
    seed: int
    callbacks: Sequence[Any] = ()
    at_target: Callable[[Model], bool] = field(default=lambda model: True)
    jit_compile: bool = False
    rates: Sequence[VariableRate] = ()
    checkpoint: Path | None = None
    log_dir: Path | None = None
    strategy: Strategy = field(default_factory=Single)

    @property
    def steps_per_epoch(self) -> int:
        """Return the training steps in an epoch."""
        return self.train.steps_per_epoch(self.batch_size)
