"""Train one model for one stage: resumable, repeatable, and loud when the loss is lost."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.config.schema import Augment, Fit, PlateauRate
from tfopt.console import Reporter
from tfopt.data.split import Split
from tfopt.errors import StorageError, TrainingError
from tfopt.legacy_keras import Model, keras
from tfopt.training.checkpoint import Checkpoint, CheckpointFile, Progress, read_checkpoint
from tfopt.training.evaluate import EVALUATION_BATCH
from tfopt.training.optimizers import make_optimizer
from tfopt.training.task import Task

_CHECK_EVERY_STEPS = 50
_REPORT_EVERY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class FitJob:
    """Everything one training stage needs.

    Attributes:
        model: The model to train, changed in place.
        train: Training examples.
        validation: Examples that choose epochs, or None.
        settings: Epochs, optimizer, learning rate and the like.
        task: Loss and metric.
        batch_size: Examples in a step.
        augment: Random changes to training images.
        seed: Seed of order, augmentation and dropout.
        callbacks: tf_keras callbacks the model itself needs, such as tfmot's.
        at_target: Whether the model is as compressed as promised; only epochs that end
            so can be the best one.
        jit_compile: Compile the step with XLA.
        checkpoint: File of the state between epochs; None keeps none.
        log_dir: Folder of TensorBoard logs; None writes none.
    """

    model: Model
    train: Split
    validation: Split | None
    settings: Fit
    task: Task
    batch_size: int
    augment: Augment
    seed: int
    callbacks: Sequence[Any] = ()
    at_target: Callable[[Model], bool] = field(default=lambda model: True)
    jit_compile: bool = False
    checkpoint: Path | None = None
    log_dir: Path | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Return the training steps in an epoch."""
        return self.train.steps_per_epoch(self.batch_size)


def fit(job: FitJob, reporter: Reporter) -> Mapping[str, list[float]]:
    """Train, from the checkpoint if there is one, and return the epoch logs.

    Args:
        job: What to train. ``job.model`` holds the kept weights afterwards.
        reporter: Told of every epoch.

    Returns:
        Log name to one number an epoch.

    Raises:
        TrainingError: If the loss is not finite.
        StorageError: If a checkpoint cannot be read or written.
    """
    if job.settings.epochs == 0:
        return {}
    model = job.model
    optimizer = make_optimizer(job.settings, steps_per_epoch=job.steps_per_epoch)
    model.compile(
        optimizer=optimizer,
        loss=job.task.keras_loss(),
        weighted_metrics=job.task.keras_metrics(),
        jit_compile=job.jit_compile or None,
    )
    model.optimizer.build(model.trainable_variables)
    keeper = _Keeper(job, reporter)
    keeper.restore()
    try:
        if not keeper.is_finished:
            _run(job, keeper)
    finally:
        keeper.close()
    keeper.keep_weights()
    return keeper.progress.history


def _run(job: FitJob, keeper: _Keeper) -> None:
    first = keeper.progress.epochs_done
    batches = job.train.training_batches(
        batch_size=job.batch_size,
        seed=job.seed,
        first_epoch=first,
        epochs=job.settings.epochs,
        augment=job.augment,
    )
    validation = job.validation.batches(EVALUATION_BATCH) if job.validation else None
    job.model.fit(
        batches,
        initial_epoch=first,
        epochs=job.settings.epochs,
        steps_per_epoch=job.steps_per_epoch,
        validation_data=validation,
        callbacks=[*job.callbacks, keeper],
        verbose=0,
    )


