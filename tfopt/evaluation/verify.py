"""Verify an exported file against its source model, on the whole evaluation split."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfopt.errors import DataError, InputError, VerificationError
from tfopt.evaluation.comparison import Drop, OutputComparison
from tfopt.evaluation.metrics import Metric
from tfopt.registry import did_you_mean
from tfopt.results import Artifact
from tfopt.runtimes import LitertModel, open_litert
from tfopt.runtimes.litert.precision import float_operators, integer_operator_fraction
from tfopt.storage import gzip_bytes

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.float64]

RELATIVE_ERROR_LIMITS: Mapping[str, float] = {
    "float32": 1e-3,
    "float16": 0.2,
    "dynamic": 0.6,
    "int8": 0.9,
    "int8_io": 0.9,
    "int16x8": 0.5,
}
"""Largest relative output error of each precision, as ``OutputComparison`` defines it.

They catch a wrong file, not a lossy one: how much accuracy may be lost is for the gate to
say. A file that ignores its input is off by about 1. Measured, on small convolutional, dense,
recurrent and embedding models: float32 2e-6 at most, float16 3e-4, dynamic 4e-3, int8
0.02, int16x8 4e-3. On MobileNetV2 with random weights (96 px, 10 classes), where rounding is
amplified over 53 layers, from one draw of weights to the next: 1e-5, 0.016 to 0.066 (this CPU
computes float16 files in float16), 0.15, 0.31 to 0.52 and 0.15.
"""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The rows that a file is judged on.

    Attributes:
        batches: Returns a new iterator over ``(inputs, labels)``; labels are None where
            there are none. Inputs are what ``LitertModel.predict`` takes.
        metric: Task metric, or None to compare outputs only.
        baseline_rows: What each row adds to the metric through the trained float model, as
            from ``Metric.rows``; None compares with the reference model's own scores.
    """

    batches: Callable[[], Iterator[tuple[Any, Any]]]
    metric: Metric | None = None
    baseline_rows: Rows | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """What verifying a file found.

    Attributes:
        artifact: The measurements, without latency.
        comparisons: Difference from the reference for each output, by name.
        rows: What each row adds to the metric through the file; None without labels.
    """

    artifact: Artifact
    comparisons: Mapping[str, OutputComparison]
    rows: Rows | None


def verify_litert(
    path: str | Path,
    *,
    reference: Callable[[Any], Any],
    evaluation: Evaluation,
    precision: str,
    max_relative_error: float | None = None,
    probe: bool = True,
) -> Verification:
    """Run the evaluation split through a file and its source model, and compare.

    Every output is compared; the metric is taken on the first.

    Args:
        path: A ``.tflite`` file.
        reference: The source model: inputs of a batch to one array of shape
            ``(rows, ...)``, or a sequence or mapping of them for several outputs.
        evaluation: The rows, the metric and the baseline.
        precision: What the file was asked to be; sets the limit on output errors.
        max_relative_error: Another limit than ``RELATIVE_ERROR_LIMITS``.
        probe: Run the file in a child process first; False when that has been done.

    Returns:
        The measurements.

    Raises:
        InputError: If the file is missing or damaged, or the precision is unknown.
        DataError: If the rows do not fit the file or the labels, or there are none.
        ExportError: If the runtime cannot run the file.
        VerificationError: If outputs are not numbers, constant, of another shape, or
            off by more than the limit.
    """
    limit = _limit(precision, max_relative_error)
    model = open_litert(path, probe=probe)
    outputs = [_Running(info.name) for info in model.outputs]
    scores: list[Rows] = []
    reference_scores: list[Rows] = []
    for inputs, labels in evaluation.batches():
        found = _as_list(model.predict(inputs), model)
        wanted = _as_list(reference(inputs), model)
        for running, ours, theirs in zip(outputs, found, wanted, strict=True):
            running.add(ours, theirs)
        if evaluation.metric is not None and labels is not None:
            first = _first_labels(labels, model)
            scores.append(evaluation.metric.rows(found[0], first))
            reference_scores.append(evaluation.metric.rows(wanted[0], first))
    comparisons = {running.name: running.result(Path(path)) for running in outputs}
    _require_parity(Path(path), comparisons, limit, precision)
    rows = _whole(scores, expected=outputs[0].rows)
    drop = _drop(evaluation, rows, _whole(reference_scores, expected=outputs[0].rows))
    artifact = _artifact(Path(path), model, precision, comparisons)
    scored = _scored(artifact, rows, drop, evaluation.metric)
    return Verification(scored, comparisons, rows)


