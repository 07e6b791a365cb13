"""MiniLM-L6 on tweets: the teacher, a 3-layer student alone and distilled, and their .tflite files.

    python benchmarks/distill_text.py                  # 8,000 tweets, about 30 minutes on 2 cores
    python benchmarks/distill_text.py --limit 1500 --epochs 1 --rows 200    # to see that it runs
    python benchmarks/distill_text.py --folder runs/distill_text            # resumable

The teacher and the distilled student are the stages of `configs/minilm_tweets_distill.yaml`. The
student alone begins with the same pretrained weights and is trained on the same labels, for the
same epochs, with the same optimizer; it overfits, so it alone keeps its best epoch on the
validation tweets. All are scored on the 3,494 evaluation tweets, through their own `.tflite`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfopt.reporting.process_log import quiet_tensorflow

with quiet_tensorflow():
    from tfopt.compression.keras3 import SAVED_OBJECTS
    from tfopt.config.load import load_recipe
    from tfopt.config.schema import LitertExport, Precision, Recipe, Train
    from tfopt.data.load import DataBundle, load_data
    from tfopt.evaluation.latency import measure_interleaved
    from tfopt.evaluation.machine import describe_machine
    from tfopt.evaluation.metrics import MacroF1
    from tfopt.models.load import load_model
    from tfopt.pipeline.exports import ExportJob, make_and_measure
    from tfopt.pipeline.runner import RunOptions, run_recipe
    from tfopt.reporting.console import make_reporter
    from tfopt.results import Artifact, Latency

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "configs" / "minilm_tweets_distill.yaml"
METRIC = MacroF1(threshold=0.0)
EXPORTS: dict[str, tuple[Precision, ...]] = {
    "teacher": ("float32", "float16", "dynamic", "int8"),
    "student alone": ("float32",),
    "student distilled": ("float32", "float16", "dynamic", "int8"),
}
KEPT, SMALLER, FASTER = 0.97, 0.40, 1.6


@dataclass(frozen=True)
class Row:
    """One file: whose it is, and what was measured on it."""

    who: str
    artifact: Artifact
    latency: Latency

    @property
    def score(self) -> float:
        """Return the macro-F1 through the file."""
        return self.artifact.metric or 0.0


def main() -> None:
    options = parse()
    machine = describe_machine()
    print(__doc__.splitlines()[0])
    with _folder(options.folder) as folder:
        recipe = shortened(load_recipe(RECIPE), options)
        models = {
            **chain(recipe, folder / "chain", options),
            "student alone": alone(recipe, folder / "alone", options),
        }
        rows = measure(models, recipe, folder / "files", options)
    print(
        f"{machine['cpu']}, {options.threads} thread(s), 1 row of {recipe.data.text.max_tokens} "
        f"tokens, {options.runs} runs after {options.warmup} warm-up runs, interleaved"
    )
    report(rows)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=int, default=8000, help="tweets to train on")
    parser.add_argument("--epochs", type=int, help="of every stage; by default the recipe's")
    parser.add_argument("--rows", type=int, help="evaluate the files on about so many tweets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="keep everything here, and resume from it")
    return parser.parse_args()


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def shortened(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    """Return the recipe with the rows, seed and epochs asked for."""
    data = recipe.data.model_copy(update={"limit": options.limit})
    changed = recipe.model_copy(update={"data": data, "seed": options.seed})
    if options.epochs is None:
        return changed
    epochs = {"epochs": options.epochs}
    steps = tuple(
        step.model_copy(update={step.name: step.settings.model_copy(update=epochs)})
        for step in recipe.steps
    )
    train = changed.training.model_copy(update=epochs)
    return changed.model_copy(update={"train": train, "steps": steps, "gate": None})


def chain(recipe: Recipe, folder: Path, options: argparse.Namespace) -> dict[str, Path]:
    """Run the recipe; return the files of teacher, distilled student and 8-bit student."""
    run(recipe.model_copy(update={"export": (), "gate": None}), folder)
    stages = ("teacher", "00-train"), ("student distilled", "01-distill"), ("QAT", "02-quantize")
    return {who: folder / stage / "model.keras" for who, stage in stages}


def alone(recipe: Recipe, folder: Path, options: argparse.Namespace) -> Path:
    """Train the student on the labels alone, as it was distilled; return its file."""
    step = recipe.steps[0].distill
    shared = {name: getattr(step, name) for name in Train.model_fields if hasattr(step, name)}
    train = Train(**{**shared, "keep": "best"})
    control = {"model": step.student, "train": train, "steps": (), "export": ()}
    run(recipe.model_copy(update={**control, "gate": None}), folder)
    return folder / "00-train" / "model.keras"


def run(recipe: Recipe, folder: Path) -> None:
    reporter = make_reporter(quiet=False)
    try:
        run_recipe(recipe, RunOptions(output=folder, resume=folder.is_dir()), reporter)
    finally:
        reporter.close()


def measure(
    models: dict[str, Path], recipe: Recipe, folder: Path, options: argparse.Namespace
) -> list[Row]:
    """Export every model in every precision, score the files, and time them in turns."""
    folder.mkdir(parents=True, exist_ok=True)
    data = load_data(recipe.data, seed=recipe.seed)
    artifacts: list[tuple[str, Artifact]] = []
    for who, precisions in {**EXPORTS, "QAT": ("int8",)}.items():
        for precision in precisions:
            artifacts.append((who, exported(models[who], who, precision, data, folder, options)))
            print(f"{who}, {precision}: {artifacts[-1][1].metric:.4f}", flush=True)
    latencies = measure_interleaved(
        [artifact.path for _, artifact in artifacts],
        threads=options.threads,
        runs=options.runs,
        warmup=options.warmup,
    )
    return [
        Row(who, artifact, latency)
        for (who, artifact), latency in zip(artifacts, latencies, strict=True)
    ]


def exported(
    model: Path,
    who: str,
    precision: Precision,
    data: DataBundle,
    folder: Path,
    options: argparse.Namespace,
) -> Artifact:
    evaluation = data.evaluation
    if options.rows:  # from all over, for the rows are in the order of the classes
        evaluation = evaluation.select(np.arange(0, evaluation.examples, step_of(data, options)))
    job = ExportJob(
        model=load_model(model, custom_objects=SAVED_OBJECTS),
        path=folder / f"{who.replace(' ', '-')}-{precision}.tflite",
        settings=LitertExport(precision=precision, runs=1, warmup=0),
        calibration=data.train,
        training=data.train,
        evaluation=evaluation,
        metric=METRIC,
        overwrite=True,
    )
    return make_and_measure(job)


def step_of(data: DataBundle, options: argparse.Namespace) -> int:
    return max(1, data.evaluation.examples // options.rows)


def report(rows: Sequence[Row]) -> None:
    first = rows[0]
    print(
        "model              precision  macro-F1   kept      bytes    smaller   p50 ms   faster  int"
    )
    for row in rows:
        file = row.artifact
        print(
            f"{row.who:<18} {file.precision:<9}  {row.score:.4f}  {row.score / first.score:>6.1%}"
            f"  {file.bytes:>10,}  {1 - file.bytes / first.artifact.bytes:>6.0%}"
            f"   {row.latency.p50:>7.3f}  {first.latency.p50 / row.latency.p50:>5.2f}x"
            f"  {file.int8_op_fraction or 0:.0%}"
        )
    named = {(row.who, row.artifact.precision): row for row in rows}
    student, lonely = named["student distilled", "float32"], named["student alone", "float32"]
    smaller = 1 - student.artifact.bytes / first.artifact.bytes
    checks = {
        f"keeps at least {KEPT:.0%} of the macro-F1": student.score >= KEPT * first.score,
        f"is at least {SMALLER:.0%} smaller": smaller >= SMALLER,
        f"is at least {FASTER - 1:.0%} faster": first.latency.p50 >= FASTER * student.latency.p50,
        "beats the same student trained alone": student.score > lonely.score,
    }
    for promise, is_kept in checks.items():
        print(f"the distilled student {promise}: {'yes' if is_kept else 'NO'}")


if __name__ == "__main__":
    with quiet_tensorflow():
        main()
