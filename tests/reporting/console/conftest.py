import io
from pathlib import Path

import pytest

from tfopt.evaluation.metrics import Accuracy
from tfopt.results import (
    Artifact,
    Baseline,
    Latency,
    LayerDecision,
    RunResult,
    StageResult,
)

LATENCY = Latency(p50=0.0613, p90=0.0688, threads=1, runs=200, warmup=20)
STAGES = (
    StageResult("train", 0.989, 41.3, {"parameters": 431_080}, history={"loss": [0.5, 0.1]}),
    StageResult("prune", 0.985, 27.8, {"zero_fraction": 0.9841}, notes=("bn has no kernel",)),
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal, as a pseudo-terminal would."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("CI", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def terminal():
    return Terminal()


@pytest.fixture
def log():
    return io.StringIO()


@pytest.fixture
def ascii_log():
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii")


@pytest.fixture
def run_result():
    artifact = Artifact(
        path="export/lenet5_int8.tflite",
        format="litert",
        precision="int8",
        bytes=441_912,
        gzip_bytes=17_800,
        metric=0.987,
        drop=0.002,
        drop_ci95=(-0.003, 0.007),
        latency_ms=LATENCY,
        notes=("SOFTMAX stays in float",),
    )
    return RunResult(
        "lenet5",
        "ok",
        {},
        {},
        "",
        metric=Accuracy().info(1000),
        baseline=Baseline(0.989, 431_080, 1_727_588, 1_596_102),
        stages=STAGES,
        artifacts=[artifact],
        max_drop=0.005,
    )


@pytest.fixture
def play():
    """The function that sends the events of a run to a reporter."""

    def send(reporter, result, *, epochs=2, hostile=""):
        metric = result.metric
        names = [stage.name for stage in result.stages]
        reporter.run_started(result.name + hostile, names, Path("runs/lenet5"), metric=metric)
        for number, stage in enumerate(result.stages, start=1):
            reporter.stage_started(
                stage.name,
                number=number,
                total=2,
                epochs=epochs,
                steps_per_epoch=3,
                target=f"98% zeros{hostile}",
            )
            for epoch in range(1, epochs + 1):
                for step in (1, 2, 3):
                    reporter.step_done(step)
                logs = {"loss": 0.5 / epoch, "accuracy": 0.9, "val_accuracy": 0.98}
                reporter.epoch_done(epoch, {**logs, f"zero{hostile}": 0.5})
            reporter.message(f"a message{hostile}")
            reporter.stage_done(stage, baseline=0.989, gate=0.984)
        reporter.stage_skipped("cluster", f"already done{hostile}")
        reporter.warning(f"calibration data is narrow{hostile}")
        for artifact in result.artifacts:
            reporter.artifact_done(artifact)
        reporter.run_done(result, Path(f"runs/lenet5/report.html{hostile}"))
        reporter.close()

    return send


@pytest.fixture
def decisions():
    return {
        "prune": [
            LayerDecision("conv1", "Conv2D", True, "60% zeros", {"zero_fraction": 0.6}),
            LayerDecision("bn", "BatchNormalization", False, "has no kernel"),
        ],
        "quantize": [
            LayerDecision("conv1", "Conv2D", True, "int8"),
            LayerDecision("prelu[0]", "PReLU", False, "tfmot does not take [PReLU]"),
        ],
    }
