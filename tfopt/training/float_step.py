"""Run the training of the float model: from scratch, or as a ``transfer`` section says."""

from __future__ import annotations

from dataclasses import replace

from tfopt.compression.pruning.zero_constraint import held, require_trainable
from tfopt.config.transfer import Transfer
from tfopt.reporting.console import Reporter
from tfopt.training.compression_step import TrainedModel, training_copy
from tfopt.training.job import FitJob
from tfopt.training.loop import fit
from tfopt.training.transfer.fine_tune import fit_transfer


def train_float(
    job: FitJob, reporter: Reporter, *, transfer: Transfer | None = None, dtype: str | None = None
) -> TrainedModel:
    """Train ``job.model`` in place; the zeros of a pruned model are kept.

    Args:
        job: How to train.
        reporter: Shows every epoch.
        transfer: How training starts from the weights that the model has; None trains all.
        dtype: Policy of the computation; None for float32. Weights stay float32.

    Raises:
        InputError: If the model is clustered, or the settings do not fit it.
        VerificationError: If ``transfer`` did not do what it promised.
        TfoptError: As ``fit``.
    """
    model, strategy = job.model, job.strategy
    require_trainable(model)
    copied, bring_back = training_copy(model, strategy, dtype=dtype)
    own = replace(job, model=copied)
    with held(copied) as kernels:
        if kernels:
            reporter.message(f"the zeros of {kernels} pruned kernels are kept")
        if transfer is None:
            found = TrainedModel(model, None, fit(own, reporter))
        else:
            with strategy.scope():  # adapters are made in it
                tuned = fit_transfer(own, transfer, reporter)
            found = TrainedModel(model, tuned.measured, tuned.history)
    bring_back()
    return found
