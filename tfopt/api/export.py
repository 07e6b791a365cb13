"""``tfopt.export_litert``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.config.load import parse_section
from tfopt.config.schema import LitertExport, Precision
from tfopt.data.labels import as_class_numbers
from tfopt.data.split import Split, split_from
from tfopt.errors import DataError, InputError
from tfopt.evaluation.gate import require_gate
from tfopt.evaluation.metrics import Metric
from tfopt.keras2.core import Model
from tfopt.pipeline.exports import ExportJob, make_and_measure
from tfopt.results import Artifact
from tfopt.training.labelled import task_of
from tfopt.training.task import read_task, require_inputs


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
    require_gate(artifact, max_drop)
    return artifact


def _evaluation_split(model: Model, evaluation: Any) -> tuple[Split, Metric | None]:
    split = split_from(evaluation, what="evaluation data", fixed_order=True)
    require_inputs(model, split, what="evaluation data")
    if not split.has_labels or len(model.outputs) != 1:
        return split, None
    task = task_of(model, split)
    labelled, classes = as_class_numbers(split, task=task, what="evaluation data")
    return labelled, read_task(model, labelled, classes=classes).metric
