"""The verbs for single steps, on model files and with recipes, one after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfopt.compression.weight_statistics import model_kernels, unique_values, zero_fraction
from tfopt.models.load import load_model

pytestmark = pytest.mark.e2e

Run = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
name: steps
data: {source: digits, limit: 128, batch_size: 32}
model: {builder: lenet300}
train: {epochs: 1}
steps:
  - prune: {sparsity: 0.5, epochs: 1}
  - cluster: {clusters: 4, epochs: 0}
export: [litert]
gate: {max_drop: 0.5}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "steps.yaml").write_text(RECIPE)
    return tmp_path


def kernels(folder: str) -> dict[str, np.ndarray]:
    return dict(model_kernels(load_model(Path(folder) / "model.keras")))


def test_a_model_file_goes_through_every_verb(here: Path, shelf: Path, tfopt: Run) -> None:
    data = ("--data", shelf / "rows.npz")
    found = tfopt(
        "prune", shelf / "model.keras", *data, "--sparsity", 0.75, "--epochs", 1, "-o", "p"
    )
    assert (found.code, found.out) == (0, ""), found.err
    assert "prune: done" in found.err
    assert zero_fraction(kernels("p")) == pytest.approx(0.75, abs=0.01)
    results = json.loads(Path("p/results.json").read_text())
    assert results["command"].startswith("tfopt prune ")
    assert [stage["name"] for stage in results["stages"]][-1] == "prune"
    assert tfopt("cluster", "p/model.keras", *data, "--clusters", 8, "-o", "c", "-q").code == 0
    assert max(unique_values(kernel) for kernel in kernels("c").values()) <= 8
    assert zero_fraction(kernels("c")) == pytest.approx(0.75, abs=0.01)
    assert tfopt("quantize", "c/model.keras", *data, "--epochs", 1, "-o", "q", "-q").code == 0
    made = tfopt("export", "q/model.keras", *data, "-o", "m.tflite")
    assert (made.code, made.err) == (0, "")
    assert made.out.startswith("m.tflite: int8, ")
    assert "operators on integers: 100%" in made.out
    refused = tfopt("export", "q/model.keras", *data, "-o", "m.tflite")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        "error: m.tflite exists already. Add --overwrite (in Python overwrite=True) to replace it, "
        "or give another --output (path).\n"
    )
    judge_the_file(tfopt, shelf, data)
    page = Path("p/report.html").read_bytes()
    Path("p/report.html").unlink()
    again = tfopt("report", "p")
    assert (again.code, again.out) == (0, "p/report.html\n")
    assert Path("p/report.html").read_bytes() == page


def judge_the_file(tfopt: Run, shelf: Path, data: tuple[Any, ...]) -> None:
    judged = tfopt("verify", "m.tflite", "--against", "q/model.keras", *data, "--max-drop", 0.1)
    assert (judged.code, judged.err) == (0, "")
    for line in ("accuracy through the file: ", "drop against the model: ", "latency: p50 "):
        assert line in judged.out
    missed = tfopt("verify", "m.tflite", "-a", "q/model.keras", *data, "--max-drop", -0.5)
    assert missed.code == 3
    assert missed.err.startswith("error: The accuracy of m.tflite is worse by ")
    assert missed.err.endswith("the gate allows -0.5000. The file is kept.\n")
    wrong = tfopt("verify", "m.tflite", "-a", shelf / "other.keras", *data)
    assert wrong.code == 4
    assert "top-1 agreement" in wrong.err
    timed = tfopt("bench", "m.tflite", "m.tflite", "--runs", 5, "--warmup", 1)
    assert (timed.code, timed.err) == (0, "")
    first, *lines = timed.out.splitlines()
    assert first == "1 thread(s), 5 runs after 1 warm-up runs, batch 1, interleaved"
    size = Path("m.tflite").stat().st_size
    assert all(line.startswith("m.tflite: p50 ") and f"{size:,} bytes" in line for line in lines)


def test_a_quantized_model_is_no_start_for_another_step(
    here: Path, shelf: Path, tfopt: Run
) -> None:
    data = ("--data", shelf / "rows.npz")
    assert tfopt("quantize", shelf / "model.keras", *data, "--epochs", 0, "-o", "q", "-q").code == 0
    found = tfopt("prune", "q/model.keras", *data, "-o", "p")
    assert found.code == 2
    assert not Path("p").exists()


def test_a_recipe_gives_data_and_settings(here: Path, shelf: Path, tfopt: Run) -> None:
    trained = tfopt("train", "steps.yaml", "-o", "t", "-q")
    assert trained.code == 0
    results = json.loads(Path("t/results.json").read_text())
    assert [stage["name"] for stage in results["stages"]] == ["train"]
    assert (results["artifacts"], results["max_drop"]) == ([], None)
    whole = tfopt("prune", "--config", "steps.yaml", "-o", "p", "-q")
    assert whole.code == 0
    assert zero_fraction(kernels("p")) == pytest.approx(0.5, abs=0.01)
    loaded = tfopt("cluster", "t/model.keras", "--config", "steps.yaml", "-o", "c", "-q")
    assert loaded.code == 0
    assert {unique_values(kernel) for kernel in kernels("c").values()} == {4}
    judged = tfopt("verify", "nosuch.tflite", "-a", "t/model.keras", "--config", "steps.yaml")
    assert (judged.code, judged.out) == (2, "")


def test_scripts_run_the_same_verbs(here: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "train.py", "--config", "steps.yaml", "-o", "t"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "train: done" in done.stderr
    results = json.loads(Path("t/results.json").read_text())
    assert results["command"] == "tfopt train --config steps.yaml -o t"
