"""Several processes that are started together, and end together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tfopt.distributed.launch import launcher as launch
from tfopt.distributed.launch import process_group
from tfopt.distributed.launch.launcher import (
    ElasticRanks,
    LaunchPlan,
    Network,
    plan_launch,
    run_together,
)
from tfopt.errors import BackendMissing, InputError

PYTHON = sys.executable

# Stands for `python -m tfopt`: it writes down where it stands, and then does what it is told.
PROGRAM = """
import json, os, signal, subprocess, sys, time
folder, deed = sys.argv[1:]
task = json.loads(os.environ["TF_CONFIG"])
rank = task["task"]["index"]
child = subprocess.Popen(["sleep", "300"])
with open(os.path.join(folder, f"{rank}.json"), "w") as file:
    json.dump({"config": task, "pids": [os.getpid(), child.pid]}, file)
print("I am", rank, flush=True)
if deed == "fail" and rank == 1:
    print("planted failure", flush=True)
    child.kill()
    sys.exit(4)
if deed == "tell":
    child.kill()
    end = {"rank": rank, "code": 2 if rank else 6, "text": "planted cause" if rank else "lost"}
    with open(os.environ["TFOPT_ENDS_FILE"], "a") as file:
        file.write(json.dumps(end) + "\\n")
    sys.exit(end["code"])
if deed == "die" and rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
if deed == "end":
    child.kill()
    sys.exit(0)
time.sleep(300)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the program above as two workers."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nshift 2\nexec {PYTHON} {script} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(launch.sys, "executable", str(python))
    monkeypatch.setattr(process_group, "_GRACE_SECONDS", 0.3)

    def start(deed: str) -> int:
        words = [str(tmp_path), deed]
        return run_together(plan_launch(words, processes=2, hosts=None, launcher="multi_worker"))

    return start


def found(folder: Path) -> list[Any]:
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def require_gone(folder: Path) -> None:
    pids = [pid for rank in found(folder) for pid in rank["pids"]]
    assert len(pids) == 4
    until = time.monotonic() + 20
    while time.monotonic() < until:
        alive = [
            pid
            for pid in pids
            if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        ]
        if not alive:
            return
        time.sleep(0.05)
    raise AssertionError(f"still there: {alive}")


