"""Lines and table cells that every way of showing a run shares."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from tfopt.reporting.text import (
    MISSING,
    drop_text,
    finite,
    metric_label,
    metric_text,
    milliseconds_text,
    ratio_text,
    seconds_text,
    value_text,
)
from tfopt.reporting.verdict import meets_gate, verdict
from tfopt.results import Artifact, MetricInfo, RunResult, StageResult

# Escape sequences in a layer name or an error could move the cursor or clear the screen.
_CONTROLS = {code: " " for code in (*range(32), *range(127, 160))}
_CONTROLS_BUT_NEWLINE = {code: space for code, space in _CONTROLS.items() if code != 10}


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that a person watches."""
    is_ci = os.environ.get("CI", "").lower() not in {"", "0", "false"}
    return not is_ci and os.environ.get("TERM") != "dumb" and stream.isatty()


def printable(text: object, stream: TextIO, *, is_one_line: bool = True) -> str:
    """Return text without control characters, and in the stream's own characters.

    Args:
        text: Anything; written with ``str``.
        stream: Its encoding decides what can be written; the rest becomes ``?``.
        is_one_line: Whether line ends become spaces too.

    Returns:
        Text that can be written to the stream.
    """
    clean = str(text).translate(_CONTROLS if is_one_line else _CONTROLS_BUT_NEWLINE)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return clean.encode(encoding, errors="replace").decode(encoding)


def score_text(
    value: float | None,
    *,
    metric: MetricInfo | None,
    baseline: float | None = None,
    gate: float | None = None,
) -> str:
    """Return a metric value beside what it is measured against.

    Args:
        value: The value.
        metric: The metric; without it the gate has no direction.
        baseline: Value of the trained float model, if known.
        gate: The worst value that the gate allows, if any.

    Returns:
        ``accuracy 0.987 (float 0.989, gate >= 0.984)``.
    """
    against = []
    if finite(baseline) is not None:
        against.append(f"float {plain_number(baseline)}")
    if finite(gate) is not None:
        sign = "" if metric is None else (">= " if metric.higher_is_better else "<= ")
        against.append(f"gate {sign}{plain_number(gate)}")
    tail = f" ({', '.join(against)})" if against else ""
    return f"{metric_label(metric)} {plain_number(value)}{tail}"


def plain_number(value: float | None) -> str:
    """Return a metric value as a bare number: ``0.987``; ``nan`` when it is not finite."""
    if value is None:
        return MISSING
    number = float(value)
    return f"{number:.4g}" if math.isfinite(number) else str(number)


def logs_text(logs: Mapping[str, Any]) -> str:
    """Return an epoch's logs in one line: ``loss 0.1234, accuracy 0.971``."""
    parts = []
    for name, value in logs.items():
        number = finite(value) if isinstance(value, int | float) else value
        text = plain_number(value) if number is None else value_text(name, value)
        parts.append(f"{name.replace('_', ' ')} {text}")
    return ", ".join(parts)


def stage_text(
    result: StageResult,
    *,
    metric: MetricInfo | None,
    baseline: float | None,
    gate: float | None,
) -> str:
    """Return what a finished stage reached, in one line."""
    score = score_text(result.metric, metric=metric, baseline=baseline, gate=gate)
    facts = [
        f"{name.replace('_', ' ')} {value_text(name, value)}"
        for name, value in result.evidence.items()
        if isinstance(value, int | float)
    ]
    return ", ".join([f"done in {seconds_text(result.seconds)}", score, *facts[:3]])


def artifact_text(artifact: Artifact, metric: MetricInfo | None) -> str:
    """Return what was measured on an exported file, in one line."""
    parts = [f"{artifact.bytes:,} bytes, {artifact.gzip_bytes:,} after gzip"]
    if finite(artifact.metric) is not None:
        parts.append(f"{metric_label(metric)} {plain_number(artifact.metric)}")
    if artifact.latency_ms is not None:
        parts.append(f"{milliseconds_text(artifact.latency_ms.p50)} median")
    return f"{artifact.path}: {', '.join(parts)}"


def closing_text(result: RunResult) -> tuple[str, str]:
    """Return the verdict, cut into what is worth a colour and the rest.

    The error of a failed run is left out: whoever started the run is given it too, and
    prints it last.
    """
    said = verdict(result)
    if result.status == "failed":
        return said.lead, ""
    return said.lead, said.line.removeprefix(said.lead)


def result_rows(result: RunResult) -> list[list[str]]:
    """Return the final table: a header, the float file if known, and each artefact."""
    metric = result.metric
    header = ["file", "bytes", "gzip", "overall", metric_label(metric)]
    rows = [[*header, "change (95% interval)", "latency p50", "gate"]]
    baseline = result.baseline
    size = baseline.litert_float_bytes if baseline else None
    if baseline is not None:
        packed = baseline.litert_float_gzip_bytes
        counts = [_bytes(size), _bytes(packed), ratio_text(size, packed)]
        score = metric_text(baseline.metric, metric)
        latency = baseline.latency_ms
        time = "" if latency is None else milliseconds_text(latency.p50)
        rows.append(["float model", *counts, score, "", time, ""])
    return rows + [_artifact_row(entry, result, size) for entry in result.artifacts]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with columns of equal width, two spaces apart.

    Args:
        rows: Cells, the same number in each row.

    Returns:
        One line a row.

    Example:
        >>> aligned([["a", "b"], ["long", "c"]])
        ['a     b', 'long  c']
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _artifact_row(artifact: Artifact, result: RunResult, float_bytes: int | None) -> list[str]:
    latency = artifact.latency_ms
    meets = meets_gate(artifact, result.max_drop)
    return [
        artifact.path,
        f"{artifact.bytes:,}",
        f"{artifact.gzip_bytes:,}",
        ratio_text(float_bytes, artifact.gzip_bytes),
        metric_text(artifact.metric, result.metric),
        drop_text(artifact.drop, artifact.drop_ci95, result.metric).replace(" 95% interval", ""),
        MISSING if latency is None else milliseconds_text(latency.p50),
        {True: "met", False: "missed", None: ""}[meets],
    ]


def _bytes(count: int | None) -> str:
    return MISSING if count is None else f"{count:,}"