class _Keeper(keras.callbacks.Callback):
    """Seeds epochs, watches the loss, chooses the best epoch, stops early, checkpoints."""

    def __init__(self, job: FitJob, reporter: Reporter) -> None:
        super().__init__()
        self._supports_tf_logs = True  # no copy of the logs to the host at every step
        self.progress = Progress()
        self._job = job
        self._reporter = reporter
        self._best: list[np.ndarray] = []
        self._file = CheckpointFile(job.checkpoint) if job.checkpoint else None
        self._summaries = (
            tf.summary.create_file_writer(str(job.log_dir)) if job.log_dir is not None else None
        )
        self._next_report = 0.0

    @property
    def is_finished(self) -> bool:
        """Return whether no epoch is left to run."""
        return self.progress.stopped or self.progress.epochs_done >= self._job.settings.epochs

    def restore(self) -> None:
        """Load the checkpoint into model and optimizer, if there is one."""
        stored = read_checkpoint(self._job.checkpoint) if self._job.checkpoint else None
        if stored is None:
            return
        own = [self._job.model.weights, list(self._job.model.optimizer.variables)]
        for variables, arrays in zip(own, (stored.weights, stored.optimizer), strict=True):
            if [tuple(v.shape) for v in variables] != [a.shape for a in arrays]:
                raise StorageError(
                    f"The checkpoint {self._job.checkpoint} belongs to another model. Delete it to "
                    "train the stage again."
                )
            for variable, array in zip(variables, arrays, strict=True):
                variable.assign(array)
        self.progress, self._best = stored.progress, list(stored.best)
        self._reporter.message(f"resumed after epoch {self.progress.epochs_done}")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Seed what draws random numbers, so that a resumed epoch draws the same."""
        seed_layers(self.model, self._job.seed, epoch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Report now and then, and look at the loss."""
        if batch % _CHECK_EVERY_STEPS == 0:
            self._require_finite(float(logs["loss"]), step=batch + 1)
        now = time.monotonic()
        if now >= self._next_report:
            self._next_report = now + _REPORT_EVERY_SECONDS
            self._reporter.step_done(batch + 1)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Log, judge and save the epoch."""
        values = {name: float(value) for name, value in (logs or {}).items()}
        self._require_finite(values["loss"], step=self._job.steps_per_epoch)
        values["learning_rate"] = self._rate()
        progress = self.progress
        progress.epochs_done = epoch + 1
        for name, value in values.items():
            progress.history.setdefault(name, []).append(value)
        self._adapt_rate(values)
        if self._job.at_target(self.model):
            self._judge(values, epoch + 1)
        self._write_summaries(values, epoch + 1)
        self._reporter.epoch_done(epoch + 1, values)
        self._save()

    def close(self) -> None:
        """Finish writing."""
        if self._file is not None:
            self._file.close()
        if self._summaries is not None:
            self._summaries.close()

    def keep_weights(self) -> None:
        """Leave in the model the weights that the settings ask for."""
        if self._job.settings.optimizer.ema is not None and not self._best:
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        if self._best:
            self._reporter.message(f"kept the weights of epoch {self.progress.best_epoch}")
            _assign(self._job.model, self._best)

    def _rate(self) -> float:
        optimizer = self.model.optimizer
        rate = optimizer.learning_rate
        return float(rate(optimizer.iterations) if callable(rate) else rate)

    def _adapt_rate(self, values: Mapping[str, float]) -> None:
        schedule = self._job.settings.learning_rate
        if not isinstance(schedule, PlateauRate):
            return
        progress, value = self.progress, values[schedule.monitor]
        if progress.rate_best is None or value < progress.rate_best:
            progress.rate_best, progress.rate_wait = value, 0
            return
        progress.rate_wait += 1
        if progress.rate_wait >= schedule.patience:
            rate = max(self._rate() * schedule.decay, schedule.peak * schedule.floor)
            self.model.optimizer.learning_rate.assign(rate)
            progress.rate_wait = 0

    def _judge(self, values: Mapping[str, float], epoch: int) -> None:
        settings, progress = self._job.settings, self.progress
        if settings.early_stopping is None and settings.keep == "last":
            return
        value = self._monitored(values)
        least = settings.early_stopping.min_delta if settings.early_stopping else 0.0
        if progress.best_value is None or value > progress.best_value + least:
            progress.best_value, progress.best_epoch = value, epoch
            progress.epochs_since_best = 0
            if settings.keep == "best":
                self._best = [weight.numpy() for weight in self.model.weights]
            return
        progress.epochs_since_best += 1
        stopping = settings.early_stopping
        if stopping is not None and progress.epochs_since_best >= stopping.patience:
            progress.stopped = True
            self.model.stop_training = True
            self._reporter.message(f"stopped early after epoch {epoch}")

    def _monitored(self, values: Mapping[str, float]) -> float:
        """Return the judged value, larger is better."""
        stopping = self._job.settings.early_stopping
        monitor = stopping.monitor if stopping is not None else "val_metric"
        if monitor == "val_metric":
            metric = self._job.task.metric
            value = values[f"val_{metric.name}"]
            return value if metric.higher_is_better else -value
        return -values[monitor]

    def _save(self) -> None:
        if self._file is None:
            return
        self._file.write(
            Checkpoint(
                progress=copy.deepcopy(self.progress),
                weights=[weight.numpy() for weight in self.model.weights],
                optimizer=[variable.numpy() for variable in self.model.optimizer.variables],
                best=list(self._best),
            )
        )

    def _write_summaries(self, values: Mapping[str, float], epoch: int) -> None:
        if self._summaries is None:
            return
        with self._summaries.as_default(step=epoch):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self._summaries.flush()

    def _require_finite(self, loss: float, *, step: int) -> None:
        if math.isfinite(loss):
            return
        epoch = self.progress.epochs_done + 1
        raise TrainingError(
            f"The loss became {loss} in epoch {epoch}, by step {step} of "
            f"{self._job.steps_per_epoch}. Lower the learning rate, clip gradients "
            "(gradient_clip), or look for extreme values in the data."
        )


def seed_layers(model: Model, seed: int, epoch: int) -> None:
    """Set the random state of every layer of a model from a seed and an epoch.

    Dropout and noise layers own generators whose state is no weight, so a checkpoint
    does not hold it.
    """
    for number, layer in enumerate(model._flatten_layers()):
        generator = getattr(getattr(layer, "_random_generator", None), "_generator", None)
        if generator is not None:
            mixed = np.random.SeedSequence([seed, epoch, number]).generate_state(1)[0]
            generator.reset_from_seed(int(mixed))


def _assign(model: Model, arrays: Sequence[np.ndarray]) -> None:
    for weight, array in zip(model.weights, arrays, strict=True):
        weight.assign(array)
