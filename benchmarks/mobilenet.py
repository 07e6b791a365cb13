"""MobileNetV2 at 96 pixels: float32, float16, static int8 and QAT int8, size and latency.

    python benchmarks/mobilenet.py --threads 1 --runs 200

Weights are random and batch-norm statistics calibrated, so the figures are about size,
speed and parity, not accuracy. Latencies are interleaved in one process.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from tfopt.reporting.process_log import quiet_tensorflow

with quiet_tensorflow():
    import tfopt
    from tfopt.evaluation.latency import measure_interleaved
    from tfopt.evaluation.machine import describe_machine
    from tfopt.keras2.core import Model, keras
    from tfopt.models.zoo.mobilenet import mobilenet_v2
    from tfopt.results import Artifact

SIDE = 96
CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--warmup", type=int, default=20)
    options = parser.parse_args()
    machine = describe_machine()
    print(__doc__.splitlines()[0])
    print(
        f"{machine['cpu']}, {options.threads} thread(s), {options.runs} runs after "
        f"{options.warmup} warm-up runs, batch 1, interleaved",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        files = export_all(Path(folder))
        latencies = measure_interleaved(
            [artifact.path for artifact in files.values()],
            threads=options.threads,
            runs=options.runs,
            warmup=options.warmup,
        )
    first, first_ms = next(iter(files.values())), latencies[0].p50
    print("file         bytes      smaller   p50 ms   faster   integer ops   relative to source")
    for (name, artifact), latency in zip(files.items(), latencies, strict=True):
        print(
            f"{name:<10} {artifact.bytes:>9,}  {first.bytes / artifact.bytes:>6.2f}x  "
            f"{latency.p50:>8.3f}  {first_ms / latency.p50:>5.2f}x  "
            f"{artifact.int8_op_fraction or 0:>10.0%}   max abs error "
            f"{artifact.max_abs_error:.3g}, top-1 agreement {artifact.top1_agreement:.1%}"
        )


def export_all(folder: Path) -> dict[str, Artifact]:
    generator = np.random.default_rng(0)
    images = smooth_images(generator, 256)
    labels = generator.integers(0, CLASSES, 256)
    model = calibrated(mobilenet_v2((SIDE, SIDE, 3), CLASSES), images)
    trained = tfopt.quantize(model, (images[:192], labels[:192]), epochs=1, batch_size=32)
    sources = {
        "float32": (model, "float32"),
        "float16": (model, "float16"),
        "int8": (model, "int8"),
        "QAT int8": (trained, "int8"),
    }
    return {
        name: tfopt.export_litert(
            source,
            folder / f"{name.replace(' ', '-')}.tflite",
            precision=precision,
            calibration=images[:192],
            evaluation=images[192:],
        )
        for name, (source, precision) in sources.items()
    }


def smooth_images(generator: np.random.Generator, count: int) -> np.ndarray:
    """Return random images with structure: noise at several scales, in [0, 1]."""
    images = np.zeros((count, SIDE, SIDE, 3), np.float32)
    for side in (3, 6, 12, 24):
        coarse = generator.normal(size=(count, side, side, 3)).astype(np.float32)
        images += np.kron(coarse, np.ones((1, SIDE // side, SIDE // side, 1), np.float32))
    low, high = images.min(), images.max()
    return (images - low) / (high - low)


def calibrated(model: Model, images: np.ndarray) -> Model:
    """Set batch-norm statistics to those of the images, so that outputs depend on inputs."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.0
    model(images[:64], training=True)
    for layer in norms:
        layer.momentum = 0.99
    return model


if __name__ == "__main__":
    with quiet_tensorflow():
        main()
