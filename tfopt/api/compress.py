"""The Python functions of tfopt: a model in, a better model or measured evidence out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tfopt.api.distill import distill
from tfopt.api.fine_tune import LARGEST_SEED, fine_tune
from tfopt.bridge.provenance import carry, conversion_of
from tfopt.bridge.to_keras3.convert import to_keras3
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.compression import strip as stripping
from tfopt.compression.keras3 import SAVED_OBJECTS, like_source
from tfopt.compression.preserve import require_unwrapped
from tfopt.config.load import parse_section
from tfopt.config.schema import (
    Augment,
    ClusterStep,
    LitertExport,
    Precision,
    PruneStep,
    QuantizeStep,
    Section,
    Step,
)
from tfopt.data.labels import as_class_numbers
from tfopt.data.split import Split, split_from
from tfopt.data.text.load import tokenize
from tfopt.distillation.cache import cache_teacher
from tfopt.distillation.distiller import Distiller
from tfopt.distributed.elastic.fit import fit_elastic
from tfopt.distributed.elastic.settings import Elastic, ElasticResult
from tfopt.distributed.horovod.optimizer import DistributedOptimizer
from tfopt.distributed.horovod.tape import DistributedGradientTape
from tfopt.errors import DataError, GateMissed, InputError
from tfopt.evaluation.metrics import TaskMetric
from tfopt.keras2.core import Model, is_keras3
from tfopt.models.load import load_model, save_model
from tfopt.models.shapes import outputs
from tfopt.models.transformers.build import from_checkpoint
from tfopt.models.transformers.initialization import initialization_of
from tfopt.models.transformers.likelihood import sequence_log_likelihood
from tfopt.models.transformers.settings import Shape, Task, Text
from tfopt.pipeline.exports import ExportJob, make_and_measure
from tfopt.reporting.console import make_reporter
from tfopt.reporting.text import metric_words
from tfopt.reporting.verdict import meets_gate
from tfopt.results import Artifact
from tfopt.training.compression_step import make_pass, step_context, target_text
from tfopt.training.job import FitJob
from tfopt.training.labelled import labelled_split, task_of
from tfopt.training.loop import fit
from tfopt.training.task import read_task, require_inputs

__all__ = [
    "Distiller",
    "DistributedGradientTape",
    "DistributedOptimizer",
    "Elastic",
    "ElasticResult",
    "cache_teacher",
    "cluster",
    "conversion_of",
    "distill",
    "export_litert",
    "fine_tune",
    "fit_elastic",
    "initialization_of",
    "load",
    "load_transformer",
    "prune",
    "quantize",
    "save",
    "sequence_log_likelihood",
    "strip",
    "to_keras3",
    "to_tf_keras",
    "tokenize",
]


def load(
    path: str | Path, *, custom_objects: Mapping[str, Any] | None = None, trust: bool = False
) -> Model:
    """Return a saved model as a tf_keras model, also one in the middle of a step.

    Which Keras saved it is said on the logger ``tfopt`` at level INFO. Of a Keras 3 model,
    ``conversion_of(model)`` returns the evidence that nothing changed.

    Args:
        path: A ``.keras`` or ``.h5`` file of either Keras, or a SavedModel folder.
        custom_objects: The user's own classes, by name.
        trust: Whether Python code in the file (a Lambda) may run.

    Returns:
        The model, not compiled. Masks, 2:4 settings, shared values and ranges are as
        they were saved.

    Raises:
        ModelError: If the file is missing or damaged, or holds code and is not trusted.
        VerificationError: If the conversion from Keras 3 changed what the model computes.
    """
    return load_model(path, custom_objects={**SAVED_OBJECTS, **(custom_objects or {})}, trust=trust)


def load_transformer(
    checkpoint: str | Path,
    *,
    head: Literal[
        "classification", "token_classification", "language_model", "embedding"
    ] = "classification",
    classes: int | None = None,
    tokens: int | None = None,
    token_types: bool = False,
    layers: int | Sequence[int] | None = None,
    hidden: int | None = None,
    heads: int | None = None,
    intermediate: int | None = None,
    embedding_rank: int | None = None,
    dropout: float | None = None,
    pooling: Literal["mean", "first", "last"] | None = None,
) -> Model:
    """Return a pretrained BERT, DistilBERT, RoBERTa or GPT-2 as a model of plain tf_keras layers.

    Its inputs are a dict of int32 arrays ``(rows, tokens)``: ``input_ids``, ``attention_mask`` (1
    for a real token; padding stands on the right) and, if asked for, ``token_type_ids``. It
    saves and loads without tfopt. ``initialization_of(model)`` says of every layer whether its
    weights are pretrained.

    Args:
        checkpoint: ``minilm-l6``, or a folder with ``config.json`` and safetensors or PyTorch
            files.
        head: What the model gives: logits of the text, of each token, or over the vocabulary
            for each token; or a vector of length 1.
        classes: Width of a classification head; None for one number.
        tokens: Tokens of every text; None for any number.
        token_types: Whether ``token_type_ids`` are an input, for pairs of sentences.
        layers: Keep the first so many blocks, or those of these numbers.
        hidden: A smaller width. What does not fit any more has random weights.
        heads: Fewer attention heads.
        intermediate: A smaller width inside the feed-forward parts.
        embedding_rank: Width of the table of tokens, before a projection to ``hidden``.
        dropout: Fraction dropped in training; None for what the checkpoint says.
        pooling: How tokens become one vector; ``mean`` in encoders and ``last`` in GPT-2 by
            default.

    Returns:
        The model, not compiled.

    Raises:
        InputError: If an argument is impossible, or config or weights cannot be used.
        BackendMissing: If the packaged model or safetensors is not installed.
    """
    return from_checkpoint(
        checkpoint,
        Shape(layers, hidden, heads, intermediate, embedding_rank, dropout),
        Task(head, outputs(classes, builder="load_transformer"), pooling),
        Text(tokens, token_types),
    )


def save(model: Any, path: str | Path) -> None:
    """Save a model, plain or in the middle of a step, whole or not at all.

    Args:
        model: A built model of either Keras.
        path: A ``.keras`` or ``.h5`` file; an existing one is replaced.

    Raises:
        StorageError: If it cannot be written.
        ModelError: If it is not a Keras model.
    """
    save_model(model, path)


def strip(model: Any) -> Any:
    """Return the plain floating-point model inside one that a step has changed.

    Zeros and shared values are in its kernels; 8-bit ranges are gone.

    Args:
        model: A model of either Keras: in the middle of a step, or from ``quantize``.

    Returns:
        A plain model of the same Keras.

    Raises:
        ModelError: If it is not a Functional or Sequential model.
    """
    twin = to_tf_keras(model)
    finished = carry(twin, stripping.strip(twin))
    return to_keras3(finished) if is_keras3(model) else finished


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


def export_litert(
    model: Any,
    path: str | Path,
    *,
    precision: Precision = "int8",
    calibration: Any = None,
    evaluation: Any = None,
    max_drop: float | None = None,
    select_tf_ops: bool = False,
    overwrite: bool = False,
) -> Artifact:
    """Write a ``.tflite`` file, run it, and return what was measured on it.

    Args:
        model: A model of either Keras, plain or from ``quantize``.
        path: The file to write.
        precision: Number format; see ``LitertExport``.
        calibration: Training inputs for integer precisions: arrays, ``(x, y)`` or a
            batched ``tf.data.Dataset``. A model from ``quantize`` needs none.
        evaluation: ``(x, y)`` or a batched dataset: every row is run through the file
            and through the model. None skips metric and output comparison.
        max_drop: Largest allowed drop of the metric, in metric units.
        select_tf_ops: Allow TensorFlow ops that the built-in set lacks.
        overwrite: Replace an existing file.

    Returns:
        Sizes, metric, drop with its interval, output difference, operators, latency.

    Raises:
        DataError: If calibration or evaluation rows cannot be used.
        StorageError: If the file exists or cannot be written.
        ExportError: If the conversion fails or the file does not run.
        VerificationError: If the file is not what was asked for.
        GateMissed: If the metric drops by more than ``max_drop``; the file is kept.
    """
    model = to_tf_keras(model)
    if max_drop is not None and evaluation is None:
        raise InputError("max_drop needs evaluation=(x, y) to measure the drop on.")
    given = {"precision": precision, "select_tf_ops": select_tf_ops}
    settings = parse_section(LitertExport, given, origin="tfopt.export_litert")
    job = ExportJob(model=model, path=Path(path), settings=settings, overwrite=overwrite)
    if calibration is not None:
        job = replace(job, calibration=split_from(calibration, what="calibration data"))
    if evaluation is not None:
        rows, metric = _evaluation_split(model, evaluation)
        # Calibration rows of another scale than the evaluation rows are a mistake.
        job = replace(job, evaluation=rows, training=rows, metric=metric)
        if max_drop is not None and metric is None:
            raise DataError(
                "max_drop needs a metric: evaluation=(x, y) with labels, and a model with one "
                "output."
            )
    artifact = make_and_measure(job)
    if meets_gate(artifact, max_drop) is False:
        raise GateMissed(
            f"The {metric_words(artifact.metric_name)} of {path} is worse by {artifact.drop:.4f}; "
            f"the gate allows {max_drop:.4f}. The file is kept."
        )
    return artifact


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


def _evaluation_split(model: Model, evaluation: Any) -> tuple[Split, TaskMetric | None]:
    split = split_from(evaluation, what="evaluation data", fixed_order=True)
    require_inputs(model, split, what="evaluation data")
    if not split.has_labels or len(model.outputs) != 1:
        return split, None
    task = task_of(model, split)
    labelled, classes = as_class_numbers(split, task=task, what="evaluation data")
    return labelled, read_task(model, labelled, classes=classes).metric
