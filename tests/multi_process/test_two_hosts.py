"""Two hosts for real: separate networks, names and process trees, with ssh between them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
# Hosts are shared with benchmarks/chaos.py, which harms them.
sys.path.append(str(ROOT / "benchmarks"))

from chaos_job import FAULTS, Job, judge  # noqa: E402  # found through the line above
from namespace_hosts import INTERFACE, Hosts, make_hosts, why_not  # noqa: E402  # as above

PROGRAM = Path(__file__).with_name("two_hosts.py")
HOROVODRUN = str(Path(sys.executable).with_name("horovodrun"))
LIMIT_SECONDS = 240

pytestmark = [
    pytest.mark.horovod,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with make_hosts(tmp_path_factory.mktemp("hosts"), ["alpha", "beta", "gamma"]) as found:
        yield found


def launched(hosts: Hosts, *words: str) -> tuple[int, str]:
    """Run horovodrun on the first host; return its exit code and what it printed."""
    command = [HOROVODRUN, "--gloo", "--network-interfaces", INTERFACE, *words]
    settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with hosts.start(hosts[0], command, **settings) as process:
        try:
            out, _ = process.communicate(timeout=LIMIT_SECONDS)
        finally:
            process.kill()
    return process.returncode, out


def results(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in re.findall(r"RESULT (\{.*\})", text)]
    return sorted(found, key=lambda one: one["rank"])


def test_two_hosts_train_as_one_process(hosts: Hosts) -> None:
    train = [sys.executable, str(PROGRAM)]
    code, text = launched(hosts, "-np", "2", "-H", "alpha:1,beta:1", *train)
    assert code == 0, text
    found = results(text)
    assert [(one["rank"], one["size"], one["host"]) for one in found] == [
        (0, 2, "alpha"),
        (1, 2, "beta"),
    ]
    assert found[0]["weights"] == found[1]["weights"]
    alone = subprocess.run(train, capture_output=True, text=True, check=True, timeout=LIMIT_SECONDS)
    for own, expected in zip(found[0]["weights"], results(alone.stdout)[0]["weights"], strict=True):
        assert np.allclose(own, expected, rtol=0, atol=1e-5)


def test_more_ranks_than_slots_are_refused(hosts: Hosts) -> None:
    code, text = launched(hosts, "-np", "3", "-H", "alpha:1,beta:1", sys.executable, "--version")
    assert code != 0
    assert "Requested more processes (3) than there are available slots (2)" in text


def test_a_host_that_is_not_there_is_named(hosts: Hosts) -> None:
    code, text = launched(hosts, "-np", "2", "-H", "alpha:1,delta:1", sys.executable, "--version")
    assert code != 0
    assert "delta" in text


def test_an_elastic_job_goes_on_without_a_killed_worker(hosts: Hosts, tmp_path: Path) -> None:
    job = Job(hosts, tmp_path, "elastic", steps=30, step_seconds=0.1, limit_seconds=LIMIT_SECONDS)
    try:
        job.start()
        assert job.wait_for_step(12), job.output.read_text()
        FAULTS["kill -9 worker"](job)
        outcome = judge(job, fault="kill -9 worker", instant="middle")
    finally:
        job.stop()
    assert outcome.verdict == "recovered", job.output.read_text()
    assert outcome.orphans == ()
    ends = [line["end"] for line in job.lines() if "end" in line]
    assert [(one["steps"], one["rank"], one["size"]) for one in ends] == [(30, 0, 1)]
    assert [change["cause"] for change in ends[0]["changes"]] == ["lost"]
    assert ends[0]["changes"][0]["resumed"] % 10 == 0
    # The ranks share each batch, so losing one changes nothing but who adds up.
    program = [sys.executable, str(ROOT / "benchmarks" / "elastic_training.py")]
    words = ["--steps", "30", "--journal", str(tmp_path / "alone")]
    subprocess.run(
        [*program, *words], check=True, capture_output=True, timeout=LIMIT_SECONDS, env=os.environ
    )
    (journal,) = tmp_path.glob("alone.*")
    alone = json.loads(journal.read_text().splitlines()[-1])["end"]
    assert np.allclose(ends[0]["weights"], alone["weights"], rtol=0, atol=1e-3)


def test_an_elastic_recipe_outlives_its_chief_and_a_worker(hosts: Hosts, tmp_path: Path) -> None:
    run = RecipeRun(hosts, tmp_path)
    with run.started("alpha", "beta") as process:
        run.wait_for(3, ranks=2)
        run.set_hosts("alpha", "beta", "gamma")
        run.wait_for(3, ranks=3)
        run.kill(rank=0)
        run.wait_for(3, ranks=2)
        run.kill(rank=1)
        run.wait_for(3, ranks=1)
        (tmp_path / "unpaced").touch()
        process.wait(timeout=LIMIT_SECONDS)
    assert process.returncode == 0, run.output.read_text()
    assert "Traceback" not in run.output.read_text()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["status"] == "ok"
    changes = results["rank_changes"]
    assert [change["cause"] for change in changes] == ["hosts changed", "lost", "lost"]
    assert [change["size"] for change in changes] == [3, 2, 1]
    for change in changes:
        assert 0 <= change["reached"] - change["resumed"] <= COMMIT_EVERY_STEPS
    (stage,) = results["stages"]
    alone = trained_alone(tmp_path / "recipe.yaml", tmp_path / "alone")
    for name in ("val_loss", "val_accuracy"):
        assert stage["history"][name] == pytest.approx(alone.history[name], rel=1e-4)
    assert stage["metric"] == alone.metric
    # Nobody is left, and the folder was free for those who came after a lost chief.
    assert [one for host in hosts.all for one in host.processes("tfopt")] == []


COMMIT_EVERY_STEPS = 8
RECIPE = {
    "name": "digits",
    "seed": 3,
    "data": {"source": "digits", "batch_size": 16, "limit": 400, "validation_fraction": 0.2},
    "model": {"builder": "paced:small"},
    "train": {"epochs": 8, "learning_rate": 0.05, "optimizer": "sgd"},
    "strategy": {"elastic": {"commit_every_steps": COMMIT_EVERY_STEPS}},
}
PACED = """
import os, socket, time

