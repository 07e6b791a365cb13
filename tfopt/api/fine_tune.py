"""``tfopt.fine_tune``: transfer learning from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfopt.bridge.provenance import carry
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.compression.keras3 import like_source
from tfopt.compression.preserve import require_unwrapped
from tfopt.compression.pruning.zero_constraint import require_trainable
from tfopt.config.load import parse_section
from tfopt.config.schema import Augment, Train
from tfopt.errors import InputError
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, is_keras3
from tfopt.reporting.console import make_reporter
from tfopt.training.job import FitJob
from tfopt.training.labelled import labelled_split
from tfopt.training.transfer.fine_tune import fit_transfer

LARGEST_SEED = 2**31 - 1


def fine_tune(
    model: Any,
    train: Any,
    *,
    freeze: str | Sequence[str] | None = None,
    head: str | Sequence[str] | None = None,
    unfreeze: int | Sequence[int] | Mapping[str, Any] | None = None,
    learning_rates: Mapping[str, float] | None = None,
    layer_decay: float | None = None,
    lora: int | Mapping[str, Any] | None = None,
    keep_pretrained: float | Mapping[str, Any] | None = None,
    epochs: int = 3,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
    verbose: bool = False,
) -> Any:
    """Return a copy of a model fine-tuned from the weights it has; see ``Transfer``.

    Args:
        model: A Functional or Sequential model of either Keras; it is not changed.
        train: ``(x, y)`` arrays or a batched ``tf.data.Dataset``.
        freeze: Patterns of layers that do not change; ``backbone`` is all but the head.
        head: Patterns of the head's layers; None takes what follows the last pooling.
        unfreeze: Unfreeze a group after each so many epochs, or after the given epochs,
            from the head down; or the settings of ``Unfreeze``.
        learning_rates: Layer-name pattern to multiplier of the learning rate.
        layer_decay: Each block's multiplier over that of the block above it.
        lora: Rank of low-rank adapters, or the settings of ``Lora``.
        keep_pretrained: Strength of L2-SP, or the settings of ``KeepPretrained``.
        epochs: Epochs of training, ``>= 1``.
        learning_rate: Peak of a cosine schedule for Adam.
        batch_size: Examples in a step.
        seed: Seed of the order of examples and of adapters.
        verbose: Show progress on standard error.

    Returns:
        A plain model of the same architecture; nested tf_keras models come back opened.

    Raises:
        InputError: If a setting is impossible, or data or model cannot be used.
        VerificationError: If frozen weights changed, trained ones did not, or merged
            adapters compute something else.
    """
    given = {
        "freeze": freeze,
        "head": head,
        "unfreeze": _unfreeze(unfreeze),
        "learning_rates": dict(learning_rates or {}),
        "layer_decay": layer_decay,
        "lora": lora if lora is None or isinstance(lora, Mapping) else {"rank": lora},
        "keep_pretrained": keep_pretrained
        if keep_pretrained is None or isinstance(keep_pretrained, Mapping)
        else {"l2_sp": keep_pretrained},
    }
    settings = parse_section(
        Train,
        {
            "epochs": epochs,
            "learning_rate": {"schedule": "cosine", "peak": learning_rate},
            "transfer": {name: value for name, value in given.items() if value is not None},
        },
        origin="tfopt.fine_tune",
    )
    twin = to_tf_keras(model)
    require_unwrapped(twin, step="fine_tune")
    require_trainable(twin)
    finished = graph.copy(twin)
    _train(finished, train, settings, batch_size=batch_size, seed=seed, verbose=verbose)
    finished = carry(twin, finished)
    return like_source(twin, finished) if is_keras3(model) else finished


def _unfreeze(given: int | Sequence[int] | Mapping[str, Any] | None) -> Any:
    if given is None or isinstance(given, Mapping):
        return given
    return {"every_epochs": given} if isinstance(given, int) else {"at_epochs": list(given)}


def _train(
    model: Model, train: Any, settings: Train, *, batch_size: int, seed: int, verbose: bool
) -> None:
    """Train a flat model in place; which of its layers are trainable stays as it is."""
    if settings.transfer is None:
        raise InputError("Nothing is asked for; set freeze, unfreeze, lora or another setting.")
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"seed must be from 0 to {LARGEST_SEED}. Received: {seed}.")
    split, task = labelled_split(model, train)
    copied, bring_back = graph.twin(model)
    job = FitJob(
        model=copied,
        train=split,
        validation=None,
        settings=settings,
        task=task,
        batch_size=batch_size,
        augment=Augment(),
        seed=seed,
    )
    reporter = make_reporter(quiet=not verbose)
    reporter.stage_started(
        "train",
        number=1,
        total=1,
        epochs=settings.epochs,
        steps_per_epoch=job.steps_per_epoch,
        target="",
    )
    try:
        fit_transfer(job, settings.transfer, reporter)
    finally:
        reporter.close()
    bring_back()
