"""The Python functions give the weights of one process under every strategy."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfopt.distributed.launch.launcher import free_ports

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("functions.py")
LIMIT = 1e-6
CASES = [
    "prune",
    "prune keras 3",
    "prune with teacher",
    "cluster",
    "cluster with teacher",
    "quantize",
    "distill",
    "distill on every batch",
    "fine_tune",
    "fine_tune with lora",
]
WORKERS = ["prune with teacher", "cluster", "distill", "fine_tune with lora", "other rows"]
REFUSED = {
    "other rows": "InputError: Rank 1 on host .* has training data .* tfopt.prune with the same",
    "other labels": "InputError: Rank 1 on host .* has training data .* with all rows, which tfopt",
    "other model": "InputError: Rank 1 on host .* has model ",
    "other settings": "InputError: Rank 1 on host .* has settings ",
    "other teacher": "InputError: Rank 1 on host .* has teacher ",
    "other function": "InputError: Rank 1 on host .* has step cluster instead of prune",
    "shuffled": "DataError: training data: .* in another order each time.* Remove .shuffle",
    "single": "InputError: strategy.kind is 'single', but horovodrun started 2 processes",
}

pytestmark = pytest.mark.timeout(900)


def run(words: list[str], **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *words],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **variables,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(started: list[subprocess.Popen[str]]) -> None:
    """Wait for processes, and leave none behind."""
    try:
        outputs = [process.communicate(timeout=400)[0] for process in started]
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    for process, output in zip(started, outputs, strict=True):
        assert process.returncode == 0, output[-3000:]


def found_by(target: Path, ranks: int) -> list[Any]:
    return [pickle.loads(Path(f"{target}-{rank}").read_bytes()) for rank in range(ranks)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What one process makes of each case, with one replica and with two."""
    target = tmp_path_factory.mktemp("alone") / "found"
    finish([run([str(target)])])
    (found,) = found_by(target, 1)
    return found


@pytest.fixture(scope="module")
def ranks(launch: Callable[..., tuple[int, str]], tmp_path_factory: pytest.TempPathFactory) -> Any:
    target = tmp_path_factory.mktemp("ranks") / "found"
    code, output = launch("horovodrun", PROGRAM, target)
    assert code == 0, output[-4000:]
    return found_by(target, 2)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Any:
    target = tmp_path_factory.mktemp("workers") / "found"
    addresses = [f"localhost:{port}" for port in free_ports(2)]
    configs = [
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
        for number in range(2)
    ]
    finish([run([str(target), *WORKERS], TF_CONFIG=json.dumps(config)) for config in configs])
    return found_by(target, 2)


def furthest(first: Any, second: Any) -> float:
    assert not isinstance(first, str), first
    assert not isinstance(second, str), second
    return max(float(np.abs(one - other).max()) for one, other in zip(first, second, strict=True))


def test_no_case_is_forgotten(alone: Any) -> None:
    assert set(alone["alone"]) == set(alone["mirrored"]) == set(CASES)
    assert "tfopt.prune trains with strategy single" in alone["said"]
    assert "tfopt.prune trains with strategy mirrored, 2 replicas in 1 process" in alone["said"]


@pytest.mark.parametrize("name", CASES)
def test_two_replicas_of_one_process(alone: Any, name: str) -> None:
    assert furthest(alone["alone"][name], alone["mirrored"][name]) <= LIMIT


@pytest.mark.horovod
@pytest.mark.parametrize("name", CASES)
def test_two_ranks_of_horovod(alone: Any, ranks: Any, name: str) -> None:
    one, other = (rank["launched"][name] for rank in ranks)
    assert furthest(alone["alone"][name], one) <= LIMIT
    assert furthest(one, other) == 0
    said = f"tfopt.{name.split()[0]} trains with strategy horovod, 2 replicas in 2 processes"
    assert all(said in rank["said"] for rank in ranks)


@pytest.mark.parametrize("name", WORKERS[:-1])
def test_two_workers_of_tensorflow(alone: Any, workers: Any, name: str) -> None:
    one, other = (rank["launched"][name] for rank in workers)
    assert furthest(alone["alone"][name], one) <= LIMIT
    assert furthest(one, other) == 0


def test_a_worker_with_other_rows_is_refused(workers: Any) -> None:
    for rank in workers:
        assert "Rank 1 on host" in rank["launched"]["other rows"]


@pytest.mark.parametrize("name", CASES)
def test_every_function_trains(alone: Any, name: str) -> None:
    start = alone["start"]
    kernels = [weight for weight in alone["alone"][name] if weight.shape == start.shape]
    assert kernels
    # The network of Keras 3 starts from weights of its own.
    assert "keras 3" in name or min(np.abs(kernel - start).max() for kernel in kernels) > 0.01


def test_a_teacher_changes_what_is_learned(alone: Any) -> None:
    found = alone["alone"]
    for step in ("prune", "cluster"):
        assert furthest(found[step], found[f"{step} with teacher"]) > 1000 * LIMIT
    assert furthest(found["distill"], found["distill on every batch"]) <= LIMIT


@pytest.mark.horovod
@pytest.mark.parametrize("name", REFUSED)
def test_what_ranks_do_not_share_is_named_on_all_of_them(ranks: Any, name: str) -> None:
    for rank in ranks:
        text = rank["launched"][name]
        assert isinstance(text, str), "was not refused"
        assert re.search(REFUSED[name], text), text


@pytest.mark.horovod
def test_a_mistake_of_one_rank_ends_all(ranks: Any) -> None:
    first, second = (rank["launched"]["bad rows on one rank"] for rank in ranks)
    assert first.startswith("RankFailed: Rank 1 of 2 failed: The training data has no labels.")
    assert second.startswith("DataError: The training data has no labels.")
