"""Convert a tf_keras model to a ``.tflite`` file that is known to run."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfopt.config.schema import LitertExport
from tfopt.data.statistics import InputStatistics
from tfopt.errors import ExportError, StorageError
from tfopt.export.litert.calibration import InputSpec, calibration_arrays, check_calibration
from tfopt.export.litert.failures import explain, missing_operators
from tfopt.export.litert.signature import (
    Signature,
    has_recurrent_layers,
    has_trained_ranges,
    input_specs,
    layer_names,
    open_sizes,
    own_batch,
    save_signature,
    trace,
)
from tfopt.export.litert.worker import Job
from tfopt.keras2.core import Model
from tfopt.runtimes import ProbeResult, open_litert, probe_litert, run_child, signal_name
from tfopt.runtimes.litert.precision import require_precision
from tfopt.storage import check_target, gzip_bytes, write_whole

__all__ = ["ConvertedFile", "convert_litert", "gzip_bytes", "has_trained_ranges"]

_STATIC = frozenset({"int8", "int8_io", "int16x8"})
_WORKER = "tfopt.export.litert.worker"
_PROBED_ROWS = (1, 3)
_STATE_NOTE = (
    "the file keeps the state of its recurrent layers from run to run: reset the interpreter's "
    "variables before each new sequence"
)


@dataclass(frozen=True, slots=True)
class ConvertedFile:
    """A converted file.

    Attributes:
        path: The file.
        precision: Asked precision, which the file was checked to have.
        seconds: Wall time of checking, converting and the trial run.
        batch: ``dynamic``, or the only batch size the file accepts.
        notes: Anything the user should know, such as operators left in float.
    """

    path: Path
    precision: str
    seconds: float
    batch: Literal["dynamic"] | int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What stays the same between two tries at one conversion."""

    model: Model
    path: Path
    settings: LitertExport
    folder: Path
    calibration: Path | None
    sizes: Mapping[str, tuple[int, ...]]

    def failed(self, reason: str) -> ExportError:
        return ExportError(
            f"LiteRT export of {self.model.name!r} as {self.settings.precision} failed. {reason}"
        )


class _MissingOperators(ExportError):
    """The built-in set lacks operators, which a fixed batch would not change."""


class _TooLate(ExportError):
    """The time limit passed."""


def convert_litert(  # noqa: PLR0913  # keyword-only options, each with its own default
    model: Model,
    path: str | Path,
    *,
    settings: LitertExport,
    calibration: Any = None,
    statistics: InputStatistics | Sequence[InputStatistics] | None = None,
    example: Any = None,
    overwrite: bool = False,
) -> ConvertedFile:
    """Convert a model in a child process, run the file, and only then put it in place.

    The batch is left free, unless the model was built with one or has recurrent layers. If
    the file of free batch cannot be made or run (footgun F36), it is fixed at 1 and a
    note says so. A model with trained ranges needs no calibration, and its layers without
    ranges stay in float: calibrating those too would override the choice not to quantize
    them.

    Args:
        model: A built tf_keras model, plain or from quantization-aware training.
        path: File to write, usually ``.tflite``.
        settings: Precision, time limit and the like.
        calibration: Training inputs that set the integer ranges: an array of shape
            ``(rows, ...)``, a tuple of them, or a mapping by input name. At most
            ``settings.calibration_examples`` rows are used, evenly spread.
        statistics: Summary of the training inputs, one for each model input, to
            tell wrongly scaled calibration rows; None skips that check.
        example: Rows of inputs, of which only the shape counts: sizes that the model
            leaves open beside the batch are fixed at theirs, with a note. None leaves
            them open.
        overwrite: Replace an existing file.

    Returns:
        The file and what was noticed.

    Raises:
        StorageError: If ``path`` exists, or cannot be written. Nothing is left behind.
        DataError: If calibration rows are needed and missing or unfit.
        ModelError: If the model is not a built tf_keras model with visible layers.
        ExportError: If the converter fails, crashes or is too slow, or the file does
            not run.
        VerificationError: If the file has not the asked precision.
    """
    started = time.monotonic()
    target = Path(path)
    check_target(target, overwrite=overwrite)
    sizes = open_sizes(model, example) if example is not None else {}
    specs = input_specs(model, sizes=sizes)
    own = own_batch(model)
    batch = own or (1 if has_recurrent_layers(model) else None)
    signature = trace(model, batch=batch, sizes=sizes)
    _check_precision(model, settings.precision, signature.has_trained_ranges)
    with _work_folder() as folder:
        notes: tuple[str, ...] = ()
        rows: Path | None = None
        if settings.precision in _STATIC and not signature.has_trained_ranges:
            notes = check_calibration(calibration, expected=specs, statistics=statistics)
            rows = Path(folder) / "calibration.npz"
            _save_rows(rows, calibration, specs, settings.calibration_examples)
        notes = (*notes, *(_size_note(name, found) for name, found in sizes.items()))
        attempt = _Attempt(model, target, settings, Path(folder), rows, sizes)
        content, batch, more_notes = _convert(attempt, signature, batch)
        write_whole(target, content)
    return ConvertedFile(
        path=target,
        precision=settings.precision,
        seconds=time.monotonic() - started,
        batch=batch or "dynamic",
        notes=(*notes, *more_notes),
    )


def _size_note(name: str, sizes: tuple[int, ...]) -> str:
    text = " x ".join(map(str, sizes))
    return f"input {name!r} takes rows of {text} alone, the size of the given rows"


