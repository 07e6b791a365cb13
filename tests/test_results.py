from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tfopt.evaluation.metrics import Accuracy
from tfopt.results import (
    Artifact,
    Baseline,
    Latency,
    LayerDecision,
    RankChange,
    RunResult,
    StageResult,
    WeightHistogram,
    run_result_from_json,
    to_json,
    weight_histograms_from_json,
)

LATENCY = Latency(p50=0.1, p90=0.2, threads=1, runs=200, warmup=20)
RESULT = RunResult(
    name="run",
    status="ok",
    machine={"cpu": "x", "cores": 2},
    versions={"tfopt": "0"},
    recipe_sha256="0" * 64,
    metric=Accuracy().info(10),
    baseline=Baseline(metric=0.9, parameters=5, litert_float_bytes=20, latency_ms=LATENCY),
    stages=[
        StageResult(
            name="prune",
            metric=0.8,
            seconds=1.5,
            evidence={"zero_fraction": np.float32(0.5)},
            layers=[LayerDecision("conv", "Conv2D", done=True, reason="r", values={"target": 0.5})],
            notes=("n",),
            history={"loss": [1.0, 0.5]},
        )
    ],
    artifacts=[
        Artifact(
            path="export/a.tflite",
            format="litert",
            precision="int8",
            bytes=10,
            gzip_bytes=8,
            metric=0.79,
            drop=0.11,
            drop_ci95=(-0.1, 0.3),
            max_abs_error=0.01,
            int8_op_fraction=1.0,
            latency_ms=LATENCY,
        )
    ],
    max_drop=0.2,
)


def test_the_names_that_readers_rely_on() -> None:
    raw = json.loads(RESULT.to_json())
    assert raw["schema"] == 1
    assert {"name", "status", "machine", "versions", "recipe_sha256", "error", "command"} <= set(
        raw
    )
    assert raw["metric"] == {
        "name": "accuracy",
        "higher_is_better": True,
        "examples": 10,
        "label": "accuracy",
        "unit": "points",
    }
    assert {"metric", "parameters", "litert_float_bytes", "litert_float_gzip_bytes"} <= set(
        raw["baseline"]
    )
    assert {"name", "metric", "seconds", "evidence"} <= set(raw["stages"][0])
    artifact = raw["artifacts"][0]
    assert {
        "path", "format", "precision", "bytes", "gzip_bytes", "metric", "drop", "drop_ci95",
        "max_abs_error", "int8_op_fraction", "latency_ms",
    } <= set(artifact)  # fmt: skip
    assert artifact["drop_ci95"] == [-0.1, 0.3]
    assert {"p50", "p90", "threads", "runs"} <= set(artifact["latency_ms"])


def test_a_result_survives_the_file() -> None:
    again = run_result_from_json(RESULT.to_json())
    assert again.to_json() == RESULT.to_json()
    assert again.artifacts[0].latency_ms == LATENCY
    assert again.artifacts[0].drop_ci95 == (-0.1, 0.3)
    assert again.baseline == RESULT.baseline
    assert again.stages[0].layers == RESULT.stages[0].layers


def test_numbers_that_are_not_finite_become_null_and_come_back() -> None:
    lost = RunResult(
        name="lost",
        status="failed",
        machine={"load": math.inf},
        versions={},
        recipe_sha256="",
        baseline=Baseline(metric=math.nan, parameters=1),
        stages=[StageResult("train", metric=-math.inf, seconds=1, history={"loss": [math.nan]})],
        error="the loss is nan",
    )
    raw = json.loads(lost.to_json())
    assert (raw["machine"]["load"], raw["baseline"]["metric"]) == (None, None)
    assert raw["stages"][0]["history"] == {"loss": [None]}
    again = run_result_from_json(lost.to_json())
    assert again.baseline is not None
    assert math.isnan(again.baseline.metric)
    assert math.isnan(again.stages[0].metric)


def test_plain_data_of_many_kinds() -> None:
    value = {1: Path("a/b"), "set": {3}, "numpy": np.int64(4), "flag": np.bool_(True), "t": (1,)}
    assert json.loads(to_json(value)) == {
        "1": "a/b", "set": [3], "numpy": 4, "flag": True, "t": [1],
    }  # fmt: skip


def test_changes_of_the_processes_come_back() -> None:
    change = RankChange("lost", "train", 110, 92, 1, 0.5)
    changed = replace(RESULT, rank_changes=(change,))
    assert list(run_result_from_json(changed.to_json()).rank_changes) == [change]
    raw = json.loads(RESULT.to_json())
    del raw["rank_changes"]  # a file of an earlier version
    assert list(run_result_from_json(json.dumps(raw)).rank_changes) == []


def test_unknown_keys_of_a_later_version_are_left_out() -> None:
    raw = json.loads(RESULT.to_json())
    assert run_result_from_json(json.dumps({**raw, "later": 1})).name == "run"


@pytest.mark.parametrize("text", ["[]", "{}", '{"schema": 2}', "nonsense", ""])
def test_what_is_no_result(text: str) -> None:
    with pytest.raises(ValueError, match="schema 1|Expecting value"):
        run_result_from_json(text)


def test_histograms_survive_the_file() -> None:
    histogram = WeightHistogram("conv/kernel", [0.0, 1.0], [3], [2], zero_fraction_after=0.5)
    assert weight_histograms_from_json(to_json([histogram])) == [histogram]
    with pytest.raises(ValueError, match="Not a list of weight histograms"):
        weight_histograms_from_json("{}")
