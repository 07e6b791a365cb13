"""What a run returns and writes: the types behind ``results.json`` (schema 1)."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

SCHEMA = 1

Status = Literal["ok", "gate_missed", "failed"]
MetricUnit = Literal["points", "number"]
"""A share, written in per cent and points, or a plain number."""


@dataclass(frozen=True, slots=True)
class LayerDecision:
    """What a step does, or did, to one layer.

    Attributes:
        layer: Name of the layer in the model.
        kind: Class name of the layer, such as ``Conv2D``.
        done: Whether the step applies to this layer.
        reason: What is done, or why the layer is skipped; one clause for people.
        values: Planned or measured numbers, such as ``zero_fraction`` in ``[0, 1]``.
    """

    layer: str
    kind: str
    done: bool
    reason: str
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """The task metric every stage and artefact is scored with.

    Attributes:
        name: Its name in recipes, such as ``top_5_accuracy``.
        higher_is_better: Direction of the metric.
        examples: Rows of the evaluation split.
        label: Its name in sentences, such as ``top-5 accuracy``.
        unit: How values are written.
    """

    name: str
    higher_is_better: bool
    examples: int
    label: str
    unit: MetricUnit

    def drop(self, before: float, after: float) -> float:
        """Return how much worse ``after`` is; negative if it is better."""
        return before - after if self.higher_is_better else after - before

    def worst_allowed(self, before: float, max_drop: float) -> float:
        """Return the worst value that a gate of ``max_drop`` allows."""
        return before - max_drop if self.higher_is_better else before + max_drop


@dataclass(frozen=True, slots=True)
class Baseline:
    """The trained float model that everything is compared with.

    Attributes:
        metric: Task metric on the evaluation split.
        parameters: Number of scalars in the model's weights.
        litert_float_bytes: Size of its float32 ``.tflite``; None if not exported.
        litert_float_gzip_bytes: The same after gzip (level 9).
        latency_ms: Latency of that file; None if not timed.
    """

    metric: float
    parameters: int
    litert_float_bytes: int | None = None
    litert_float_gzip_bytes: int | None = None
    latency_ms: Latency | None = None


@dataclass(frozen=True, slots=True)
class StageResult:
    """One finished stage and what was measured on its model.

    Attributes:
        name: ``train``, ``distill``, ``prune``, ``cluster`` or ``quantize``.
        metric: Task metric on the evaluation split after the stage.
        seconds: Wall time of the stage, training and measuring together.
        evidence: Measured numbers of the whole model, such as ``zero_fraction``.
        layers: The decision and measurement for every layer with weights.
        notes: Anything the user should know, such as a layer left float.
        history: Epoch logs: name to one number an epoch.
    """

    name: str
    metric: float
    seconds: float
    evidence: Mapping[str, Any] = field(default_factory=dict)
    layers: Sequence[LayerDecision] = ()
    notes: Sequence[str] = ()
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Latency:
    """Time of one inference with batch size 1.

    Attributes:
        p50: Median, in milliseconds.
        p90: 90th percentile, in milliseconds.
        threads: Interpreter threads.
        runs: Timed inferences.
        warmup: Inferences before the first timed one.
    """

    p50: float
    p90: float
    threads: int
    runs: int
    warmup: int


@dataclass(frozen=True, slots=True)
class Artifact:
    """An exported file, measured on the file itself.

    Attributes:
        path: Path relative to the run directory (or as given to ``export``).
        format: ``litert``.
        precision: Asked precision, such as ``int8``.
        bytes: File size.
        gzip_bytes: File size after gzip (level 9).
        metric: Task metric through the file on the whole evaluation split.
        metric_name: Name of that metric, such as ``accuracy``.
        drop: Baseline metric less this metric, signed so that positive is worse.
        drop_ci95: 95% paired confidence interval of ``drop``.
        max_abs_error: Largest absolute output difference from the source model.
        int8_op_fraction: Share of compute operators that work on integers.
        latency_ms: Latency at the stated threads.
        input_types: Type of each input, such as ``float32``.
        output_types: Type of each output.
        float_ops: Operators left in floating point: ``NAME (output tensor)``.
        notes: Anything the user should know.
    """

    path: str
    format: str
    precision: str
    bytes: int
    gzip_bytes: int
    metric: float | None = None
    drop: float | None = None
    drop_ci95: tuple[float, float] | None = None
    max_abs_error: float | None = None
    top1_agreement: float | None = None
    int8_op_fraction: float | None = None
    latency_ms: Latency | None = None
    input_types: Sequence[str] = ()
    output_types: Sequence[str] = ()
    float_ops: Sequence[str] = ()
    notes: Sequence[str] = ()
    metric_name: str | None = None


@dataclass(frozen=True, slots=True)
class RankChange:
    """One change of the processes of an elastic run.

    Attributes:
        cause: ``lost`` or ``hosts changed``.
        stage: The stage in hand.
        reached: Steps of it done when the change was noticed.
        resumed: Step from which it was trained on.
        size: Processes from then on.
        seconds: From the notice to the moment that training could go on.
    """

    cause: str
    stage: str
    reached: int
    resumed: int
    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RunResult:
    """Everything a run found, as written to ``results.json``.

    Attributes:
        error: ``None``, or the message of the error that ended the run.
        command: The command that reproduces the run.
        max_drop: The gate's limit, or None without a gate.
        failed_stage: Name of the stage that raised ``error``, if it was in one.
        timeline: Horovod's timeline, relative to the run directory, if it was recorded.
        rank_changes: Changes of the processes of an elastic run.
    """

    name: str
    status: Status
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    recipe_sha256: str
    metric: MetricInfo | None = None
    baseline: Baseline | None = None
    stages: Sequence[StageResult] = ()
    artifacts: Sequence[Artifact] = ()
    error: str | None = None
    command: str = ""
    max_drop: float | None = None
    failed_stage: str | None = None
    timeline: str | None = None
    rank_changes: Sequence[RankChange] = ()
    schema: int = SCHEMA

    def to_json(self) -> str:
        """Return the result as JSON text; numbers that are not finite become null."""
        return to_json(self)


@dataclass(frozen=True, slots=True)
class WeightHistogram:
    """How one kernel's weights are spread, before and after compression.

    Attributes:
        layer: Name of the layer.
        edges: Edges of the bins, ascending, one more than there are bins.
        before: Weights of the trained float model in each bin.
        after: Weights of the final model in each bin.
        zero_fraction_before: Share of exact zeros before, in ``[0, 1]``.
        zero_fraction_after: Share of exact zeros after. Zeros are also counted in
            their bin.
        unique_before: Number of distinct values before.
        unique_after: Number of distinct values after.
    """

    layer: str
    edges: Sequence[float]
    before: Sequence[int]
    after: Sequence[int]
    zero_fraction_before: float | None = None
    zero_fraction_after: float | None = None
    unique_before: int | None = None
    unique_after: int | None = None


def to_json(value: Any) -> str:
    """Return dataclasses, mappings and sequences as indented JSON text.

    Numbers that are not finite become ``null``, since JSON has no word for them.
    """
    return json.dumps(_plain(value), indent=2, allow_nan=False) + "\n"


def run_result_from_json(text: str) -> RunResult:
    """Return the result that ``RunResult.to_json`` wrote.

    Raises:
        ValueError: If the text is not JSON or not of schema 1.
    """
    raw = json.loads(text)
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        raise ValueError(f"Not a results.json of schema {SCHEMA}.")
    known = {f.name for f in dataclasses.fields(RunResult)}
    raw = {key: value for key, value in raw.items() if key in known}
    if raw.get("metric"):
        raw["metric"] = metric_info_from_dict(raw["metric"])
    if raw.get("baseline"):
        raw["baseline"] = baseline_from_dict(raw["baseline"])
    raw["stages"] = [stage_from_dict(stage) for stage in raw.get("stages", ())]
    raw["artifacts"] = [artifact_from_dict(entry) for entry in raw.get("artifacts", ())]
    raw["rank_changes"] = [RankChange(**entry) for entry in raw.get("rank_changes", ())]
    return RunResult(**raw)


def weight_histograms_from_json(text: str) -> list[WeightHistogram]:
    """Return the histograms that ``to_json`` wrote as a list.

    Raises:
        ValueError: If the text is not a JSON list.
    """
    raw = json.loads(text)
    if not isinstance(raw, list):
        raise ValueError("Not a list of weight histograms.")
    return [WeightHistogram(**entry) for entry in raw]


def metric_info_from_dict(raw: Mapping[str, Any]) -> MetricInfo:
    """Return the metric that ``to_json`` wrote, or an earlier version, without its wording."""
    label, unit = _FORMER_WORDING.get(raw["name"], (raw["name"].replace("_", " "), "number"))
    return MetricInfo(**{"label": label, "unit": unit, **raw})


_FORMER_WORDING: Mapping[str, tuple[str, MetricUnit]] = {
    "accuracy": ("accuracy", "points"),
    "top_5_accuracy": ("top-5 accuracy", "points"),
    "macro_f1": ("macro F1", "points"),
}


def baseline_from_dict(raw: Mapping[str, Any]) -> Baseline:
    """Return the baseline that ``to_json`` wrote."""
    changed = {**raw, "metric": _number(raw["metric"])}
    if raw.get("latency_ms"):
        changed["latency_ms"] = Latency(**raw["latency_ms"])
    return Baseline(**changed)


def stage_from_dict(raw: Mapping[str, Any]) -> StageResult:
    """Return the stage that ``to_json`` wrote."""
    layers = [LayerDecision(**entry) for entry in raw.get("layers", ())]
    return StageResult(**{**raw, "metric": _number(raw["metric"]), "layers": layers})


def artifact_from_dict(raw: Mapping[str, Any]) -> Artifact:
    """Return the artefact that ``to_json`` wrote."""
    changed = dict(raw)
    if raw.get("latency_ms"):
        changed["latency_ms"] = Latency(**raw["latency_ms"])
    if raw.get("drop_ci95"):
        changed["drop_ci95"] = tuple(raw["drop_ci95"])
    return Artifact(**changed)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
