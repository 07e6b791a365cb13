"""Export the final model, and measure every file on the evaluation split."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfopt.config.load import settings_sha256
from tfopt.config.schema import Export, LitertExport
from tfopt.data.split import ArraySplit, Split
from tfopt.errors import ExportError, TfoptError, VerificationError
from tfopt.evaluation.latency import measure_latency
from tfopt.evaluation.metrics import Metric
from tfopt.evaluation.verify import Evaluation, verify_litert
from tfopt.export.litert.convert import convert_litert, has_trained_ranges
from tfopt.keras2.core import Model
from tfopt.pipeline.stages import Run
from tfopt.results import Artifact, Latency, artifact_from_dict, to_json
from tfopt.storage import gzip_bytes, write_whole
from tfopt.training.predict import EVALUATION_BATCH, predictor
from tfopt.version import __version__

_FOLDER = "export"


@dataclass(frozen=True, slots=True)
class ExportJob:
    """One file to make and measure.

    Attributes:
        model: The model to export.
        path: The file.
        settings: Precision and the like.
        calibration: Where calibration rows are drawn from; None for precisions and
            models that need none.
        training: Rows whose spread the calibration rows must share; None does not check.
        evaluation: Rows to run through file and model; None only converts and times.
        metric: Task metric; None compares outputs only.
        baseline_rows: Row scores of the trained float model; None compares with the
            exported model's own.
        overwrite: Replace an existing file.
    """

    model: Model
    path: Path
    settings: LitertExport
    calibration: Split | None = None
    training: Split | None = None
    evaluation: Split | None = None
    metric: Metric | None = None
    baseline_rows: npt.NDArray[np.float64] | None = None
    overwrite: bool = False


def export_all(run: Run, model: Model) -> tuple[list[Artifact], TfoptError | None]:
    """Export every file of the recipe; one that fails does not stop the others.

    Args:
        run: The run.
        model: The final model.

    Returns:
        The measured files, and the first error, if any; it is not shown here, since it
        ends the run and is shown then.
    """
    artifacts: list[Artifact] = []
    first_error: TfoptError | None = None
    for export in run.recipe.export:
        run.number += 1
        try:
            artifacts.append(_export_one(run, model, export))
        except (ExportError, VerificationError) as error:
            if first_error is not None:
                run.reporter.warning(str(error))
            elif export is not run.recipe.export[-1]:
                run.reporter.warning("This export failed, for a reason given at the end.")
            first_error = first_error or error
    return artifacts, first_error


def baseline_file(run: Run, model: Model) -> tuple[int, int, Latency] | None:
    """Return bytes, gzipped bytes and latency of the trained float model's own ``.tflite``.

    Args:
        run: The run.
        model: The trained float model.

    Returns:
        The measurements; None if the float model cannot be converted, after a warning.
    """
    path = run.directory.folder(_FOLDER) / f"{run.recipe.name}-float32-baseline.tflite"
    key = settings_sha256({"baseline": run.float_key})
    if not run.directory.is_done("baseline", _FOLDER, key):
        run.directory.start("baseline", _FOLDER, key, keep_files=True)
        try:
            settings = LitertExport(precision="float32")
            example = _example(run.data.evaluation)
            convert_litert(model, path, settings=settings, example=example, overwrite=True)
        except (ExportError, VerificationError) as error:
            run.reporter.warning(f"The float model has no .tflite to compare with: {error}")
            return None
        run.directory.finish("baseline", _FOLDER, key, [path.name])
    return path.stat().st_size, gzip_bytes(path), measure_latency(path, probe=False)


def make_and_measure(job: ExportJob) -> Artifact:
    """Convert, verify on the whole evaluation split, and time one file.

    Raises:
        DataError: If calibration or evaluation rows are unfit.
        ExportError: If the conversion fails or the file does not run.
        StorageError: If the file cannot be written.
        VerificationError: If the file is not what was asked for.
    """
    settings = job.settings
    rows = statistics = None
    if job.calibration is not None and not has_trained_ranges(job.model):
        rows = job.calibration.sample_inputs(settings.calibration_examples, seed=0)
        statistics = job.training.statistics() if job.training is not None else None
    conversion = convert_litert(
        job.model,
        job.path,
        settings=settings,
        calibration=rows,
        statistics=statistics,
        example=_example(job.evaluation or job.calibration),
        overwrite=job.overwrite,
    )
    artifact = _verified(job)
    latency = measure_latency(
        job.path,
        threads=settings.threads,
        runs=settings.runs,
        warmup=settings.warmup,
        probe=False,
    )
    notes = [*conversion.notes, *artifact.notes]
    return replace(artifact, path=str(job.path), latency_ms=latency, notes=notes)


def _example(split: Split | None) -> Any:
    """Return a row of inputs if all rows have its shape, else None."""
    return split.sample_inputs(1, seed=0) if isinstance(split, ArraySplit) else None


def _verified(job: ExportJob) -> Artifact:
    if job.evaluation is None:
        return Artifact(
            path=str(job.path),
            format="litert",
            precision=job.settings.precision,
            bytes=job.path.stat().st_size,
            gzip_bytes=gzip_bytes(job.path),
            notes=["not compared with the model on data: none was given"],
        )
    split = job.evaluation
    verification = verify_litert(
        job.path,
        reference=predictor(job.model),
        evaluation=Evaluation(
            batches=lambda: split.numpy_batches(EVALUATION_BATCH),
            metric=job.metric,
            baseline_rows=job.baseline_rows,
        ),
        precision=job.settings.precision,
        probe=False,
    )
    return verification.artifact


def _export_one(run: Run, model: Model, export: Export) -> Artifact:
    settings = export.litert
    if settings is None:
        raise ExportError("An export entry names no format.")
    stem = f"{run.recipe.name}-{settings.precision}"
    name = f"export litert {settings.precision}"
    folder = run.directory.folder(_FOLDER)
    key = settings_sha256(
        {"settings": settings.model_dump(mode="json"), "before": run.last_key, "v": __version__}
    )
    if run.directory.is_done(name, _FOLDER, key):
        run.reporter.stage_skipped(name, "finished by an earlier run from the same input")
        return artifact_from_dict(_read(folder / f"{stem}.json"))
    run.reporter.stage_started(
        name, number=run.number, total=run.total, epochs=0, steps_per_epoch=0, target=""
    )
    run.directory.start(name, _FOLDER, key, keep_files=True)
    job = ExportJob(
        model=model,
        path=folder / f"{stem}.tflite",
        settings=settings,
        calibration=run.data.train,
        training=run.data.train,
        evaluation=run.data.evaluation,
        metric=run.task.metric,
        baseline_rows=run.baseline_rows,
        overwrite=True,
    )
    measured = make_and_measure(job)
    artifact = replace(measured, path=f"{_FOLDER}/{stem}.tflite")
    write_whole(folder / f"{stem}.json", to_json(artifact).encode())
    run.directory.finish(name, _FOLDER, key, [f"{stem}.tflite", f"{stem}.json"])
    run.reporter.artifact_done(artifact)
    return artifact


def _read(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
