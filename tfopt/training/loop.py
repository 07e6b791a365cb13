"""Train one model for one stage: resumable, repeatable, and loud when the loss is lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import tensorflow as tf

from tfopt.config.schema import Fit, PlateauRate
from tfopt.data.epochs import EpochPlan
from tfopt.data.sharding import Share
from tfopt.data.split import Split
from tfopt.distributed.base import agreed
from tfopt.distributed.lost_peers import LOST, reason, reason_of
from tfopt.errors import ModelError, PeersLost, RecipeError, TrainingError
from tfopt.keras2.core import Model, keras
from tfopt.reporting.console import Reporter
from tfopt.training.checkpoint import CheckpointFile
from tfopt.training.epoch_callback import Keeper
from tfopt.training.gradient_accumulation import computed_in_parts
from tfopt.training.job import FitJob
from tfopt.training.optimizers import make_optimizer
from tfopt.training.predict import EVALUATION_BATCH
from tfopt.training.step_loop import Epochs, fit_by_steps
from tfopt.training.tensorboard import EpochLogs


def fit(job: FitJob, reporter: Reporter) -> Mapping[str, list[float]]:
    """Train, from the checkpoint if there is one, and return the epoch logs.

    The best epoch's weights, if they are to be kept, are held in memory beside the
    model's, and so is the state that a checkpoint is written from.

    Args:
        job: What to train. ``job.model`` holds the kept weights afterwards, and is not
            compiled.
        reporter: Told of every epoch.

    Returns:
        Log name to one number an epoch.

    Raises:
        ModelError: If every layer is frozen, or the strategy cannot do what a layer asks for.
        RecipeError: If epochs are to be judged by validation rows that there are not.
        StorageError: If a checkpoint or log cannot be read or written.
        TrainingError: If loss or weights are not finite, or a step fails.
        VerificationError: If replicas do not hold the same weights.
    """
    if job.settings.epochs == 0:
        return {}
    require_validation(job.settings, job.validation)
    model = job.model
    if not model.trainable_variables:
        raise ModelError(
            f"Model {model.name!r} has nothing to train: it has no weights, or every layer is "
            "frozen. Set epochs: 0, or layer.trainable = True."
        )
    _require_whole_batch(job)
    with job.strategy.scope():
        return _fit(job, reporter)


def _fit(job: FitJob, reporter: Reporter) -> Mapping[str, list[float]]:
    model = job.model
    optimizer = make_optimizer(
        job.settings, model, steps_per_epoch=job.steps_per_epoch, rates=job.rates
    )
    if any(layer.compute_dtype == "float16" for layer in model.layers):
        # compile() does this only for a model built under a global mixed_float16 policy.
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    model.compile(
        optimizer=job.strategy.optimizer(optimizer),
        loss=job.task.keras_loss(),
        weighted_metrics=job.task.keras_metrics(),
        jit_compile=job.jit_compile or None,
    )
    model.optimizer.build(model.trainable_variables)
    with ExitStack() as stack:
        file = CheckpointFile(job.checkpoint) if job.checkpoint is not None else None
        logs = EpochLogs(job.log_dir) if job.log_dir is not None else None
        for opened in (logs, file):
            if opened is not None:
                stack.callback(opened.close)
        keeper = Keeper(job, reporter, file=file, logs=logs)
        with agreed(job.strategy):
            keeper.restore()
        keeper.start_alike()
        if not keeper.is_finished:
            with computed_in_parts(model, job.settings.accumulate):
                _run(job, keeper)
    keeper.keep_weights()
    _forget_training(model)
    return keeper.progress.history


def _require_whole_batch(job: FitJob) -> None:
    """Raise if something should see the whole batch, and would silently see a replica's rows.

    tf_keras synchronizes batch normalization over replicas of ``tf.distribute`` alone, and takes
    the mean of a masked loss over the positions of one replica
    (``losses_utils.apply_valid_mask``).

    Raises:
        ModelError: Naming it.
    """
    model, strategy = job.model, job.strategy
    if strategy.replicas == 1:
        return
    is_masked = any(hasattr(output, "_keras_mask") for output in model.outputs or ())
    if is_masked and not job.task.labels.by_position:
        raise ModelError(
            f"The output of model {model.name!r} has a mask, so its loss is the mean over "
            f"positions that are not padding, and {strategy.replicas} replicas would each take "
            "that of their own. Set strategy: {kind: single}, or label each position with a class "
            "number."
        )
    if strategy.copies:
        return
    for layer in model._flatten_layers():
        if getattr(layer, "synchronized", False):
            raise ModelError(
                f"Layer {layer.name!r} has synchronized=True, which tf_keras does under "
                f"tf.distribute only, and strategy.kind is {strategy.name}. Use mirrored or "
                "multi_worker, or freeze the layer, or make it without synchronized."
            )


def require_validation(settings: Fit, validation: Split | None) -> None:
    """Raise if epochs are to be judged by validation rows that there are not.

    Raises:
        RecipeError: Naming the first such setting.
    """
    stopping, rate = settings.early_stopping, settings.learning_rate
    wanted = {
        "keep: best": settings.keep == "best",
        "early_stopping": stopping is not None and stopping.monitor != "loss",
        "learning_rate.monitor: val_loss": isinstance(rate, PlateauRate)
        and rate.monitor == "val_loss",
    }
    for setting, is_wanted in wanted.items():
        if is_wanted and validation is None:
            raise RecipeError(
                f"{setting} needs rows to judge epochs by that are not the reported test rows, and "
                "the data source brings none (such as x_val and y_val, or a val folder); set "
                "data.validation_fraction, for example 0.1."
            )


def _run(job: FitJob, keeper: Keeper) -> None:
    first, strategy = keeper.progress.epochs_done, job.strategy
    plan = EpochPlan(
        batch_size=job.batch_size,
        seed=job.seed,
        first_epoch=first,
        epochs=job.settings.epochs,
        augment=job.augment,
        share=Share(
            strategy.replicas,
            first=strategy.rank * strategy.local_replicas,
            count=strategy.local_replicas,
            parts=job.settings.accumulate,
        ),
    )
    batches = job.train.training_batches(plan)
    if skipped := keeper.progress.steps_done:
        batches = batches.skip(skipped * strategy.local_replicas)
        # What fit() asks for the place to go on from, epoch and step; it has no argument for it.
        job.model._maybe_load_initial_counters_from_ckpt = lambda _, epoch: (epoch, skipped)
    judged = job.validation.batches(EVALUATION_BATCH) if job.validation is not None else None
    callbacks = [*job.callbacks, keeper]
    with _named_errors(keeper, processes=strategy.size):
        steps = strategy.steps_of(job.model)
        if steps is not None:
            if skipped:
                raise RecipeError(
                    f"The checkpoint lies within an epoch (after step {skipped}), and strategy "
                    f"{strategy.name!r} goes on from whole ones. Resume with another strategy."
                )
            epochs = Epochs(batches, job.steps_per_epoch, first, job.settings.epochs, judged)
            fit_by_steps(job.model, steps, epochs, callbacks)
        else:
            job.model.fit(
                strategy.distribute(batches),
                initial_epoch=first,
                epochs=job.settings.epochs,
                steps_per_epoch=job.steps_per_epoch,
                validation_data=strategy.whole(judged) if judged is not None else None,
                validation_steps=_steps(job.validation),
                callbacks=callbacks,
                verbose=0,
            )
    if not keeper.is_finished:
        raise TrainingError(
            f"The training data ran out in epoch {keeper.progress.epochs_done + 1}: fewer than "
            f"{job.steps_per_epoch} batches came."
        )


def _steps(validation: Split | None) -> int | None:
    return None if validation is None else validation.steps_per_epoch(EVALUATION_BATCH)


def _forget_training(model: Model) -> None:
    """Undo ``compile``: optimizer and metrics would be saved with the model, at its own size."""
    model.optimizer = model.compiled_loss = model.compiled_metrics = None
    model.train_function = model.train_tf_function = model.test_function = None
    model._is_compiled = False
    vars(model).pop("_maybe_load_initial_counters_from_ckpt", None)


@contextmanager
def _named_errors(keeper: Keeper, *, processes: int) -> Iterator[None]:
    """Turn an error inside TensorFlow into one line that says when it happened."""
    try:
        yield
    except tf.errors.OpError as error:
        epoch = keeper.progress.epochs_done + 1
        text = f"A training step failed in epoch {epoch}"
        if processes > 1 and isinstance(error, LOST):
            raise PeersLost(
                f"{text}: {reason(error)} Another of the {processes} processes has probably ended: "
                "its error, or its log in the run folder under ranks/, says why. Go on with the "
                "same command and --resume, or let tfopt launch --restarts do it."
            ) from error
        hint = ""
        if isinstance(error, tf.errors.ResourceExhaustedError):
            hint = " The machine is out of memory; lower data.batch_size, or raise accumulate."
        raise TrainingError(f"{text}: {reason_of(error)}.{hint}") from error
