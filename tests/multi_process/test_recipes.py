"""Recipes on two processes, through the commands that a user types."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
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
# Long enough to be killed between two epochs.
LONGER = ("train.epochs=4", "data.batch_size=10")
MODULE = '''
import json, os, signal, threading, time
from pathlib import Path
import psutil
from tf_keras import Input, Sequential, layers


def rank():
    task = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]
    return int(os.environ.get("HOROVOD_RANK", task["index"]))


def small(input_shape, classes):
    first = [Input(input_shape), layers.Flatten(), layers.Dense(8, "relu", name="hidden")]
    return Sequential([*first, layers.Dense(classes, name="out")])


def fragile(input_shape, classes):
    """End one process by force in the middle of training, once."""
    if rank() == int(os.environ["FRAGILE"]) and not os.path.exists("fallen"):
        open("fallen", "w").close()
        threading.Thread(target=fall, daemon=True).start()
    return small(input_shape, classes)


def fall():
    while not os.path.exists("out/00-train/checkpoint.npz"):
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)


def losing_a_worker(input_shape, classes):
    threading.Thread(target=kill_a_worker, daemon=True).start()
    return small(input_shape, classes)


def kill_a_worker():
    while not Path("out/00-train/checkpoint.npz").exists():
        time.sleep(0.02)
    for process in psutil.Process(os.getppid()).children():
        task = json.loads(process.environ()["TF_CONFIG"])["task"]
        if task == {"type": "worker", "index": 0} and not Path("killed").exists():
            Path("killed").touch()
            process.kill()


def broken(input_shape, classes):
    if rank() == 1:
        raise FileNotFoundError("planted on one host")
    return small(input_shape, classes)


def other(input_shape, classes):
    model = small(input_shape, classes)
    if rank() == 1:
        model.layers[-1].bias.assign_add([1.0] * classes)
    return model
'''
# Runs in every process before anything else: what rank 1 finds on its host is planted.
SITE = """
import importlib.metadata, json, os

task = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]
if os.environ.get("HOROVOD_RANK", str(task["index"])) == "1" and "PLANTED" in os.environ:
    os.chdir(os.environ["PLANTED"])
    found = importlib.metadata.version
    if "OLD" in os.environ:
        importlib.metadata.version = lambda name: "0.1" if name == "tf_keras" else found(name)
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run a command in a folder with recipe.yaml; return code and output."""
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    (tmp_path / "sitecustomize.py").write_text(SITE)

    def start(*words: Any, **planted: str) -> tuple[int, str]:
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT}:{tmp_path}",
                "TF_CPP_MIN_LOG_LEVEL": "3",
                **planted,
            },
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


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[float]]:
    """Train in this process alone, and return the logs of its epochs."""
    from tfopt.config.load import load_recipe
    from tfopt.pipeline.runner import RunOptions, run_recipe
    from tfopt.reporting.console import make_reporter

    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "mine.py").write_text(MODULE)
    trained = {name: RECIPE[name] for name in ("name", "seed", "data", "model", "train")}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(trained))
    recipe = load_recipe(folder / "recipe.yaml", LONGER)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        result = run_recipe(recipe, RunOptions(folder / "out"), make_reporter(quiet=True))
    return result.stages[0].history


def scores(text: str) -> list[str]:
    """Return the numbers of the stages that train; the chief alone exports."""
    lines = re.findall(r"\[[12]/\d\] (?:train|prune): .*", text)
    return re.findall(r"(?:accuracy|val loss|loss) [-0-9.e%]+", "\n".join(lines))


def test_a_whole_recipe_on_two_workers(run: Any, tmp_path: Path) -> None:
    words = ("-m", "tfopt", "launch", "-np", "2", "--kind", "multi_worker", "--")
    recipe = ("run", "recipe.yaml", "-o", "out", "--set", "data.batch_size=20")
    code, output = run(*words, *recipe)
    assert code == 3, output
    assert "error: The gate allows a drop of -0.9000" in output
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["status"] == "gate_missed"
    for stage in results["stages"]:
        assert stage["evidence"]["replicas"] == 2
        assert stage["evidence"]["ranks_agree"] is True
        assert stage["evidence"]["rows_per_second"] > 0
    waits = results["stages"][0]["evidence"]["exchange_fraction_by_rank"]
    assert len(waits) == 2
    assert all(0 < wait < 1 for wait in waits)
    assert [path.name for path in (tmp_path / "out" / "ranks").iterdir()] == ["rank-1.log"]
    log = (tmp_path / "out" / "ranks" / "rank-1.log").read_text()
    first, second = (scores(text) for text in (output, log))
    assert len(first) > 8
    assert second == first
    # Taken up again, by one process: all is done already.
    again, told = run("-m", "tfopt", *recipe, "--resume")
    assert again == 3
    assert told.count("skipped, finished by an earlier run") == 3


def test_parameter_servers_outlive_a_worker(run: Any, tmp_path: Path) -> None:
    # Mostly the other worker goes on; now and then TensorFlow takes the loss for a failed step.
    words = ("-m", "tfopt", "launch", "-np", "2", "--kind", "parameter_server")
    words += ("--restarts", "1", "--", "run")
    changed = ["model.builder=mine:losing_a_worker", "train.epochs=8", "gate=null", "export=[]"]
    changed += ["steps=[{cluster: {clusters: 8, epochs: 1}}]"]
    options = [word for setting in changed for word in ("--set", setting)]
    code, output = run(*words, "recipe.yaml", "-o", "out", *options)
    assert code == 0, output
    assert "worker 0 was ended by signal 9 (SIGKILL); 1 worker(s) go on" in output
    assert output.count("note: asynchronous: workers changed the weights") >= 2
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    train, cluster = results["stages"]
    assert train["metric"] > 0.5
    assert cluster["evidence"]["unique_values_max"] <= 8
    for stage in (train, cluster):
        spread = {name: stage["evidence"][name] for name in ("asynchronous", "workers", "servers")}
        assert spread == {"asynchronous": True, "workers": 2, "servers": 1}


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
    settings = ("strategy.kind=horovod", "strategy.timeline=true", "data.batch_size=20")
    asked = [word for setting in settings for word in ("--set", setting)]
    code, output = run(*launcher, *program, "-o", "out", *asked)
    assert code == 0, output
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [stage["name"] for stage in results["stages"]] == ["train"]
    assert results["stages"][0]["evidence"]["replicas"] == 2
    log = (tmp_path / "out" / "ranks" / "rank-1.log").read_text()
    assert scores(log) == scores(output) != []
    evidence = results["stages"][0]["evidence"]
    assert 0 < evidence["exchange_fraction"] < 1
    assert 0 < evidence["scaling_efficiency"] < 1
    assert "of a step waiting for others, scaling efficiency" in output
    assert "of a step waiting for others, scaling efficiency" in log
    assert results["timeline"] == "timeline.json"
    events = json.loads((tmp_path / "out" / "timeline.json").read_text())
    assert {"ALLREDUCE", "ALLGATHER", "BROADCAST"} <= {event.get("name") for event in events}


@pytest.mark.horovod
def test_ranks_that_begin_with_other_models(run: Any) -> None:
    words = ("-m", "tfopt", "launch", "-np", "2", "--", "train", "recipe.yaml")
    code, output = run(*words, "--set", "model.builder=mine:other")
    assert code == 2, output
    assert re.search(r"Rank 1 on host \S+ has untrained model \w+ instead of \w+ as rank 0", output)


@pytest.mark.horovod
@pytest.mark.parametrize(
    ("kind", "planted", "named"),
    [
        ("horovod", {"PLANTED": "/"}, r"rank 1: .*recipe.yaml"),
        ("multi_worker", {"PLANTED": "other"}, r"Rank 1 on host \S+ has recipe \w+ instead of"),
        (
            "horovod",
            {"PLANTED": ".", "OLD": "1"},
            r"Rank 1 on host \S+ has tf_keras 0.1 instead of 2",
        ),
    ],
)
def test_what_one_host_has_otherwise_is_said_once(
    kind: str, planted: dict[str, str], named: str, run: Any, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "seed": 2}))
    words = ("-m", "tfopt", "launch", "-np", "2", "--kind", kind, "--", "train", "recipe.yaml")
    code, output = run(*words, **planted)
    assert code == 2, output
    errors = [line for line in output.splitlines() if "error: " in line]
    assert len(errors) == 1, output
    assert re.search(named, errors[0]), output
    assert "Traceback" not in output
    assert not (tmp_path / "runs").exists()


@pytest.mark.horovod
@pytest.mark.parametrize(("kind", "rank"), [("horovod", 1), ("multi_worker", 0)])
def test_a_killed_process_costs_a_restart_and_no_accuracy(
    kind: str, rank: int, run: Any, tmp_path: Path, undisturbed: Mapping[str, list[float]]
) -> None:
    words = ("-m", "tfopt", "launch", "-np", "2", "--kind", kind, "--restarts", "1", "--")
    changed = [word for one in ("model.builder=mine:fragile", *LONGER) for word in ("--set", one)]
    code, output = run(*words, "train", "recipe.yaml", *changed, "-o", "out", FRAGILE=str(rank))
    assert code == 0, output
    assert "ended by signal 9 (SIGKILL)" in output
    assert "Start 1 of 1 again" in output
    assert "resumed after epoch" in output
    (stage,) = json.loads((tmp_path / "out" / "results.json").read_text())["stages"]
    for name in ("loss", "val_loss", "val_accuracy"):
        assert stage["history"][name] == pytest.approx(undisturbed[name], rel=1e-5)
