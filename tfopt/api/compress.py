"""``tfopt.prune``, ``tfopt.cluster`` and ``tfopt.quantize``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tfopt.api.run import NamedStep, Ready, Training, run_step
from tfopt.config.schema import ClusterStep, PruneStep, QuantizeStep, Step
from tfopt.distillation.step import beside_teacher, mask_of
from tfopt.errors import InputError
from tfopt.keras2.core import Model
from tfopt.training.compression_step import compress, make_pass, step_context, target_text


def prune(
    model: Any,
    train: Any,
    *,
    sparsity: float = 0.8,
    layers: Mapping[str, float] | None = None,
    pattern: Literal["unstructured", "2:4"] = "unstructured",
    teacher: Any = None,
    alpha: float | Mapping[str, Any] | None = None,
    temperature: float | Mapping[str, Any] | None = None,
    epochs: int = 2,
    optimizer: str | Mapping[str, Any] = "adam",
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
    strategy: Any = "auto",
    verbose: bool = False,
) -> Any:
    """Return a copy of a model with most weights zero, trained meanwhile.

    Args:
        model: A Functional or Sequential model of either Keras; it is not changed.
        train: ``(x, y)`` arrays or a batched ``tf.data.Dataset``.
        sparsity: Fraction of each kernel that becomes zero, in ``(0, 1)``.
        layers: Layer-name pattern to its own sparsity; 0 leaves a layer alone.
        pattern: ``2:4`` keeps two weights in each four input channels instead.
        teacher: What ``distill`` takes as a teacher, such as the float model; None learns from
            the labels alone.
        alpha: Weight of the labels beside it, in ``[0, 1]``, or a schedule; 0.1 by default.
        temperature: Temperature of its soft targets, ``> 0``, or a schedule; 4 by default.
        epochs: Epochs of training, ``>= 1``.
        optimizer: Name, or settings as in a recipe.
        learning_rate: Peak of a cosine schedule.
        batch_size: Examples in a step, of all replicas together.
        seed: Seed of the order of examples.
        strategy: How training is spread: what this process was launched for (``auto``),
            ``single``, ``mirrored``, ``multi_worker`` or ``horovod``, or a strategy of
            ``tf.distribute``. Every process gives the same arguments, with all rows, and gets
            the same weights.
        verbose: Show progress on standard error.

    Returns:
        A plain model whose zeros were counted.

    Raises:
        InputError: If a setting is impossible, data or model cannot be used, or processes do
            not give the same.
        VerificationError: If the zeros are missing at the end.
    """
    given: dict[str, Any] = {
        "layers": dict(layers or {}),
        "pattern": pattern,
        "epochs": epochs,
        **_taught(teacher, alpha, temperature, epochs=epochs),
    }
    if pattern == "unstructured":
        given["sparsity"] = sparsity
    how = Training(
        optimizer=optimizer,
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
        strategy=strategy,
        verbose=verbose,
        teacher=teacher,
    )
    return _compressed(Step(prune=how.settings("prune", PruneStep, given)), model, train, how)


def cluster(
    model: Any,
    train: Any,
    *,
    clusters: int = 16,
    layers: Mapping[str, int] | None = None,
    per_channel: bool = False,
    teacher: Any = None,
    alpha: float | Mapping[str, Any] | None = None,
    temperature: float | Mapping[str, Any] | None = None,
    epochs: int = 1,
    optimizer: str | Mapping[str, Any] = "adam",
    learning_rate: float = 3e-4,
    batch_size: int = 64,
    seed: int = 0,
    strategy: Any = "auto",
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
        teacher: What ``distill`` takes as a teacher, such as the float model; None learns from
            the labels alone.
        alpha: Weight of the labels beside it, in ``[0, 1]``, or a schedule; 0.1 by default.
        temperature: Temperature of its soft targets, ``> 0``, or a schedule; 4 by default.
        epochs: Epochs of training of the values, ``>= 0``.
        optimizer: Name, or settings as in a recipe.
        learning_rate: Peak of a cosine schedule.
        batch_size: Examples in a step, of all replicas together.
        seed: Seed of the order of examples.
        strategy: How training is spread: what this process was launched for (``auto``),
            ``single``, ``mirrored``, ``multi_worker`` or ``horovod``, or a strategy of
            ``tf.distribute``. Every process gives the same arguments, with all rows, and gets
            the same weights.
        verbose: Show progress on standard error.

    Returns:
        A plain model whose distinct values were counted.

    Raises:
        InputError: If a setting is impossible, data or model cannot be used, or processes do
            not give the same.
        VerificationError: If there are too many values, or zeros were lost.
    """
    given = {
        "clusters": clusters,
        "layers": dict(layers or {}),
        "per_channel": per_channel,
        "epochs": epochs,
        **_taught(teacher, alpha, temperature, epochs=epochs),
    }
    how = Training(
        optimizer=optimizer,
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
        strategy=strategy,
        verbose=verbose,
        teacher=teacher,
    )
    return _compressed(Step(cluster=how.settings("cluster", ClusterStep, given)), model, train, how)


