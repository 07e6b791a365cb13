"""The same recipe gives the same model under every strategy."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tfopt.distributed.launch.launcher import free_ports

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("strategy_battery.py")
EXACT = [
    "sgd",
    "adam",
    "adamw",
    "ema",
    "global norm",
    "plateau",
    "augmented",
    "sparse",
    "positions",
    "keras 3",
    "frozen",
    "lora",
    "accumulated",
    "synchronized",
    "prune",
    "taught",
    "cached",
    "cluster",
    "quantize",
]
LOOSE = ["norm", "dropout"]
TWO = [
    "sgd",
    "adam",
    "global norm",
    "sparse",
    "positions",
    "keras 3",
    "lora",
    "accumulated",
    "prune",
    "taught",
    "cached",
    "cluster",
    "quantize",
]
DIVIDED = ["divided cosine", "divided decay", "divided plateau", "divided words"]
_LIMIT_SECONDS = 400


def finish(started: list[subprocess.Popen[str]]) -> None:
    """Wait for processes, and leave none behind."""
    try:
        outputs = [process.communicate(timeout=_LIMIT_SECONDS)[0] for process in started]
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    for process, output in zip(started, outputs, strict=True):
        assert process.returncode == 0, output[-3000:]


def start(
    before: list[str],
    settings: dict[str, Any],
    files: list[Path],
    names: list[str],
    **variables: str,
) -> subprocess.Popen[str]:
    """Start the program that trains each case; files are the findings, and those of one process."""
    words = [json.dumps(settings), *map(str, files), *names]
    return subprocess.Popen(
        [*before, sys.executable, str(PROGRAM), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with what one process makes of each case."""
    reference = tmp_path_factory.mktemp("alone") / "found.pickle"
    finish([start([], {"kind": "single"}, [reference, reference], [*EXACT, *LOOSE, *DIVIDED])])
    return reference


@pytest.fixture(scope="module")
def mirrored(alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    target = tmp_path_factory.mktemp("mirrored") / "found.json"
    settings = {"kind": "mirrored", "devices": 2}
    finish([start([], settings, [target, alone], [*EXACT, *LOOSE])])
    return json.loads(target.read_text())


@pytest.fixture(scope="module")
def workers(alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    target = tmp_path_factory.mktemp("workers") / "found.json"
    addresses = [f"localhost:{port}" for port in free_ports(2)]
    configs = [
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
        for number in range(2)
    ]
    settings = {"kind": "multi_worker"}
    finish(
        [start([], settings, [target, alone], TWO, TF_CONFIG=json.dumps(one)) for one in configs]
    )
    return json.loads(target.read_text())


@pytest.fixture(scope="module")
def ranks(alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    target = tmp_path_factory.mktemp("ranks") / "found.json"
    launcher = [sys.executable, "-m", "horovod.runner.launch", "--gloo", "-np", "2"]
    settings = {"kind": "horovod"}
    finish([start([*launcher, "-H", "localhost:2"], settings, [target, alone], TWO)])
    return json.loads(target.read_text())


@pytest.fixture(scope="module")
def mesh(alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    target = tmp_path_factory.mktemp("mesh") / "found.json"
    settings = {"kind": "model_parallel", "devices": 4, "model_devices": 2}
    finish([start([], settings, [target, alone], DIVIDED)])
    return json.loads(target.read_text())


def require_same_model(found: Any, name: str, *, ranks: int) -> None:
    assert found["replicas"] == 2
    assert len(found["ranks"]) == ranks
    cases = [rank[name] for rank in found["ranks"]]
    assert all(case["weights"] == cases[0]["weights"] for case in cases)
    for case in cases:
        assert case["moved"] > 10 * case["limit"] or case["limit"] > 1e-3
        assert case["apart"] <= case["limit"]
        for key, (alone, together) in case["logs"].items():
            if key.startswith("val_"):
                assert together == pytest.approx(alone, abs=20 * case["limit"])


@pytest.mark.parametrize("name", [*EXACT, *LOOSE])
def test_mirrored(name: str, mirrored: Any) -> None:
    require_same_model(mirrored, name, ranks=1)


@pytest.mark.parametrize("name", TWO)
def test_multi_worker(name: str, workers: Any) -> None:
    require_same_model(workers, name, ranks=2)


@pytest.mark.horovod
@pytest.mark.skipif(
    importlib.util.find_spec("horovod") is None,
    reason="Horovod is not installed: scripts/install_horovod.sh",
)
@pytest.mark.parametrize("name", TWO)
def test_horovod(name: str, ranks: Any) -> None:
    require_same_model(ranks, name, ranks=2)


@pytest.mark.parametrize("name", DIVIDED)
def test_model_parallel(name: str, mesh: Any) -> None:
    (found,) = mesh["ranks"]
    case = found[name]
    assert case["limit"] <= 1e-5
    assert case["moved"] > 10 * case["limit"]
    assert case["apart"] <= case["limit"]
    for alone, together in case["logs"].values():
        assert together == pytest.approx(alone, abs=20 * case["limit"])
    spread = case["spread"]
    assert (spread["devices"], spread["model_devices"]) == (4, 2)
    # Half of what is divided, and all of the rest, lies on each device.
    whole, held = spread["weight_bytes"], spread["weight_bytes_per_device"]
    divided = 20 * 8 if name == "divided words" else (16 * 8 + 8) + (8 * 8 + 8)
    assert whole - held == divided * 4 / 2


def test_the_battery_is_whole(mirrored: Any) -> None:
    (found,) = mirrored["ranks"]
    assert {*found} == {*EXACT, *LOOSE}
    assert all(found[name]["limit"] <= 1e-5 for name in EXACT)
    # What each replica draws, or normalizes with its own rows, is not that of one process.
    assert all(found[name]["apart"] > 1e-5 for name in LOOSE)
