"""Export or verify one model file, outside of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tfopt.compression.keras3 import SAVED_OBJECTS
from tfopt.config.schema import Data, LitertExport
from tfopt.data.load import DataBundle, load_data
from tfopt.errors import DataError
from tfopt.evaluation.latency import measure_latency
from tfopt.evaluation.metrics import Metric, metric_class
from tfopt.evaluation.verify import Evaluation, verify_litert
from tfopt.keras2.core import Model
from tfopt.models.load import load_model
from tfopt.pipeline.exports import ExportJob, make_and_measure
from tfopt.results import Artifact
from tfopt.runtimes import open_litert
from tfopt.runtimes.litert.precision import precision_of
from tfopt.storage import check_target
from tfopt.training.predict import EVALUATION_BATCH, predictor
from tfopt.training.task import read_task, require_inputs

_SEED = 0
_INTEGER_PRECISIONS = ("int8", "int8_io", "int16x8")


def export_file(  # keyword-only options, each with its own default
    model_path: Path,
    path: Path,
    *,
    settings: LitertExport,
    data: Data | None,
    overwrite: bool,
    metric: str = "auto",
    trust: bool = False,
) -> Artifact:
    """Convert a model file; with data, verify and time the result.

    Args:
        model_path: A model saved by either Keras.
        path: The file to write.
        settings: Precision and the like.
        data: Where calibration and evaluation rows come from; None for precisions that
            need no calibration, when only the conversion is checked.
        overwrite: Replace an existing file.
        metric: The metric to score with.
        trust: Whether Python code in the model file may run.

    Returns:
        What was measured.

    Raises:
        InputError: If model, data or path cannot be used.
        ExportError: If the conversion fails.
        VerificationError: If the file is not what was asked for.
    """
    check_target(path, overwrite=overwrite)
    model = load_model(model_path, custom_objects=SAVED_OBJECTS, trust=trust)
    job = ExportJob(model=model, path=path, settings=settings, overwrite=overwrite)
    if data is None:
        return _without_data(job)
    bundle, scoring = _bundle_for(model, data, metric)
    job = replace(
        job,
        calibration=bundle.train,
        training=bundle.train,
        evaluation=bundle.evaluation,
        metric=scoring,
    )
    return make_and_measure(job)


def _without_data(job: ExportJob) -> Artifact:
    try:
        return make_and_measure(job)
    except DataError as error:
        raise DataError(f"{error} That is --data, or a recipe with --config.") from error


def verify_file(
    file: Path,
    model_path: Path,
    *,
    data: Data | None,
    max_relative_error: float | None,
    metric: str = "auto",
    trust: bool = False,
) -> Artifact:
    """Compare a ``.tflite`` file with its source model on all evaluation rows, and time it.

    Args:
        file: The exported file.
        model_path: The model it came from.
        data: Where the evaluation rows come from.
        max_relative_error: Largest allowed output error; by default that of the
            precision the file has.
        metric: The metric to score with.
        trust: Whether Python code in the model file may run.

    Returns:
        What was measured.

    Raises:
        InputError: If a file or the data cannot be used.
        VerificationError: If outputs differ too much.
    """
    if data is None:
        raise DataError("Give the rows to compare on: --data, or a recipe with --config.")
    opened = open_litert(file)
    model = load_model(model_path, custom_objects=SAVED_OBJECTS, trust=trust)
    bundle, scoring = _bundle_for(model, data, metric)
    verification = verify_litert(
        file,
        reference=predictor(model),
        evaluation=Evaluation(batches=_batches(bundle), metric=scoring),
        precision=precision_of(opened),
        max_relative_error=max_relative_error,
        probe=False,
    )
    return replace(verification.artifact, latency_ms=measure_latency(file, probe=False))


def artifact_lines(artifact: Artifact) -> list[str]:
    """Return what was measured on a file, as lines for people."""
    lines = [
        f"{artifact.path}: {artifact.precision}, {artifact.bytes:,} bytes, "
        f"{artifact.gzip_bytes:,} after gzip"
    ]
    if artifact.metric is not None and artifact.metric_name is not None:
        label = metric_class(artifact.metric_name).label
        lines.append(f"{label} through the file: {artifact.metric:.4f}")
    if artifact.drop is not None and artifact.drop_ci95 is not None:
        low, high = artifact.drop_ci95
        lines.append(
            f"drop against the model: {artifact.drop:+.4f} (95% interval {low:+.4f} to {high:+.4f})"
        )
    if artifact.max_abs_error is not None:
        lines.append(f"largest output difference: {artifact.max_abs_error:.3g}")
    if artifact.top1_agreement is not None:
        lines.append(f"top-1 agreement: {artifact.top1_agreement:.2%}")
    if artifact.int8_op_fraction is not None:
        lines.append(f"operators on integers: {artifact.int8_op_fraction:.0%}")
    if artifact.latency_ms is not None:
        latency = artifact.latency_ms
        lines.append(
            f"latency: p50 {latency.p50:.4f} ms, p90 {latency.p90:.4f} ms ({latency.threads} "
            f"thread(s), {latency.runs} runs after {latency.warmup} warm-up runs)"
        )
    types = f"inputs {', '.join(artifact.input_types)}; outputs {', '.join(artifact.output_types)}"
    if artifact.input_types:
        lines.append(types)
    if artifact.precision in _INTEGER_PRECISIONS:
        lines += [f"left float: {operator}" for operator in artifact.float_ops]
    lines += [f"note: {note}" for note in artifact.notes]
    return lines


def _bundle_for(model: Model, data: Data, metric: str) -> tuple[DataBundle, Metric | None]:
    """Return the data, and the metric; models with several outputs have none."""
    bundle = load_data(data, seed=_SEED)
    require_inputs(model, bundle.evaluation, what="data")
    if len(model.outputs) != 1:
        return bundle, None
    task = read_task(model, bundle.evaluation, classes=bundle.classes, metric=metric)
    return bundle, task.metric


def _batches(bundle: DataBundle) -> Callable[[], Iterator[tuple[Any, Any]]]:
    return lambda: bundle.evaluation.numpy_batches(EVALUATION_BATCH)
