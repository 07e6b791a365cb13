"""A realistic run: LeNet-5 on 5,000 digits, pruned, clustered, quantized, exported."""

import numpy as np
import pytest

from tfopt.evaluation.metrics import Accuracy
from tfopt.results import (
    Artifact,
    Baseline,
    Latency,
    LayerDecision,
    RunResult,
    StageResult,
    WeightHistogram,
)

LAYERS = (("conv1", "Conv2D", 500), ("conv2", "Conv2D", 25_000), ("dense1", "Dense", 400_000))
LAYERS = (*LAYERS, ("output", "Dense", 5_000))
ZEROS = {"conv1": 0.6, "conv2": 0.92, "dense1": 0.99, "output": 0.85}


def history(epochs: int, *, start: float, end: float, peak: float) -> dict[str, list[float]]:
    along = np.linspace(0, 1, epochs)
    loss = start * np.exp(-4 * along) + 0.02
    accuracy = end - (end - 0.9) * np.exp(-5 * along)
    return {
        "loss": [float(value) for value in loss],
        "accuracy": [float(value) for value in accuracy],
        "val_loss": [float(value) for value in loss * 1.15 + 0.01],
        "val_accuracy": [float(value) for value in accuracy - 0.004],
        "learning_rate": [float(value) for value in peak * 0.5 * (1 + np.cos(np.pi * along))],
    }


def decisions(step: str) -> list[LayerDecision]:
    reasons = {
        "prune": lambda name: f"{ZEROS[name]:.0%} of the kernel set to zero",
        "cluster": lambda name: "16 shared values, zeros kept",
        "quantize": lambda name: "int8 weights, int8 activations; zeros and values kept",
    }
    values = {
        "prune": lambda name: {"zero_fraction": ZEROS[name] + 0.0004},
        "cluster": lambda name: {"unique_weights": 16, "zero_fraction": ZEROS[name]},
        "quantize": lambda name: {"range_min": -0.431, "range_max": 0.4387, "unique_weights": 16},
    }
    return [
        LayerDecision(name, kind, True, reasons[step](name), values[step](name))
        for name, kind, _ in LAYERS
    ]


def stages() -> list[StageResult]:
    return [
        StageResult(
            "train",
            0.989,
            41.3,
            {"parameters": 431_080},
            (),
            (),
            history(12, start=0.6, end=0.989, peak=2e-3),
        ),
        StageResult(
            "prune",
            0.988,
            27.8,
            {"zero_fraction": 0.9841, "prunable_fraction": 0.9987, "steps": 378},
            decisions("prune"),
            (),
            history(6, start=0.2, end=0.9885, peak=1e-3),
        ),
        StageResult(
            "cluster",
            0.986,
            12.1,
            {"max_unique_weights": 16, "zero_fraction": 0.9841},
            decisions("cluster"),
            (),
            history(3, start=0.1, end=0.987, peak=3e-4),
        ),
        StageResult(
            "quantize",
            0.987,
            14.9,
            {"zero_fraction": 0.9839, "ranges_converged": True, "quantized_layers": 4},
            decisions("quantize"),
            (),
            history(3, start=0.1, end=0.987, peak=1e-4),
        ),
    ]


def int8_artifact(**changes: object) -> Artifact:
    settings: dict[str, object] = {
        "path": "export/lenet5-mnist_int8.tflite",
        "format": "litert",
        "precision": "int8",
        "bytes": 441_912,
        "gzip_bytes": 17_800,
        "metric": 0.987,
        "drop": 0.002,
        "drop_ci95": (-0.003, 0.007),
        "max_abs_error": 0.0871,
        "top1_agreement": 0.996,
        "int8_op_fraction": 1.0,
        "latency_ms": Latency(p50=0.0613, p90=0.0688, threads=1, runs=200, warmup=20),
        "input_types": ("float32",),
        "output_types": ("float32",),
    }
    return Artifact(**{**settings, **changes})


def three_artifacts() -> list[Artifact]:
    return [
        int8_artifact(),
        int8_artifact(
            path="export/lenet5-mnist_float16.tflite",
            precision="float16",
            bytes=866_120,
            gzip_bytes=31_240,
            metric=0.988,
            drop=0.001,
            drop_ci95=(-0.0015, 0.0035),
            max_abs_error=0.00042,
            int8_op_fraction=0.0,
            latency_ms=Latency(p50=0.203, p90=0.214, threads=1, runs=200, warmup=20),
        ),
        int8_artifact(
            path="export/lenet5-mnist_int16x8.tflite",
            precision="int16x8",
            bytes=446_208,
            gzip_bytes=19_012,
            metric=0.981,
            drop=0.008,
            drop_ci95=(0.002, 0.014),
            max_abs_error=0.031,
            latency_ms=Latency(p50=1.93, p90=2.1, threads=1, runs=200, warmup=20),
            int8_op_fraction=0.91,
            float_ops=("SOFTMAX (StatefulPartitionedCall:0)",),
            notes=("int16x8 runs on reference kernels here, so it is slow",),
        ),
    ]


def weight_histogram(name: str, count: int, zeros: float) -> WeightHistogram:
    generator = np.random.default_rng(len(name))
    before = generator.normal(0, 0.08, count)
    centres = np.linspace(-0.3, 0.3, 15)
    after = np.zeros(count)
    kept = max(1, round(count * (1 - zeros)))
    after[:kept] = centres[np.clip(generator.normal(7, 3.2, kept), 0, 14).astype(int)]
    edges = np.linspace(-0.4, 0.4, 61)
    return WeightHistogram(
        layer=name,
        edges=[float(edge) for edge in edges],
        before=[int(value) for value in np.histogram(before, edges)[0]],
        after=[int(value) for value in np.histogram(after, edges)[0]],
        zero_fraction_before=0.0,
        zero_fraction_after=float(np.mean(after == 0)),
        unique_before=len(np.unique(before)),
        unique_after=len(np.unique(after)),
    )


def lenet_run(**changes: object) -> RunResult:
    settings: dict[str, object] = {
        "name": "lenet5-mnist",
        "status": "ok",
        "machine": {
            "processor": "x86_64, AVX512-VNNI",
            "cores": 2,
            "memory_bytes": 16_430_000_000,
            "system": "Linux 6.1",
        },
        "versions": {"tfopt": "0.1.0", "tensorflow": "2.21.0", "ai-edge-litert": "2.3.0"},
        "recipe_sha256": "3f1c" * 16,
        "metric": Accuracy().info(1000),
        "baseline": Baseline(
            0.989,
            431_080,
            1_727_588,
            1_596_102,
            Latency(p50=0.2071, p90=0.2204, threads=1, runs=200, warmup=20),
        ),
        "stages": stages(),
        "artifacts": [int8_artifact()],
        "command": "tfopt run configs/lenet5_mnist.yaml --set seed=7",
        "max_drop": 0.005,
    }
    return RunResult(**{**settings, **changes})


@pytest.fixture
def make_run():
    """The function that makes a run: one artefact and a met gate, unless changed."""
    return lenet_run


@pytest.fixture
def make_artifact():
    return int8_artifact


@pytest.fixture
def make_histogram():
    return weight_histogram


@pytest.fixture
def lenet() -> RunResult:
    return lenet_run()


@pytest.fixture
def lenet_three() -> RunResult:
    """Three artefacts; one misses the gate, keeps an operator in float, and says so."""
    return lenet_run(status="gate_missed", artifacts=three_artifacts())


@pytest.fixture
def histograms() -> list[WeightHistogram]:
    return [weight_histogram(name, count, ZEROS[name]) for name, _, count in LAYERS]
