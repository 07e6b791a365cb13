"""What the page's tables say: rows of ready text, so that the template only lays out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfopt.reporting.text import (
    MISSING,
    difference_text,
    finite,
    interval_of,
    is_share,
    metric_text,
    milliseconds_text,
    ratio_of,
    seconds_text,
    times,
    value_text,
)
from tfopt.reporting.verdict import meets_gate
from tfopt.results import (
    Artifact,
    Baseline,
    Latency,
    LayerDecision,
    MetricInfo,
    RunResult,
    StageResult,
)

_INTEGER_PRECISIONS = ("int8", "int8_io", "int16x8")
_WAITING, _BY_RANK = "exchange_fraction", "exchange_fraction_by_rank"
_SPREAD = {"replicas", "rows_per_second", "scaling_efficiency", _WAITING, _BY_RANK}


@dataclass(frozen=True, slots=True)
class FileRow:
    """One line of the before/after table.

    Attributes:
        path: File, or what the baseline is called.
        precision: Number format.
        size: Bytes, then how much smaller than the float file.
        gzip: Bytes after gzip, then how much smaller than the gzipped float file.
        smaller: Float file's bytes over this file's gzipped bytes.
        metric: Task metric through the file.
        drop: Drop, then its interval.
        gate: ``met``, ``missed`` or empty.
        latency: Median and 90th percentile, then how it was timed.
        int8_ops: Share of operators on integers.
        types: Input and output types.
        error: Largest output difference, then top-1 agreement.
    """

    path: str
    precision: str
    size: tuple[str, str]
    gzip: tuple[str, str]
    smaller: str
    metric: str
    drop: tuple[str, str]
    gate: str
    latency: tuple[str, str]
    int8_ops: str
    types: str
    error: tuple[str, str]


@dataclass(frozen=True, slots=True)
class StageRow:
    """One line of the stage table; ``change`` is against the float model."""

    name: str
    metric: str
    change: str
    seconds: str
    evidence: tuple[tuple[str, str], ...]
    details: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SpreadRow:
    """One line of the table of stages that several replicas trained."""

    name: str
    replicas: str
    rows_per_second: str
    waiting: str
    by_rank: str
    efficiency: str


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One line of the layer table: a cell for each step, None where it was not asked."""

    layer: str
    kind: str
    cells: tuple[LayerDecision | None, ...]


@dataclass(frozen=True, slots=True)
class Remark:
    """Something the reader must not miss: the places it is true of, and what."""

    places: tuple[str, ...]
    text: str


def file_rows(result: RunResult) -> list[FileRow]:
    """Return the float file's row, if there is a baseline, and one for each artefact."""
    rows = [_baseline_row(result.baseline, result.metric)] if result.baseline else []
    return rows + [_artifact_row(entry, result) for entry in result.artifacts]


def stage_rows(result: RunResult) -> list[StageRow]:
    """Return one row a stage."""
    return [_stage_row(stage, result) for stage in result.stages]


def spread_rows(result: RunResult) -> list[SpreadRow]:
    """Return one row for each stage that several replicas trained together."""
    return [
        SpreadRow(
            name=stage.name,
            replicas=value_text("replicas", found["replicas"]),
            rows_per_second=f"{found['rows_per_second']:,.0f}",
            waiting=value_text(_WAITING, found.get(_WAITING)),
            by_rank=", ".join(value_text(_WAITING, wait) for wait in found.get(_BY_RANK, ())),
            efficiency=value_text("scaling_efficiency", found.get("scaling_efficiency")),
        )
        for stage in result.stages
        if finite((found := stage.evidence).get("rows_per_second")) is not None
    ]


def layer_table(stages: Sequence[StageResult]) -> tuple[list[str], list[LayerRow]]:
    """Return the steps that decided on layers, and one row a layer in model order."""
    deciding = [stage for stage in stages if stage.layers]
    by_stage = [{entry.layer: entry for entry in stage.layers} for stage in deciding]
    kinds = {entry.layer: entry.kind for stage in deciding for entry in stage.layers}
    rows = [
        LayerRow(layer, kind, tuple(decisions.get(layer) for decisions in by_stage))
        for layer, kind in kinds.items()
    ]
    return [stage.name for stage in deciding], rows


def remarks(result: RunResult) -> list[Remark]:
    """Return what was left in floating point, and every note of a stage or artefact.

    Layers that share a reason share a line.
    """
    found: dict[str, dict[str, None]] = {}
    for place, text in [*_left_float(result), *_notes(result)]:
        found.setdefault(text, {})[place] = None
    return [Remark(tuple(places), text) for text, places in found.items()]


def _left_float(result: RunResult) -> Iterator[tuple[str, str]]:
    for stage in result.stages:
        for entry in stage.layers if stage.name == "quantize" else ():
            if not entry.done:
                yield f"{entry.layer} ({entry.kind})", f"left in floating point: {entry.reason}"
    for artifact in result.artifacts:
        for operator in artifact.float_ops if artifact.precision in _INTEGER_PRECISIONS else ():
            yield artifact.path, f"operator left in floating point: {operator}"