@dataclass(slots=True)
class _Running:
    """Differences of one output, summed over batches in float64."""

    name: str
    rows: int = 0
    entries: int = 0
    agreeing: int = 0
    largest: float = 0.0
    absolute: float = 0.0
    squares: float = 0.0
    reference_squares: float = 0.0
    bad_rows: int = 0
    bad_reference_rows: int = 0
    lows: list[Rows] = field(default_factory=list)
    highs: list[Rows] = field(default_factory=list)

    def add(self, candidate: Array, reference: Array) -> None:
        if candidate.shape != reference.shape:
            raise VerificationError(
                f"Output {self.name!r} has shape {candidate.shape} through the file, but "
                f"{reference.shape} through the source model."
            )
        rows = len(candidate)
        ours = np.asarray(candidate, np.float64).reshape(rows, -1)
        theirs = np.asarray(reference, np.float64).reshape(rows, -1)
        self.bad_rows += int((~np.isfinite(ours)).any(axis=1).sum())
        self.bad_reference_rows += int((~np.isfinite(theirs)).any(axis=1).sum())
        self.rows += rows
        if self.bad_rows or self.bad_reference_rows or ours.size == 0:
            return
        difference = np.abs(ours - theirs)
        self.entries += ours.size
        self.agreeing += int((ours.argmax(axis=1) == theirs.argmax(axis=1)).sum())
        self.largest = max(self.largest, float(difference.max()))
        self.absolute += float(difference.sum())
        self.squares += float((difference**2).sum())
        self.reference_squares += float((theirs**2).sum())
        self._widen(ours, theirs)

    def _widen(self, ours: Rows, theirs: Rows) -> None:
        low, high = [ours.min(axis=0), theirs.min(axis=0)], [ours.max(axis=0), theirs.max(axis=0)]
        if not self.lows:
            self.lows, self.highs = low, high
        elif self.lows[0].shape == low[0].shape:
            self.lows = [np.minimum(a, b) for a, b in zip(self.lows, low, strict=True)]
            self.highs = [np.maximum(a, b) for a, b in zip(self.highs, high, strict=True)]

    def result(self, path: Path) -> OutputComparison:
        """Return the comparison, or raise if the output is no output at all."""
        self._require_numbers(path)
        varies = [bool((high > low).any()) for low, high in zip(self.lows, self.highs, strict=True)]
        if varies == [False, True]:
            raise VerificationError(
                f"{path}: output {self.name!r} is the same for all {self.rows} rows, while the "
                "source model's output varies. The usual cause is calibration rows that do not "
                "resemble the real inputs, or ranges that were never trained."
            )
        norm, distance = math.sqrt(self.reference_squares), math.sqrt(self.squares)
        return OutputComparison(
            max_abs_error=self.largest,
            mean_abs_error=self.absolute / self.entries,
            relative_error=distance / norm if norm > 0 else (0.0 if distance == 0 else math.inf),
            top1_agreement=self.agreeing / self.rows,
            rows=self.rows,
        )

    def _require_numbers(self, path: Path) -> None:
        if self.rows == 0:
            raise DataError(f"There are no evaluation rows to verify {path} with.")
        if self.bad_reference_rows:
            raise VerificationError(
                f"The source model itself gives NaN or infinity in {self.bad_reference_rows} of "
                f"{self.rows} rows of output {self.name!r}, so {path} cannot be compared with it."
            )
        if self.bad_rows:
            raise VerificationError(
                f"{path}: output {self.name!r} holds NaN or infinity in {self.bad_rows} of "
                f"{self.rows} rows, while the source model's output is finite."
            )
        if self.entries == 0:
            raise VerificationError(f"{path}: output {self.name!r} is empty.")