import tensorflow as tf
from tf_keras import Input, Sequential, layers


class Paced(layers.Layer):
    '''Writes down every step of training, with the rank that takes it, and takes its time.'''

    def call(self, x, training=None):
        if not training or "PACED" not in os.environ:
            return x
        place = tf.numpy_function(self.pace, [x[0, 0]], tf.float32)
        return x + 0 * tf.stop_gradient(tf.reshape(place, []))

    def pace(self, value):
        import horovod.tensorflow as hvd

        time.sleep(0 if os.path.exists("unpaced") else 0.06)
        with open(f"steps.{socket.gethostname()}.{os.getpid()}", "a") as file:
            file.write(f"{time.time()} {hvd.rank()} {hvd.size()}\\n")
        return value


def small(input_shape, classes):
    first = [Input(input_shape), layers.Flatten(), Paced(), layers.Dense(16, "relu")]
    return Sequential([*first, layers.Dense(classes, name="out")])
"""


class RecipeRun:
    """A recipe on several hosts, the launcher on the first of them."""

    def __init__(self, hosts: Hosts, folder: Path) -> None:
        self.output = folder / "output.txt"
        self._hosts, self._folder = hosts, folder
        self._since = 0.0
        self._process: subprocess.Popen[str] | None = None
        (folder / "paced.py").write_text(PACED)
        (folder / "recipe.yaml").write_text(json.dumps(RECIPE))

    def set_hosts(self, *names: str) -> None:
        partial = self._folder / "hosts.new"
        partial.write_text("".join(f"{name}:1\n" for name in names))
        partial.replace(self._folder / "hosts.txt")
        self._since = time.time()

    @contextmanager
    def started(self, *names: str) -> Iterator[subprocess.Popen[str]]:
        self.set_hosts(*names)
        words = [sys.executable, "-m", "tfopt", "launch", "--elastic", "-np", "2", "--max-np", "3"]
        words += ["--network-interfaces", INTERFACE, "--hosts-script", "cat hosts.txt", "--"]
        words += ["train", "recipe.yaml", "-o", "out"]
        with pytest.MonkeyPatch.context() as patch, self.output.open("w") as output:
            patch.chdir(self._folder)
            patch.setenv("PYTHONPATH", f"{ROOT}:{self._folder}")
            patch.setenv("PACED", "1")
            settings: dict[str, Any] = {"stdout": output, "stderr": subprocess.STDOUT}
            process = self._process = self._hosts.start(self._hosts[0], words, **settings)
        try:
            yield process
        finally:
            process.terminate()  # the launcher ends what it has started
            process.wait(timeout=60)

    def steps(self) -> list[tuple[float, int, int, str]]:
        """Return time, rank, size and host of the steps since the last deed, in order."""
        found = []
        for file in self._folder.glob("steps.*"):
            for line in file.read_text().splitlines():
                moment, rank, size = line.split()
                found.append((float(moment), int(rank), int(size), file.name.split(".")[1]))
        return sorted(one for one in found if one[0] > self._since)

    def wait_for(self, steps: int, *, ranks: int) -> None:
        """Wait until so many ranks have taken some steps together."""
        until = time.monotonic() + LIMIT_SECONDS
        while sum(size == ranks and not rank for _, rank, size, _ in self.steps()) < steps:
            ended = self._process is None or self._process.poll() is not None
            assert not ended, self.output.read_text()
            assert time.monotonic() < until, self.output.read_text()
            time.sleep(0.05)

    def kill(self, *, rank: int) -> None:
        name = next(host for _, own, _, host in reversed(self.steps()) if own == rank)
        host = next(host for host in self._hosts.all if host.name == name)
        program = f"{sys.executable} -m tfopt train"
        (process,) = [one for one in host.processes(program) if is_program(one, program)]
        self._since = time.time()
        os.kill(process, signal.SIGKILL)


def is_program(process: int, line: str) -> bool:
    found = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found.startswith(line)


def trained_alone(recipe: Path, output: Path) -> Any:
    """Train in this process, undisturbed, and return the stage."""
    from tfopt.config.load import load_recipe
    from tfopt.pipeline.runner import RunOptions, run_recipe
    from tfopt.reporting.console import make_reporter

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(recipe.parent)
        result = run_recipe(load_recipe(recipe), RunOptions(output), make_reporter(quiet=True))
    return result.stages[0]
