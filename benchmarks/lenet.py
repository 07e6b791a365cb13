"""LeNet-5 and LeNet-300-100 on MNIST-5k: bytes and accuracy over seeds, beside the literature.

    python benchmarks/lenet.py                     # both recipes, seeds 1-3, and the control
    python benchmarks/lenet.py --recipes lenet5 --seeds 1 --no-control

Each row is one `tfopt run`. The ratio is the float32 `.tflite` over the gzipped int8
`.tflite`; the drop is measured on the exported file against the trained float model. The
control trains the float model for as many epochs as the whole compressed chain.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfopt.config.load import load_recipe

ROOT = Path(__file__).resolve().parent.parent
LITERATURE = {
    "lenet5": (
        ("Deep Compression (arXiv:1510.00149)", 39),
        ("Soft weight-sharing (1702.04008)", 162),
    ),
    "lenet300": (
        ("Deep Compression (arXiv:1510.00149)", 40),
        ("Soft weight-sharing (1702.04008)", 64),
    ),
}


@dataclass(frozen=True)
class Row:
    """One run: its seed, sizes, metrics and wall time."""

    seed: int
    float_bytes: int
    gzip_bytes: int
    float_metric: float
    int8_metric: float
    control_metric: float | None
    seconds: float

    @property
    def ratio(self) -> float:
        """Return how many times smaller the gzipped int8 file is."""
        return self.float_bytes / self.gzip_bytes

    @property
    def drop(self) -> float:
        """Return the lost accuracy; negative is a gain."""
        return self.float_metric - self.int8_metric


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", default=list(LITERATURE), choices=list(LITERATURE))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--control", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    print(__doc__.splitlines()[0], flush=True)
    for name in options.recipes:
        rows = [measure(name, seed, with_control=options.control) for seed in options.seeds]
        print_table(name, rows)


def measure(name: str, seed: int, *, with_control: bool) -> Row:
    recipe = f"configs/{name}_mnist.yaml"
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        result = run(["run", recipe, "--set", f"seed={seed}"], Path(folder) / "run")
        seconds = time.monotonic() - started
        control = None
        if with_control:
            epochs = f"train.epochs={chain_epochs(recipe)}"
            words = ["train", recipe, "--set", f"seed={seed}", "--set", epochs]
            control = run(words, Path(folder) / "control")["baseline"]["metric"]
    artifact = result["artifacts"][0]
    return Row(
        seed=seed,
        float_bytes=result["baseline"]["litert_float_bytes"],
        gzip_bytes=artifact["gzip_bytes"],
        float_metric=result["baseline"]["metric"],
        int8_metric=artifact["metric"],
        control_metric=control,
        seconds=seconds,
    )


def run(words: list[str], folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tfopt", *words, "--quiet", "--output", str(folder)]
    subprocess.run(command, check=True, cwd=ROOT)
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def chain_epochs(recipe: str) -> int:
    loaded = load_recipe(ROOT / recipe)
    steps = sum(step.settings.epochs for step in loaded.steps)
    return steps + (loaded.training.epochs if loaded.training else 0)


def print_table(name: str, rows: list[Row]) -> None:
    print(f"\n{name}: {rows[0].float_bytes:,} bytes as float32 .tflite")
    print("seed   gzipped int8   ratio   float    int8     drop    control  seconds")
    for row in rows:
        control = f"{row.control_metric:.4f}" if row.control_metric is not None else "-"
        print(
            f"{row.seed:<6} {row.gzip_bytes:>12,} {row.ratio:>6.1f}x  {row.float_metric:.4f}  "
            f"{row.int8_metric:.4f}  {row.drop:+.4f}  {control:>7}  {row.seconds:.0f}"
        )
    drops = [row.drop for row in rows]
    ratio = statistics.mean(row.ratio for row in rows)
    int8 = statistics.mean(row.int8_metric for row in rows)
    print(f"mean   ratio {ratio:.1f}x, drop {statistics.mean(drops):+.4f}, int8 {int8:.4f}")
    for source, ratio in LITERATURE[name]:
        print(f"       {source}: {ratio}x (60,000 training digits; here 4,000)")


if __name__ == "__main__":
    main()
