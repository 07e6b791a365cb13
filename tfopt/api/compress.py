"""``tfopt.prune``, ``tfopt.cluster`` and ``tfopt.quantize``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tfopt.api.fine_tune import LARGEST_SEED
from tfopt.bridge.provenance import carry
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.compression.keras3 import like_source
from tfopt.compression.preserve import require_unwrapped
from tfopt.config.load import parse_section
from tfopt.config.schema import (
    Augment,
    ClusterStep,
    PruneStep,
    QuantizeStep,
    Section,
    Step,
)
from tfopt.errors import InputError
from tfopt.keras2.core import Model, is_keras3
from tfopt.reporting.console import make_reporter
from tfopt.training.compression_step import make_pass, step_context, target_text
from tfopt.training.job import FitJob
from tfopt.training.labelled import labelled_split
from tfopt.training.loop import fit


def prune(
    model: Any,
    train: Any,
    *,
    sparsity: float = 0.8,
    layers: Mapping[str, float] | None = None,
    pattern: Literal["unstructured", "2:4"] = "unstructured",
    epochs: int = 2,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
    verbose: bool = False,
) -> Any:
    """Return a copy of a model with most weights zero, trained meanwhile.

    Args:
        model: A Functional or Sequential model of either Keras; it is not changed.
        train: ``(x, y)`` arrays or a batched ``tf.data.Dataset``.
        sparsity: Fraction of each kernel that becomes zero, in ``(0, 1)``.
        layers: Layer-name pattern to its own sparsity; 0 leaves a layer alone.
        pattern: ``2:4`` keeps two weights in each four input channels instead.
        epochs: Epochs of training, ``>= 1``.
        learning_rate: Peak of a cosine schedule for Adam.
        batch_size: Examples in a step.
        seed: Seed of the order of examples.
        verbose: Show progress on standard error.

    Returns:
        A plain model whose zeros were counted.

    Raises:
        InputError: If a setting is impossible, or data or model cannot be used.
        VerificationError: If the zeros are missing at the end.
    """
    given: dict[str, Any] = {"layers": dict(layers or {}), "epochs": epochs, "pattern": pattern}
    if pattern == "unstructured":
        given["sparsity"] = sparsity
    settings = _settings("prune", PruneStep, learning_rate, given)
    job = _Training(batch_size=batch_size, seed=seed, verbose=verbose)
    return _in_kind(model, train, Step(prune=settings), job)


def cluster(
    model: Any,
    train: Any,
    *,
    clusters: int = 16,
    layers: Mapping[str, int] | None = None,
    per_channel: bool = False,
    epochs: int = 1,
    learning_rate: float = 3e-4,
    batch_size: int = 64,
    seed: int = 0,
    verbose: bool = False,
) -> Any:
    """Return a copy of a model whose kernels each hold a few distinct values.

    Zeros of a pruned model stay zero.

    Args:
        model: A Functional or Sequential model of either Keras; it is not changed.
        train: ``(x, y)`` arrays or a batched ``tf.data.Dataset``.
        clusters: Distinct values a kernel may hold, zero included, ``>= 2``.
        layers: Layer-name pattern to its own number; 0 leaves a layer alone.
        per_channel: Give each output channel of a convolution its own values.
        epochs: Epochs of training of the values, ``>= 0``.
        learning_rate: Peak of a cosine schedule for Adam.
        batch_size: Examples in a step.
        seed: Seed of the order of examples.
        verbose: Show progress on standard error.

    Returns:
        A plain model whose distinct values were counted.

    Raises:
        InputError: If a setting is impossible, or data or model cannot be used.
        VerificationError: If there are too many values, or zeros were lost.
    """
    given = {
        "clusters": clusters,
        "layers": dict(layers or {}),
        "per_channel": per_channel,
        "epochs": epochs,
    }
    settings = _settings("cluster", ClusterStep, learning_rate, given)
    job = _Training(batch_size=batch_size, seed=seed, verbose=verbose)
    return _in_kind(model, train, Step(cluster=settings), job)


def quantize(
    model: Any,
    train: Any,
    *,
    epochs: int = 1,
    skip: Sequence[str] = (),
    learning_rate: float = 1e-4,
    batch_size: int = 64,
    seed: int = 0,
    verbose: bool = False,
) -> Any:
    """Return a copy of a model that emulates 8-bit arithmetic, for ``export_litert``.

    Ranges are calibrated first, so zero epochs are post-training quantization. Zeros
    and shared values of a pruned or clustered model are kept.

    Args:
        model: A Functional or Sequential model of either Keras; it is not changed.
        train: ``(x, y)`` arrays or a batched ``tf.data.Dataset``.
        epochs: Epochs of training, ``>= 0``.
        skip: Patterns of layer names left in floating point.
        learning_rate: Peak of a cosine schedule for Adam.
        batch_size: Examples in a step.
        seed: Seed of the order of examples.
        verbose: Show progress on standard error.

    Returns:
        A model with trained ranges.

    Raises:
        InputError: If a setting is impossible, or data or model cannot be used.
        VerificationError: If ranges are stale, or zeros or shared values were lost.
    """
    given = {"epochs": epochs, "skip": skip}
    settings = _settings("quantize", QuantizeStep, learning_rate, given)
    job = _Training(batch_size=batch_size, seed=seed, verbose=verbose)
    return _in_kind(model, train, Step(quantize=settings), job)


@dataclass(frozen=True, slots=True)
class _Training:
    """How a step of the Python functions trains."""

    batch_size: int
    seed: int
    verbose: bool


def _in_kind(model: Any, train: Any, step: Step, how: _Training) -> Any:
    """Return the result of a step in the Keras that went in."""
    twin = to_tf_keras(model)
    finished = carry(twin, _compress(twin, train, step, how))
    return like_source(twin, finished) if is_keras3(model) else finished


def _compress(model: Model, train: Any, step: Step, how: _Training) -> Model:
    require_unwrapped(model, step=step.name)
    if not 0 <= how.seed <= LARGEST_SEED:
        raise InputError(f"seed must be from 0 to {LARGEST_SEED}. Received: {how.seed}.")
    split, task = labelled_split(model, train)
    compression = make_pass(step)
    context = step_context(split, step.settings, batch_size=how.batch_size, seed=how.seed)
    wrapped = compression.wrap(model, context)
    job = FitJob(
        model=wrapped,
        train=split,
        validation=None,
        settings=step.settings,
        task=task,
        batch_size=how.batch_size,
        augment=Augment(),
        seed=how.seed,
        callbacks=compression.callbacks(),
        at_target=compression.at_target,
    )
    reporter = make_reporter(quiet=not how.verbose)
    reporter.stage_started(
        step.name,
        number=1,
        total=1,
        epochs=step.settings.epochs,
        steps_per_epoch=job.steps_per_epoch,
        target=target_text(step),
    )
    try:
        fit(job, reporter)
    finally:
        reporter.close()
    finished = compression.unwrap(wrapped)
    compression.measure(model, finished, context)
    return finished


def _settings(
    function: str, section: type[Section], learning_rate: float, given: Mapping[str, Any]
) -> Any:
    """Return validated step settings, with errors in our own words."""
    rate = {"schedule": "cosine", "peak": learning_rate}
    return parse_section(section, {**given, "learning_rate": rate}, origin=f"tfopt.{function}")