def _notes(result: RunResult) -> Iterator[tuple[str, str]]:
    for stage in result.stages:
        yield from ((f"stage {stage.name}", note) for note in stage.notes)
    for artifact in result.artifacts:
        yield from ((artifact.path, note) for note in artifact.notes)


def evidence_rows(evidence: Mapping[str, Any]) -> tuple[list[tuple[str, str]], ...]:
    """Return the plain numbers of a mapping, and apart from them the nested values."""
    numbers, nested = [], []
    for name, value in evidence.items():
        label = name.replace("_", " ")
        if isinstance(value, Mapping | list | tuple):
            nested.append((label, json.dumps(value, default=str)))
        else:
            numbers.append((label, value_text(name, value)))
    return numbers, nested


def _baseline_row(baseline: Baseline, metric: MetricInfo | None) -> FileRow:
    size, packed = baseline.litert_float_bytes, baseline.litert_float_gzip_bytes
    return FileRow(
        path="Trained float model",
        precision="float32, before",
        size=(_bytes(size), ""),
        gzip=(_bytes(packed), ""),
        smaller=_factor(size, packed),
        metric=metric_text(baseline.metric, metric),
        drop=("", ""),
        gate="",
        latency=_latency(baseline.latency_ms),
        int8_ops="",
        types="",
        error=("", ""),
    )


def _artifact_row(artifact: Artifact, result: RunResult) -> FileRow:
    size = result.baseline.litert_float_bytes if result.baseline else None
    packed = result.baseline.litert_float_gzip_bytes if result.baseline else None
    meets = meets_gate(artifact, result.max_drop)
    agreement = finite(artifact.top1_agreement)
    worst = finite(artifact.max_abs_error)
    return FileRow(
        path=artifact.path,
        precision=artifact.precision,
        size=(_bytes(artifact.bytes), _factor(size, artifact.bytes)),
        gzip=(_bytes(artifact.gzip_bytes), _factor(packed, artifact.gzip_bytes)),
        smaller=_factor(size, artifact.gzip_bytes),
        metric=metric_text(artifact.metric, result.metric),
        drop=_drop(artifact, result.metric),
        gate={True: "met", False: "missed", None: ""}[meets],
        latency=_latency(artifact.latency_ms),
        int8_ops=value_text("int8_op_fraction", artifact.int8_op_fraction),
        types=_types(artifact),
        error=(
            MISSING if worst is None else f"{worst:.3g}",
            "" if agreement is None else f"top-1 agrees {100 * agreement:.1f}%",
        ),
    )


def _stage_row(stage: StageResult, result: RunResult) -> StageRow:
    own = {name: value for name, value in stage.evidence.items() if name not in _SPREAD}
    numbers, nested = evidence_rows(own)
    return StageRow(
        name=stage.name,
        metric=metric_text(stage.metric, result.metric),
        change=_change(stage, result),
        seconds=seconds_text(stage.seconds),
        evidence=tuple(numbers),
        details=tuple(nested),
        notes=tuple(stage.notes),
    )


def _change(stage: StageResult, result: RunResult) -> str:
    baseline = finite(result.baseline.metric) if result.baseline else None
    metric = finite(stage.metric)
    if baseline is None or metric is None:
        return ""
    text = difference_text(metric - baseline, result.metric)
    sign = "+" if metric > baseline and not text.startswith("-") else ""
    return f"{sign}{text}{' points' if is_share(result.metric) else ''}"


def _drop(artifact: Artifact, metric: MetricInfo | None) -> tuple[str, str]:
    number = finite(artifact.drop)
    if number is None:
        return MISSING, ""
    unit = " points" if is_share(metric) else ""
    ends = interval_of(artifact.drop_ci95)
    interval = (
        ""
        if ends is None
        else f"{difference_text(ends[0], metric)} to {difference_text(ends[1], metric)}"
    )
    return f"{difference_text(number, metric)}{unit}", interval


def _latency(latency: Latency | None) -> tuple[str, str]:
    if latency is None:
        return MISSING, ""
    p50, p90 = milliseconds_text(latency.p50), milliseconds_text(latency.p90)
    threads = f"{latency.threads} thread{'' if latency.threads == 1 else 's'}"
    return (
        f"{p50.removesuffix(' ms')} / {p90}",
        f"{threads}, {latency.runs} runs, {latency.warmup} warm-up",
    )


def _types(artifact: Artifact) -> str:
    if not (artifact.input_types or artifact.output_types):
        return MISSING
    inputs = ", ".join(dict.fromkeys(artifact.input_types)) or MISSING
    outputs = ", ".join(dict.fromkeys(artifact.output_types)) or MISSING
    return f"{inputs} \N{RIGHTWARDS ARROW} {outputs}"


def _bytes(count: int | None) -> str:
    return MISSING if count is None else f"{count:,}"


def _factor(before: int | None, after: int | None) -> str:
    ratio = ratio_of(before, after)
    if ratio is None:
        return ""
    text = times(ratio) if ratio >= 1 else f"{times(1 / ratio)} larger"
    return text.replace("x", "\N{MULTIPLICATION SIGN}")
