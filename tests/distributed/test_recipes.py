"""Recipes on two processes, through the commands that a user types."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RECIPE = {
    "name": "two",
    "seed": 1,
    "data": {"source": "digits", "batch_size": 60, "limit": 400, "validation_fraction": 0.2},
    "model": {"builder": "mine:small"},
    "train": {"epochs": 2, "learning_rate": 0.01, "keep": "best"},
    "steps": [{"prune": {"sparsity": 0.5, "epochs": 1}}],
    "export": [{"litert": {"precision": "int8", "runs": 5}}],
    "gate": {"max_drop": -0.9},
}
MODULE = """
import json, os
from tf_keras import Input, Sequential, layers


def rank():
    task = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]
    return int(os.environ.get("HOROVOD_RANK", task["index"]))


def small(input_shape, classes):
    first = [Input(input_shape), layers.Flatten(), layers.Dense(8, "relu", name="hidden")]
    return Sequential([*first, layers.Dense(classes, name="out")])


def broken(input_shape, classes):
    if rank() == 1:
        raise FileNotFoundError("planted on one host")
    return small(input_shape, classes)


def other(input_shape, classes):
    model = small(input_shape, classes)
    if rank() == 1:
        model.layers[-1].bias.assign_add([1.0] * classes)
    return model
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run a command in a folder with recipe.yaml; return code and output."""
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))

    def start(*words: Any) -> tuple[int, str]:
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=300)
        finally:
            process.terminate()  # a launcher ends what it has started
            process.wait(timeout=30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return process.returncode, output

    return start


def scores(text: str) -> list[str]:
    """Return the numbers of the stages that train; the chief alone exports."""
    lines = re.findall(r"\[[12]/\d\] (?:train|prune): .*", text)
    return re.findall(r"(?:accuracy|val loss|loss) [-0-9.e%]+", "\n".join(lines))


def test_a_whole_recipe_on_two_workers(run: Any, tmp_path: Path) -> None:
    words = ("-m", "tfopt", "launch", "-np", "2", "--kind", "multi_worker", "--")
    code, output = run(*words, "run", "recipe.yaml", "-o", "out")
    assert code == 3, output
    assert "error: The gate allows a drop of -0.9000" in output
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["status"] == "gate_missed"
    for stage in results["stages"]:
        assert stage["evidence"]["replicas"] == 2
        assert stage["evidence"]["ranks_agree"] is True
        assert stage["evidence"]["rows_per_second"] > 0
    assert [path.name for path in (tmp_path / "out" / "ranks").iterdir()] == ["rank-1.log"]
    log = (tmp_path / "out" / "ranks" / "rank-1.log").read_text()
    first, second = (scores(text) for text in (output, log))
    assert len(first) > 8
    assert second == first
    # Taken up again, by one process: all is done already.
    again, told = run("-m", "tfopt", "run", "recipe.yaml", "-o", "out", "--resume")
    assert again == 3
    assert told.count("skipped, finished by an earlier run") == 3


def test_an_error_of_one_worker_is_named_and_ends_all(run: Any, tmp_path: Path) -> None:
    words = ("-m", "tfopt", "launch", "-np", "2", "--kind", "multi_worker", "--")
    code, output = run(*words, "train", "recipe.yaml", "--set", "model.builder=mine:broken")
    assert code == 2, output
    assert "error: Rank 1 of 2 failed" in output
    assert "planted on one host" in output
    assert not (tmp_path / "runs").exists()


@pytest.mark.horovod
def test_horovodrun_of_the_script(run: Any, tmp_path: Path) -> None:
    launcher = ("-m", "horovod.runner.launch", "--gloo", "-np", "2", "-H", "localhost:2")
    program = (sys.executable, ROOT / "scripts" / "train.py", "--config", "recipe.yaml")
    code, output = run(*launcher, *program, "-o", "out")
    assert code == 0, output
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [stage["name"] for stage in results["stages"]] == ["train"]
    assert results["stages"][0]["evidence"]["replicas"] == 2
    log = (tmp_path / "out" / "ranks" / "rank-1.log").read_text()
    assert scores(log) == scores(output) != []


@pytest.mark.horovod
def test_ranks_that_begin_with_other_models(run: Any) -> None:
    words = ("-m", "tfopt", "launch", "-np", "2", "--", "train", "recipe.yaml")
    code, output = run(*words, "--set", "model.builder=mine:other")
    assert code == 2, output
    assert "Rank 1 has another untrained model than rank 0" in output
