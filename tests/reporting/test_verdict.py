import math

import pytest

from tfopt.evaluation.metrics import Accuracy, MeanSquaredError
from tfopt.reporting.verdict import gate_line, headline_artifact, meets_gate, verdict
from tfopt.results import Artifact, Baseline, RunResult, StageResult

ACCURACY = Accuracy().info(1000)


def artifact(path="a.tflite", *, gzip_bytes=17_800, metric=0.987, drop=0.002):
    interval = None if drop is None else (drop - 0.005, drop + 0.005)
    return Artifact(path, "litert", "int8", 441_912, gzip_bytes, metric, drop, interval)


def run(**changes):
    settings = {
        "name": "lenet5",
        "status": "ok",
        "machine": {},
        "versions": {},
        "recipe_sha256": "",
        "metric": ACCURACY,
        "baseline": Baseline(0.989, 431_080, 1_727_588, 1_596_102),
        "artifacts": [artifact()],
        "max_drop": 0.005,
    }
    return RunResult(**{**settings, **changes})


def test_a_pass_is_one_sentence():
    assert verdict(run()).line == (
        "PASS: 97x smaller after gzip (1,727,588 -> 17,800 bytes), accuracy 98.9% -> 98.7% "
        "(drop 0.2 points, 95% interval -0.3 to 0.7), gate 0.5 points"
    )


def test_without_a_gate_nothing_is_passed():
    assert verdict(run(max_drop=None)).line.startswith("DONE: 97x smaller")


def test_a_missed_gate_speaks_of_the_worst_file():
    files = [artifact("a"), artifact("b", drop=0.02, metric=0.969), artifact("c", drop=0.01)]
    line = verdict(run(status="gate_missed", artifacts=files)).line
    assert line.startswith("GATE MISSED: b 97x smaller")
    assert line.endswith("gate 0.5 points, met by 1 of 3 files")


def test_all_files_meet_the_gate():
    assert verdict(run(artifacts=[artifact("a"), artifact("b")])).line.endswith(
        "met by all 2 files"
    )


def test_the_smallest_scored_file_is_the_headline():
    files = [artifact("a"), artifact("b", gzip_bytes=9), artifact("c", gzip_bytes=1, metric=None)]
    assert headline_artifact(run(artifacts=files)).path == "b"


def test_a_file_without_a_score_is_still_spoken_of():
    line = verdict(run(artifacts=[artifact(metric=None, drop=None)])).line
    assert "accuracy not measured" in line


@pytest.mark.parametrize(
    ("changes", "lead"),
    [
        ({"failed_stage": "prune"}, "FAILED at stage prune"),
        ({"stages": [StageResult("train", 0.9, 1.0)]}, "FAILED after stage train"),
        ({}, "FAILED"),
    ],
)
def test_failures_say_where(changes, lead):
    said = verdict(run(status="failed", error="\nno zeros\nmore", **changes))
    assert said.line == f"{lead}: no zeros"


def test_a_failure_without_a_message():
    assert verdict(run(status="failed", error="  ")).line == "FAILED: no error was recorded"


def test_a_run_without_files_speaks_of_its_last_stage():
    stages = [StageResult("train", 0.989, 1.0), StageResult("prune", 0.98, 1.0)]
    line = verdict(run(artifacts=(), stages=stages)).line
    assert line == (
        "PASS: accuracy 98.9% -> 98.0% after prune (drop 0.9 points), nothing was exported, "
        "gate 0.5 points"
    )


def test_an_error_metric_rises_when_it_gets_worse():
    metric = MeanSquaredError().info(10)
    stages = [StageResult("train", 0.5, 1.0), StageResult("prune", 0.7, 1.0)]
    result = run(metric=metric, baseline=Baseline(0.5, 1), artifacts=(), stages=stages)
    assert "0.5 -> 0.7 after prune (worse by 0.2)" in verdict(result).line
    assert gate_line(result) == pytest.approx(0.505)
    assert gate_line(run()) == pytest.approx(0.984)


@pytest.mark.parametrize("baseline", [None, Baseline(math.nan, 1)])
def test_without_a_float_metric_there_is_no_gate_line(baseline):
    result = run(baseline=baseline)
    assert gate_line(result) is None
    assert "accuracy 98.7%, gate" in verdict(result).line


def test_a_drop_that_is_not_a_number_neither_meets_nor_misses():
    assert meets_gate(artifact(drop=math.nan), 0.1) is None
    assert meets_gate(artifact(drop=0.989 - 0.984), 0.005) is True
    assert meets_gate(artifact(drop=0.006), 0.005) is False
    assert meets_gate(artifact(drop=0.1), None) is None


def test_nothing_at_all():
    said = verdict(RunResult("bare", "ok", {}, {}, ""))
    assert said.line == "DONE: nothing was trained or exported"