def _check_precision(model: Model, precision: str, trained_ranges: bool) -> None:  # noqa: FBT001
    if trained_ranges and precision not in {"int8", "int8_io"}:
        raise ExportError(
            f"Model {model.name!r} went through quantization-aware training for int8, so it "
            f"cannot be exported as {precision}. Use precision int8 or int8_io, or export the "
            "model from before the quantize step."
        )


def _work_folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="tfopt-export-", ignore_cleanup_errors=True)
    except OSError as error:
        raise StorageError(
            f"No temporary folder can be made in {tempfile.gettempdir()}: {error.strerror}."
        ) from error


def _save_rows(path: Path, calibration: Any, specs: Sequence[InputSpec], most: int) -> None:
    arrays = calibration_arrays(calibration, expected=specs)
    rows = len(arrays[0])
    chosen = np.unique(np.linspace(0, rows - 1, min(rows, most)).round().astype(int))
    saved = {
        f"input_{i}": array[chosen].astype(spec.dtype)
        for i, (array, spec) in enumerate(zip(arrays, specs, strict=True))
    }
    try:
        np.savez(path, allow_pickle=False, **saved)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}.") from error


def _convert(
    attempt: _Attempt, signature: Signature, batch: int | None
) -> tuple[bytes, int | None, tuple[str, ...]]:
    """Return the file, its batch size and notes; falls back to batch 1."""
    try:
        content, notes = _try(attempt, signature, "free")
    except (_MissingOperators, _TooLate):
        raise
    except ExportError as error:
        if batch is not None:
            raise
        reason = str(error).split(" failed. ", 1)[-1].rstrip(".")
        try:
            content, notes = _try(
                attempt, trace(attempt.model, batch=1, sizes=attempt.sizes), "fixed"
            )
        except ExportError as second:
            if reason in str(second):
                raise
            raise ExportError(f"{second} (With a free batch: {reason}.)") from error
        note = f"the batch is fixed at 1, because with a free batch the export failed: {reason}"
        return content, 1, (note, *notes)
    return content, batch, notes


def _try(attempt: _Attempt, signature: Signature, name: str) -> tuple[bytes, tuple[str, ...]]:
    """Convert once and run the file; for int16x8, let ops without a kernel be float."""
    folder = attempt.folder / name
    save_signature(signature, folder, attempt.model)
    job = Job(
        saved_model=str(folder),
        result=str(attempt.folder / f"{name}.tflite"),
        calibration=str(attempt.calibration) if attempt.calibration else None,
        inputs=signature.inputs,
        outputs=signature.outputs,
        precision=attempt.settings.precision,
        has_trained_ranges=signature.has_trained_ranges,
        select_tf_ops=attempt.settings.select_tf_ops,
        allow_float=False,
        time_limit_seconds=attempt.settings.time_limit_seconds,
    )
    try:
        _run_worker(attempt, job)
    except (_MissingOperators, _TooLate):
        raise
    except ExportError:
        if job.precision != "int16x8":
            raise
        _run_worker(attempt, replace(job, allow_float=True))
    return _examine(attempt, Path(job.result))


def _run_worker(attempt: _Attempt, job: Job) -> None:
    """Run the converter on a job, or raise with the cause in words."""
    result = Path(job.result)
    job_file, error_file = result.with_suffix(".json"), result.with_suffix(".error")
    error_file.unlink(missing_ok=True)
    try:
        job_file.write_text(job.to_json())
    except OSError as error:
        raise StorageError(f"{job_file} cannot be written: {error.strerror or error}.") from error
    command = [sys.executable, "-P", "-m", _WORKER, str(job_file)]
    limit = attempt.settings.time_limit_seconds
    try:
        done = run_child(command, time_limit_seconds=limit)
    except subprocess.TimeoutExpired as error:
        raise _TooLate(
            str(
                attempt.failed(
                    f"The converter did not finish within {limit:g} s and was stopped. Raise "
                    "export.litert.time_limit_seconds, or make the model smaller."
                )
            )
        ) from error
    if result.exists() and done.returncode == 0:
        return
    told = error_file.read_text(errors="replace") if error_file.exists() else ""
    if done.returncode < 0:
        reason = f"The converter crashed ({signal_name(-done.returncode)})."
    else:
        reason = explain(told or done.stderr, layers=layer_names(attempt.model))
    kind = _MissingOperators if missing_operators(told) else ExportError
    failure = kind(str(attempt.failed(reason)))
    failure.add_note(f"The converter's last lines:\n{(done.stderr + told)[-4000:]}")
    raise failure


def _examine(attempt: _Attempt, result: Path) -> tuple[bytes, tuple[str, ...]]:
    """Run the converted file in a child process, then check its precision."""
    found = probe_litert(result, rows=_PROBED_ROWS, samples=attempt.calibration)
    notes: list[str] = []
    if found.kind == "missing_ops" and attempt.settings.select_tf_ops:
        notes.append(f"not run: {_shown(found, result, attempt.path)}")
    elif found.kind != "ok":
        message = _shown(found, result, attempt.path)
        raise attempt.failed(f"The converter made a file, but {message}")
    converted = open_litert(result, probe=False, to_run=not notes)
    converted.path = attempt.path  # what messages should name
    notes += require_precision(converted, attempt.settings.precision)
    if converted.keeps_state:
        notes.append(_STATE_NOTE)
    return result.read_bytes(), tuple(notes)


def _shown(found: ProbeResult, temporary: Path, path: Path) -> str:
    return found.message.replace(str(temporary), str(path))