def _limit(precision: str, max_relative_error: float | None) -> float:
    if precision not in RELATIVE_ERROR_LIMITS:
        near = did_you_mean(precision, RELATIVE_ERROR_LIMITS)
        known = ", ".join(RELATIVE_ERROR_LIMITS)
        raise InputError(f"No precision is named {precision!r}.{near} Known: {known}.")
    return RELATIVE_ERROR_LIMITS[precision] if max_relative_error is None else max_relative_error


def _as_list(outputs: Any, model: LitertModel) -> list[Array]:
    names = [info.name for info in model.outputs]
    if isinstance(outputs, Mapping):
        if set(outputs) != set(names):
            raise VerificationError(
                f"{model.path} has the outputs {names}, the source model {sorted(outputs)}."
            )
        return [np.asarray(outputs[name]) for name in names]
    several = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
    if len(several) != len(names):
        raise VerificationError(
            f"{model.path} has {len(names)} output(s) {names}, the source model {len(several)}."
        )
    return [np.asarray(output) for output in several]


def _first_labels(labels: Any, model: LitertModel) -> Array:
    """Return the labels of the first output."""
    if isinstance(labels, Mapping):
        name = model.outputs[0].name
        if name not in labels:
            raise DataError(f"There are no labels for output {name!r}, only {sorted(labels)}.")
        return np.asarray(labels[name])
    return np.asarray(labels[0] if isinstance(labels, tuple) else labels)


def _whole(scores: Sequence[Rows], *, expected: int) -> Rows | None:
    if not scores:
        return None
    rows = np.concatenate(scores)
    if len(rows) != expected:
        raise DataError(f"Only {len(rows)} of {expected} evaluation rows have labels.")
    return rows


def _drop(evaluation: Evaluation, rows: Rows | None, reference_rows: Rows | None) -> Drop | None:
    if rows is None or reference_rows is None or evaluation.metric is None:
        return None
    baseline = reference_rows if evaluation.baseline_rows is None else evaluation.baseline_rows
    return evaluation.metric.drop(baseline, rows)


def _require_parity(
    path: Path, comparisons: Mapping[str, OutputComparison], limit: float, precision: str
) -> None:
    for name, comparison in comparisons.items():
        try:
            comparison.require(max_relative_error=limit)
        except VerificationError as error:
            raise VerificationError(f"{path} ({precision}), output {name!r}: {error}") from error


def _artifact(
    path: Path, model: LitertModel, precision: str, comparisons: Mapping[str, OutputComparison]
) -> Artifact:
    first = next(iter(comparisons.values()))
    return Artifact(
        path=str(path),
        format="litert",
        precision=precision,
        bytes=path.stat().st_size,
        gzip_bytes=gzip_bytes(path),
        max_abs_error=max(comparison.max_abs_error for comparison in comparisons.values()),
        top1_agreement=first.top1_agreement,
        int8_op_fraction=integer_operator_fraction(model),
        input_types=tuple(info.dtype for info in model.inputs),
        output_types=tuple(info.dtype for info in model.outputs),
        float_ops=float_operators(model),
    )


def _scored(
    artifact: Artifact, rows: Rows | None, drop: Drop | None, metric: Metric | None
) -> Artifact:
    if rows is None or drop is None or metric is None:
        return artifact
    return replace(
        artifact,
        metric=metric.value(rows),
        metric_name=metric.name,
        drop=drop.value,
        drop_ci95=(drop.low, drop.high),
    )