def test_workers_know_each_other_and_only_the_first_one_speaks(
    run: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("end") == 0
    configs = [rank["config"] for rank in found(tmp_path)]
    assert [one["task"] for one in configs] == [
        {"type": "worker", "index": 0},
        {"type": "worker", "index": 1},
    ]
    assert configs[0]["cluster"] == configs[1]["cluster"]
    assert len(set(configs[0]["cluster"]["worker"])) == 2
    assert capfd.readouterr().out == "I am 0\n"


@pytest.mark.parametrize(
    ("deed", "code", "how"),
    [("fail", 4, "ended with exit code 4"), ("die", 137, "was ended by signal 9 (SIGKILL)")],
)
def test_the_first_failure_ends_all(
    deed: str, code: int, how: str, run: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(deed) == code
    require_gone(tmp_path)
    told = capfd.readouterr().err
    assert f"worker 1 {how}" in told
    assert ("planted failure" in told) == (deed == "fail")


def test_a_port_that_is_taken_is_told_on_the_launching_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Somebody takes it after the launcher has chosen it, before the worker listens there."""
    words = ["train", "configs/lenet5_mnist.yaml", "-o", str(tmp_path / "run")]
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        ports = [*launch.free_ports(1), port]
        monkeypatch.setattr(launch, "free_ports", lambda count: ports)
        monkeypatch.setattr(process_group, "_GRACE_SECONDS", 0.3)
        plan = plan_launch(words, processes=2, hosts=None, launcher="multi_worker")
        assert run_together(plan) == 2
    told = capfd.readouterr().err
    assert f"cannot: port {port} is taken by process {os.getpid()} (" in told
    running = [one.info["cmdline"] or [] for one in psutil.process_iter(["cmdline"])]
    assert not [line for line in running if words[-1] in line]


def test_an_interrupt_ends_all(run: Any, tmp_path: Path) -> None:
    watcher = (
        "import os, signal, sys, time\n"
        "while not all(os.path.exists(p) and os.path.getsize(p) for p in sys.argv[2:]):\n"
        "    time.sleep(0.05)\n"
        "os.kill(int(sys.argv[1]), signal.SIGINT)\n"
    )
    paths = [str(tmp_path / f"{rank}.json") for rank in (0, 1)]
    with subprocess.Popen([PYTHON, "-c", watcher, str(os.getpid()), *paths]):
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            assert run("wait") == 130
        finally:
            signal.signal(signal.SIGINT, before)
    require_gone(tmp_path)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"processes": 0}, "-np must be at least 1. Received: 0"),
        ({"words": []}, "Give the command after --"),
        ({"hosts": "localhost:1"}, "-np 2 does not fit: localhost:1 has room for 1"),
        ({"hosts": "no-such-host.invalid:2"}, "host 'no-such-host.invalid'.*cannot be found"),
        ({"hosts": "localhost:two"}, "--hosts takes host:slots"),
        ({"launcher": "multi_worker", "hosts": "localhost:2"}, "on this machine only"),
        ({"launcher": "parameter_server", "servers": 0}, "at least 1. Received: 0"),
        ({"launcher": "multi_worker", "servers": 1}, "--servers is for --kind parameter_server"),
    ],
)
def test_bad_input(options: dict[str, Any], named: str) -> None:
    chosen = {"words": ["run"], "processes": 2, "hosts": None, "launcher": "horovodrun", **options}
    words = chosen.pop("words")
    with pytest.raises(InputError, match=named):
        plan_launch(words, **chosen)


def test_launchers_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(launch.shutil, "which", lambda name: None)
    for launcher, command in (("horovodrun", "install_horovod.sh"), ("mpirun", "apt-get install")):
        with pytest.raises(BackendMissing, match=command):
            plan_launch(["run"], processes=2, hosts=None, launcher=launcher)  # type: ignore[arg-type]  # one of them


def test_commands_pass_words_on_untouched() -> None:
    words = ["run", "my recipe.yaml", "--set", "a.b=[1, 2]"]
    for launcher in ("horovodrun", "mpirun"):
        plan = LaunchPlan(launcher, 3, {"a": 2, "b": 1}, words, network=Network(2222))  # type: ignore[arg-type]  # one of them
        command = launch._command(plan)
        assert command[-len(words) :] == words
        assert command[command.index("-np") + 1] == "3"
        assert command[command.index("-H") + 1] == "a:2,b:1"
        assert "-p 2222" in " ".join(command[: -len(words)])


def test_an_elastic_job_is_horovods(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["run", "my.yaml"]
    chosen: dict[str, Any] = {"processes": 2, "hosts": None, "launcher": "horovodrun"}
    elastic = ElasticRanks(1, 4, "cat hosts.txt")
    plan = plan_launch(words, **chosen, elastic=elastic, network=Network(None, "eth0"))
    told = " ".join(launch._command(plan))
    for option in ("--min-num-proc 1 --max-num-proc 4", "--network-interfaces eth0"):
        assert option in told
    assert "--host-discovery-script cat hosts.txt" in told
    assert "-H" not in launch._command(plan)
    for wrong, named in (
        ({"elastic": ElasticRanks(3, 4, "x")}, "1 <= --min-np <= -np <= --max-np.*3, -np 2"),
        ({"elastic": ElasticRanks(1, 1, "x")}, "--max-np 1"),
        ({"elastic": ElasticRanks()}, "needs several hosts"),
        ({"elastic": ElasticRanks(hosts_script="x"), "hosts": "localhost:2"}, "either --hosts"),
        ({"elastic": elastic, "launcher": "multi_worker"}, "--elastic is for horovodrun"),
    ):
        with pytest.raises(InputError, match=named):
            plan_launch(words, **{**chosen, **wrong})


def test_the_cause_is_said_once(run: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("tell") == 2
    told = capfd.readouterr().err
    assert told == "error: planted cause\n"


def test_the_verb(tfopt: Any) -> None:
    done = tfopt("launch", "-np", "2", "--kind", "multi_worker")
    assert done.code == 2
    assert "Give the command after --" in done.err
    done = tfopt("launch", "-np", "2", "--max-np", "4", "--", "run")
    assert "--min-np, --max-np and --hosts-script are for --elastic" in done.err
    assert tfopt("launch", "-np", "2", "--mpi", "--kind", "multi_worker", "--", "run").code == 2
