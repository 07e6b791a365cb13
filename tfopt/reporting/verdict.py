"""The one-line verdict on a run, and which exported file it speaks of."""

from __future__ import annotations

from dataclasses import dataclass

from tfopt.reporting.text import (
    drop_text,
    finite,
    gate_text,
    metric_label,
    metric_text,
    ratio_text,
)
from tfopt.results import Artifact, RunResult, Status


def meets_gate(artifact: Artifact, max_drop: float | None) -> bool | None:
    """Return whether a file's drop is within the gate; None without gate or measurement."""
    drop = finite(artifact.drop)
    # 0.989 - 0.984 is a little more than 0.005 in floating point.
    return None if drop is None or max_drop is None else drop <= max_drop + 1e-9


def gate_line(result: RunResult) -> float | None:
    """Return the worst metric value that the gate allows, or None."""
    baseline = finite(result.baseline.metric) if result.baseline else None
    if baseline is None or result.max_drop is None or result.metric is None:
        return None
    return result.metric.worst_allowed(baseline, result.max_drop)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The first line a reader sees.

    Attributes:
        status: Status of the run.
        lead: ``PASS``, ``DONE`` (no gate), ``GATE MISSED`` or ``FAILED at stage ...``.
        claims: What was reached, or the error.
    """

    status: Status
    lead: str
    claims: tuple[str, ...]

    @property
    def line(self) -> str:
        """Return lead and claims as one line."""
        return f"{self.lead}: {', '.join(self.claims)}" if self.claims else self.lead


def verdict(result: RunResult) -> Verdict:
    """Return the verdict on a run, in words a manager reads and numbers an engineer trusts."""
    if result.status == "failed":
        error = (result.error or "").strip() or "no error was recorded"
        return Verdict("failed", _failed_lead(result), (error.splitlines()[0],))
    lead = "PASS" if result.max_drop is not None else "DONE"
    if result.status == "gate_missed":
        lead = "GATE MISSED"
    artifact = headline_artifact(result)
    claims = _stage_claims(result) if artifact is None else _artifact_claims(artifact, result)
    if result.max_drop is not None:
        claims = (*claims, gate_text(result.max_drop, result.metric), *_gate_count(result))
    return Verdict(result.status, lead, claims)


def headline_artifact(result: RunResult) -> Artifact | None:
    """Return the file that the verdict speaks of.

    That is the smallest scored file; after a missed gate, the one that missed it most.
    """
    scored = [entry for entry in result.artifacts if finite(entry.metric) is not None]
    missed = [entry for entry in scored if meets_gate(entry, result.max_drop) is False]
    if result.status == "gate_missed" and missed:
        return max(missed, key=lambda entry: finite(entry.drop) or 0.0)
    files = scored or list(result.artifacts)
    return min(files, key=lambda entry: entry.gzip_bytes) if files else None


def _gate_count(result: RunResult) -> tuple[str, ...]:
    """Return how many files meet the gate, if there are several."""
    answers = [meets_gate(entry, result.max_drop) for entry in result.artifacts]
    if len(answers) < 2:
        return ()
    met = answers.count(True)
    share = f"all {met}" if met == len(answers) else f"{met} of {len(answers)}"
    return (f"met by {share} files",)


def _failed_lead(result: RunResult) -> str:
    if result.failed_stage:
        return f"FAILED at stage {result.failed_stage}"
    if result.stages:
        return f"FAILED after stage {result.stages[-1].name}"
    return "FAILED"


def _artifact_claims(artifact: Artifact, result: RunResult) -> tuple[str, ...]:
    return (_size_claim(artifact, result), _metric_claim(artifact, result))


def _size_claim(artifact: Artifact, result: RunResult) -> str:
    before = result.baseline.litert_float_bytes if result.baseline else None
    size = f"{artifact.gzip_bytes:,} bytes"
    if before is None:
        claim = f"{size} after gzip"
    else:
        ratio = ratio_text(before, artifact.gzip_bytes)
        claim = f"{ratio} after gzip ({before:,} -> {size})"
    return claim if len(result.artifacts) == 1 else f"{artifact.path} {claim}"


def _metric_claim(artifact: Artifact, result: RunResult) -> str:
    label = metric_label(result.metric)
    if finite(artifact.metric) is None:
        return f"{label} not measured"
    after = metric_text(artifact.metric, result.metric)
    before = result.baseline.metric if result.baseline else None
    if finite(before) is None:
        return f"{label} {after}"
    change = drop_text(artifact.drop, artifact.drop_ci95, result.metric)
    return f"{label} {metric_text(before, result.metric)} -> {after} ({change})"


def _stage_claims(result: RunResult) -> tuple[str, ...]:
    """Return what a run without files reached: the last stage against the baseline."""
    if not result.stages:
        return ("nothing was trained or exported",)
    last = result.stages[-1]
    label = metric_label(result.metric)
    after = metric_text(last.metric, result.metric)
    before = finite(result.baseline.metric) if result.baseline else None
    number = finite(last.metric)
    if len(result.stages) == 1 or before is None or number is None or result.metric is None:
        return (f"{label} {after} after {last.name}", "nothing was exported")
    change = drop_text(result.metric.drop(before, number), None, result.metric)
    return (
        f"{label} {metric_text(before, result.metric)} -> {after} after {last.name} ({change})",
        "nothing was exported",
    )
