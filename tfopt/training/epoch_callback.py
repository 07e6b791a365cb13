"""What happens around the steps of an epoch: seeding, judging, stopping, saving."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfopt.config.schema import PlateauRate
from tfopt.distributed.base import require_alike
from tfopt.distributed.elastic.run_state import Journey
from tfopt.errors import StorageError, TrainingError
from tfopt.keras2.core import keras
from tfopt.reporting.console import Reporter
from tfopt.training.checkpoint import (
    Arrays,
    Checkpoint,
    CheckpointFile,
    Progress,
    read_checkpoint,
)
from tfopt.training.job import FitJob
from tfopt.training.optimizers import state_of
from tfopt.training.seeding import EpochRandomness
from tfopt.training.tensorboard import EpochLogs
from tfopt.training.throughput import Speed

_CHECK_EVERY_STEPS = 50
_REPORT_EVERY_SECONDS = 0.1


class Keeper(keras.callbacks.Callback):
    """Seeds epochs, watches the loss, chooses the best epoch, stops early, checkpoints."""

    def __init__(
        self,
        job: FitJob,
        reporter: Reporter,
        *,
        file: CheckpointFile | None,
        logs: EpochLogs | None,
    ) -> None:
        super().__init__()
        self._supports_tf_logs = True  # no copy of the logs to the host at every step
        self.progress = Progress()
        self._job = job
        # tf_keras lists a layer's weights in another order when it is frozen or unfrozen.
        self._weights = list(job.model.weights)
        self._reporter = reporter
        self._file = file
        self._logs = logs
        self._best: Arrays = []
        self._strategy = job.strategy
        self._randomness = EpochRandomness(
            job.model, seed=job.seed, stream=job.strategy.random_stream
        )
        self._speed = Speed()
        self._has_looked = False
        self._has_stepped = False
        self._first_step = 0
        self._next_report = 0.0

    @property
    def is_finished(self) -> bool:
        """Return whether no epoch is left to run."""
        return self.progress.stopped or self.progress.epochs_done >= self._job.settings.epochs

    def restore(self) -> None:
        """Load the checkpoint into model and optimizer, if there is one.

        Raises:
            StorageError: If it is damaged or belongs to another model.
        """
        stored = read_checkpoint(self._file.path) if self._file is not None else None
        if stored is None:
            return
        model = self._job.model
        own = [self._weights, state_of(model.optimizer)]
        for variables, arrays in zip(own, (stored.weights, stored.optimizer), strict=True):
            if [tuple(v.shape) for v in variables] != [a.shape for a in arrays]:
                raise StorageError(
                    f"The checkpoint {self._job.checkpoint} belongs to another model. Delete it to "
                    "train the stage again."
                )
            _assign(variables, arrays)
        self.progress, self._best = stored.progress, list(stored.best)
        done, steps = self.progress.epochs_done, self.progress.steps_done
        place = f"in epoch {done + 1} after step {steps}" if steps else f"after epoch {done}"
        self._reporter.message(f"resumed {place}")

    def start_alike(self) -> None:
        """Give every process the chief's weights, optimizer and bookkeeping."""
        if self._strategy.size > 1:
            self._take_over_from_chief()
        self._first_step = self.progress.steps_done
        if self._strategy.journey is not None:
            self._strategy.journey.go_on(self._steps(self._first_step), self._strategy.size)

    def _take_over_from_chief(self) -> None:
        own = [weight.numpy() for weight in self._weights]
        found: Checkpoint = self._strategy.from_chief(self._snapshot(own))
        _assign(self._weights, found.weights)
        _assign(state_of(self._job.model.optimizer), found.optimizer)
        self.progress, self._best = found.progress, list(found.best)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Seed what draws random numbers, so that a resumed epoch draws the same."""
        self._randomness.begin(epoch)
        self._speed.begin()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Report now and then, and look at the loss."""
        if batch % _CHECK_EVERY_STEPS == 0:
            self._require_finite_loss(float(logs["loss"]), step=batch + 1)
        if not self._has_stepped:
            self._has_stepped = True
            trained = self._job.model.trainable_variables
            require_alike(self._strategy, trained, when="after step 1")
        journey = self._strategy.journey
        if journey is not None:
            journey.step = self._steps(batch + 1)
        if batch + 1 == self._job.steps_per_epoch:
            taken = batch + 1 - self._first_step
            self._speed.end(taken, exchange=self._strategy.exchange_fraction())
            self._first_step = 0
            # Now, as the validation rows are judged before the end of the epoch is announced.
            self._strategy.settle(self._state())
        elif journey is not None and journey.is_due(batch + 1):
            self._commit(batch + 1, journey)
        now = time.monotonic()
        if now >= self._next_report:
            self._next_report = now + _REPORT_EVERY_SECONDS
            self._reporter.step_done(batch + 1)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Log, judge and save the epoch."""
        values = self._strategy.mean({n: float(value) for n, value in (logs or {}).items()})
        self._require_finite_loss(values["loss"], step=self._job.steps_per_epoch)
        weights = [weight.numpy() for weight in self._weights]
        self._require_finite_weights(weights)
        held = [*self._job.model.trainable_variables, *self._state()]
        require_alike(self._strategy, held, when=f"after epoch {epoch + 1}")
        self._look_once()
        values["learning_rate"] = float(
            keras.backend.get_value(self._job.model.optimizer.learning_rate)
        )
        if self._strategy.replicas > 1 or self._strategy.journey is not None:
            rows_per_step = self._job.train.examples / self._job.steps_per_epoch
            values.update(self._speed.logs(rows_per_step))
        self.progress.epochs_done, self.progress.steps_done = epoch + 1, 0
        for name, value in values.items():
            self.progress.history.setdefault(name, []).append(value)
        self._adapt_rate(values)
        if self._job.at_target(self._job.model):
            self._judge(values, weights)
        if self._logs is not None:
            self._logs.write(values, epoch + 1)
        self._reporter.epoch_done(epoch + 1, values)
        if self._file is not None:
            self._file.write(self._snapshot(weights))
        if self._strategy.journey is not None:
            self._strategy.journey.commit()

    def keep_weights(self) -> None:
        """Leave in the model the weights that the settings ask for."""
        model, settings = self._job.model, self._job.settings
        if settings.optimizer.ema is not None:
            # fit() has done this, unless every epoch was done before a resume.
            model.optimizer.finalize_variable_values(model.trainable_variables)
            # The average is taken before constraints, so it has not their zeros.
            for variable in model.trainable_variables:
                if variable.constraint is not None:
                    variable.assign(variable.constraint(variable))
        if self._best:
            self._reporter.message(f"kept the weights of epoch {self.progress.best_epoch}")
            _assign(self._weights, self._best)
        elif settings.keep == "best":
            self._reporter.warning(
                "no epoch reached the target of the step, so the weights of the last one are kept"
            )

    def _commit(self, step: int, journey: Journey) -> None:
        """Keep the state within an epoch, equal on all replicas."""
        self._strategy.settle(self._state())
        held = [*self._job.model.trainable_variables, *self._state()]
        require_alike(self._strategy, held, when=f"after step {step}")
        weights = [weight.numpy() for weight in self._weights]
        self._require_finite_weights(weights)
        self.progress.steps_done = step
        if self._file is not None:
            self._file.write(self._snapshot(weights))
        journey.commit()

    def _steps(self, step: int) -> int:
        """Return the steps of the stage up to a step of the epoch in hand."""
        return self.progress.epochs_done * self._job.steps_per_epoch + step

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
            rate = max(values["learning_rate"] * schedule.decay, schedule.peak * schedule.floor)
            self._job.model.optimizer.learning_rate.assign(rate)
            progress.rate_wait = 0

    def _judge(self, values: Mapping[str, float], weights: Arrays) -> None:
        """Choose the best epoch, and stop; called for epochs at target only."""
        settings, progress = self._job.settings, self.progress
        if settings.keep == "best":
            score = self._score(values, self._judged_by())
            if progress.best_score is None or score > progress.best_score:
                progress.best_score, progress.best_epoch = score, progress.epochs_done
                self._best = weights
        stopping = settings.early_stopping
        if stopping is None:
            return
        score = self._score(values, stopping.monitor)
        if progress.score_to_beat is None or score > progress.score_to_beat + stopping.min_delta:
            progress.score_to_beat, progress.epochs_since = score, 0
            return
        progress.epochs_since += 1
        if progress.epochs_since >= stopping.patience:
            progress.stopped = True
            self._job.model.stop_training = True
            self._reporter.message(f"stopped early after epoch {progress.epochs_done}")

    def _state(self) -> list[Any]:
        """Return what is not trained, without sums of metrics, which each replica has of its own.

        tf_keras counts the metrics of a model with its own training step among its weights.
        """
        model = self._job.model
        sums = {id(variable) for metric in model.metrics for variable in metric.variables}
        return [v for v in model.non_trainable_variables if id(v) not in sums]

    def _judged_by(self) -> str:
        """Return what the best epoch is best in: never the training loss."""
        stopping = self._job.settings.early_stopping
        return stopping.monitor if stopping and stopping.monitor != "loss" else "val_metric"

    def _score(self, values: Mapping[str, float], monitor: str) -> float:
        """Return a logged value, signed so that larger is better; NaN is worst."""
        metric = self._job.task.metric
        name = f"val_{metric.name}" if monitor == "val_metric" else monitor
        is_larger_better = monitor == "val_metric" and metric.higher_is_better
        score = values[name] if is_larger_better else -values[name]
        return -math.inf if math.isnan(score) else score

    def _snapshot(self, weights: Arrays) -> Checkpoint:
        return Checkpoint(
            progress=copy.deepcopy(self.progress),
            weights=weights,
            optimizer=[variable.numpy() for variable in state_of(self._job.model.optimizer)],
            best=self._best,
        )

    def _look_once(self) -> None:
        if self._has_looked:
            return
        self._has_looked = True
        if self._randomness.look() and self._job.jit_compile:
            self._reporter.warning(
                "a layer draws with tf.random.*, which XLA (jit_compile) never repeats; use "
                "tf.random.Generator or stateless ops for a run that repeats bit for bit"
            )

    def _require_finite_loss(self, loss: float, *, step: int) -> None:
        if not math.isfinite(loss):
            raise self._lost(f"The loss became {loss}", f", by step {step}")

    def _require_finite_weights(self, weights: Arrays) -> None:
        for variable, values in zip(self._weights, weights, strict=True):
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                name = variable.name.removesuffix(":0")
                raise self._lost(
                    f"The weight {name!r} became NaN or infinite", ", by the last step"
                )

    def _lost(self, what: str, step: str) -> TrainingError:
        done = self.progress.epochs_done
        kept = f" The state after epoch {done} is kept." if done and self._file else ""
        return TrainingError(
            f"{what} in epoch {done + 1}{step} of {self._job.steps_per_epoch}. Lower the learning "
            f"rate, clip gradients (gradient_clip), or look for extreme values in the data.{kept}"
        )


def _assign(variables: Sequence[Any], arrays: Arrays) -> None:
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
