"""``tfopt.fine_tune``: transfer learning from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tfopt.api.run import NamedStep, Ready, Training, run_step
from tfopt.config.schema import Train
from tfopt.keras2 import graph
from tfopt.keras2.core import Model
from tfopt.training.float_step import train_float


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
    optimizer: str | Mapping[str, Any] = "adam",
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
    strategy: Any = "auto",
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
        optimizer: Name, or settings as in a recipe.
        learning_rate: Peak of a cosine schedule.
        batch_size: Examples in a step, of all replicas together.
        seed: Seed of the order of examples and of adapters.
        strategy: How training is spread; see ``prune``.
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
    how = Training(
        optimizer=optimizer,
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
        strategy=strategy,
        verbose=verbose,
    )
    transfer = {name: value for name, value in given.items() if value is not None}
    settings = how.settings("fine_tune", Train, {"epochs": epochs, "transfer": transfer})

    def run(ready: Ready) -> Model:
        job = replace(ready.job, model=graph.copy(ready.job.model))
        return train_float(job, ready.reporter, transfer=settings.transfer).model

    return run_step(NamedStep("fine_tune", settings), model, train, how, run)


def _unfreeze(given: int | Sequence[int] | Mapping[str, Any] | None) -> Any:
    if given is None or isinstance(given, Mapping):
        return given
    return {"every_epochs": given} if isinstance(given, int) else {"at_epochs": list(given)}