def quantize(
    model: Any,
    train: Any,
    *,
    teacher: Any = None,
    alpha: float | Mapping[str, Any] | None = None,
    temperature: float | Mapping[str, Any] | None = None,
    epochs: int = 1,
    skip: Sequence[str] = (),
    optimizer: str | Mapping[str, Any] = "adam",
    learning_rate: float = 1e-4,
    batch_size: int = 64,
    seed: int = 0,
    strategy: Any = "auto",
    verbose: bool = False,
) -> Any:
    """Return a copy of a model that emulates 8-bit arithmetic, for ``export_litert``.

    Ranges are calibrated first, so zero epochs are post-training quantization. Zeros
    and shared values of a pruned or clustered model are kept.

    Args:
        model: A Functional or Sequential model of either Keras; it is not changed.
        train: ``(x, y)`` arrays or a batched ``tf.data.Dataset``.
        teacher: What ``distill`` takes as a teacher, such as the float model; None learns from
            the labels alone.
        alpha: Weight of the labels beside it, in ``[0, 1]``, or a schedule; 0.1 by default.
        temperature: Temperature of its soft targets, ``> 0``, or a schedule; 4 by default.
        epochs: Epochs of training, ``>= 0``.
        skip: Patterns of layer names left in floating point.
        optimizer: Name, or settings as in a recipe.
        learning_rate: Peak of a cosine schedule.
        batch_size: Examples in a step, of all replicas together.
        seed: Seed of the order of examples.
        strategy: How training is spread: what this process was launched for (``auto``),
            ``single``, ``mirrored``, ``multi_worker`` or ``horovod``, or a strategy of
            ``tf.distribute``. Every process gives the same arguments, with all rows, and gets
            the same weights.
        verbose: Show progress on standard error.

    Returns:
        A model with trained ranges.

    Raises:
        InputError: If a setting is impossible, data or model cannot be used, or processes do
            not give the same.
        VerificationError: If ranges are stale, or zeros or shared values were lost.
    """
    given = {
        "skip": skip,
        "epochs": epochs,
        **_taught(teacher, alpha, temperature, epochs=epochs),
    }
    how = Training(
        optimizer=optimizer,
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
        strategy=strategy,
        verbose=verbose,
        teacher=teacher,
    )
    return _compressed(
        Step(quantize=how.settings("quantize", QuantizeStep, given)), model, train, how
    )


def _compressed(step: Step, model: Any, train: Any, how: Training) -> Any:
    settings: Any = step.settings

    def run(ready: Ready) -> Model:
        job, split = ready.job, ready.split
        context = step_context(split, settings, batch_size=job.batch_size, seed=job.seed)
        distiller = beside_teacher(
            ready.teachers or None,
            settings.teacher,
            total_steps=context.total_steps,
            mask=mask_of(split),
        )
        made = compress(make_pass(step), context, job, ready.reporter, beside_teacher=distiller)
        return made.model

    return run_step(NamedStep(step.name, settings, target_text(step)), model, train, how, run)


def _taught(teacher: Any, alpha: Any, temperature: Any, *, epochs: int) -> dict[str, Any]:
    """Return the settings of a teacher, as in a recipe; none without a teacher.

    Raises:
        InputError: If there is no teacher for them, or no epoch in which it could teach.
    """
    given = {"alpha": alpha, "temperature": temperature}
    chosen = {name: value for name, value in given.items() if value is not None}
    if teacher is None and chosen:
        raise InputError(f"{' and '.join(chosen)}: only a teacher has these. Give teacher=, too.")
    if teacher is not None and epochs == 0:
        raise InputError("A teacher teaches while the model trains, and epochs is 0. Raise epochs.")
    return {} if teacher is None else {"teacher": chosen}
