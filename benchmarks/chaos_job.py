"""One job on hosts in namespaces, one fault, and what became of it; used by chaos.py."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from namespace_hosts import INTERFACE, Host, Hosts, end, make_hosts

ROOT = Path(__file__).resolve().parent.parent
DISCOVERY = f"{sys.executable} -m tfopt.distributed.launch.host_discovery"
PROGRAM = ROOT / "benchmarks" / "elastic_training.py"
NAMES = ("alpha", "beta", "gamma")
STEPS_PER_EPOCH = 20  # 1,149 rows in batches of 58
START_SECONDS = 150
"""Within which the first step must come, on a machine that has other work too."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        fault: Its name.
        mode: ``static``, ``elastic`` or ``recipe``.
        instant: ``start``, ``middle`` or ``end``.
        verdict: ``recovered``, ``failed: cause``, or what went wrong with the check itself.
        seconds: From the fault to the next step; None if there was none.
        steps_lost: Steps done twice; None if it did not go on.
        metric: Accuracy at the end; None if it did not end.
        ended_seconds: From the fault to the end of the launcher.
        orphans: Command lines that ran on after it.
        exit_code: Of the launcher.
    """

    fault: str
    mode: str
    instant: str
    verdict: str
    seconds: float | None = None
    steps_lost: int | None = None
    metric: float | None = None
    ended_seconds: float | None = None
    orphans: tuple[str, ...] = ()
    exit_code: int | None = None


@dataclass
class Job:
    """A training job on two hosts, with the launcher on the first.

    Attributes:
        hosts: The hosts, three.
        folder: Where journals and output go.
        mode: ``static``, ``elastic``, or ``recipe``: an elastic job of ``tfopt launch``.
        steps: Updates in all.
        step_seconds: Pause in every update.
        keras: ``2`` or ``3``.
        limit_seconds: Within which it must have ended after a fault.
        process: The launcher.
    """

    hosts: Hosts
    folder: Path
    mode: str
    steps: int
    step_seconds: float
    limit_seconds: float
    keras: str = "2"
    process: subprocess.Popen[str] | None = None

    @property
    def output(self) -> Path:
        """Return the file of what the launcher prints."""
        return self.folder / "output.txt"

    @property
    def disk(self) -> Path:
        """Return the folder that is a small disk of its own on every host."""
        return self.folder / "disk"

    @property
    def launcher(self) -> subprocess.Popen[str]:
        """Return the launcher, which has been started."""
        if self.process is None:
            raise RuntimeError("the job was not started")
        return self.process

    def start(self) -> None:
        """Start the launcher on the first host."""
        (self.folder / "journals").mkdir()
        self.disk.mkdir()
        # A disk of its own for each host, so that one of them can be full.
        for host in self.hosts.all:
            host.run("mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(self.disk))
        words = self._recipe() if self.mode == "recipe" else self._program()
        with self.output.open("w") as output:
            settings = {"stdout": output, "stderr": subprocess.STDOUT, "start_new_session": True}
            self.process = self.hosts.start(self.hosts[0], words, **settings)

    def _program(self) -> list[str]:
        words = ["env", f"PYTHONPATH={ROOT}", sys.executable]
        words += ["-m", "tfopt.distributed.launch.horovodrun"]
        words += ["--gloo", "--network-interfaces", INTERFACE, *self._where()]
        words += [sys.executable, str(PROGRAM), "--journal", str(self.folder / "journals" / "j")]
        words += ["--steps", str(self.steps), "--step-seconds", str(self.step_seconds)]
        return [*words, "--checkpoint", str(self.disk / "last.npz"), "--keras", self.keras]

    def _recipe(self) -> list[str]:
        file = self.folder / "recipe.yaml"
        file.write_text(json.dumps(recipe_of(self.steps)))
        self.set_hosts(NAMES[:2])
        script = f"{DISCOVERY} {self.folder / 'available'}"
        told = {"JOURNAL": self.folder / "journals" / "j", "STEP_SECONDS": self.step_seconds}
        path = f"PYTHONPATH={ROOT}:{PROGRAM.parent}"
        words = ["env", path, *(f"{name}={value}" for name, value in told.items())]
        words += [sys.executable, "-m", "tfopt", "launch", "--elastic", "-np", "2", "--max-np", "3"]
        words += ["--network-interfaces", INTERFACE, "--hosts-script", script, "--"]
        return [*words, "train", str(file), "-o", str(self.folder / "out")]

    def _where(self) -> list[str]:
        if self.mode == "static":
            return ["-np", "2", "-H", f"{NAMES[0]}:1,{NAMES[1]}:1"]
        self.set_hosts(NAMES[:2])
        script = f"{DISCOVERY} {self.folder / 'available'}"
        numbers = ["--min-num-proc", "1", "--max-num-proc", "3", "-np", "2"]
        return [*numbers, "--host-discovery-script", script, "--elastic-timeout", "60"]

    def set_hosts(self, names: tuple[str, ...]) -> None:
        """Say which hosts there are, for the discovery script."""
        partial = self.folder / "available.new"
        partial.write_text("".join(f"{name}:1\n" for name in names))
        partial.replace(self.folder / "available")

    def lines(self) -> list[dict[str, Any]]:
        """Return what all ranks have written, by time."""
        found = []
        for file in sorted((self.folder / "journals").iterdir()):
            _, host, process = file.name.split(".")
            for line in file.read_text().splitlines():
                found.append({"host": host, "process": int(process), **json.loads(line)})
        found.sort(key=lambda line: line["time"])
        results = self.folder / "out" / "results.json"
        if found and results.exists() and not self.is_running():
            found.append({**found[-1], "end": _end_of_recipe(json.loads(results.read_text()))})
        return found

    def wait_for_step(self, step: int) -> bool:
        """Wait until every rank has done a step; False if the job ended or took too long."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.is_running():
            done: dict[str, int] = {}
            for line in self.lines():
                done[line["host"]] = max(done.get(line["host"], 0), line.get("step", 0))
            if len(done) > 1 and min(done.values()) >= step:
                return True
            time.sleep(0.05)
        return False

    def is_running(self) -> bool:
        """Return whether the launcher runs."""
        return self.process is not None and self.process.poll() is None

    def host_of(self, rank: int) -> Host:
        """Return the host on which a rank began; an elastic launcher orders hosts as it likes."""
        name = next(one["host"] for one in self.lines() if one.get("first_rank") == rank)
        return self.hosts[NAMES.index(name)]

    def worker(self, rank: int) -> int:
        """Return the process of a rank, as seen from outside."""
        host = self.host_of(rank)
        inside = [
            process
            for process in host.processes()
            if re.match(rf"\S*python \S*({PROGRAM.name}|-m tfopt train)", _line(process))
        ]
        return inside[-1]

    def wait_to_end(self) -> float | None:
        """Return the seconds from now to the end of the launcher; None if it has to be ended."""
        since = time.monotonic()
        try:
            self.launcher.wait(timeout=self.limit_seconds)
        except subprocess.TimeoutExpired:
            return None
        return time.monotonic() - since

    def orphans(self, grace_seconds: float = 30) -> tuple[str, ...]:
        """Return what still runs on the hosts some seconds after the launcher has ended."""
        until = time.monotonic() + grace_seconds
        while True:
            found = [
                _line(process)[:80]
                for host in self.hosts.all
                for process in host.processes()
                if re.search(r"elastic_training|watchdog|horovod|tfopt", _line(process))
            ]
            if not found or time.monotonic() > until:
                return tuple(found)
            time.sleep(0.5)

    def stop(self) -> None:
        """End the launcher if it runs; what it started ends with the hosts."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=30)

    def named_cause(self) -> str:
        """Return the first cause that a rank, its watchdog or ssh printed, or else the launcher."""
        told = self.output.read_text()
        ranks = r"(?:error: \w+: |tfopt: )(.*)|(Timeout, server \w+ not responding)"
        launcher = r"(horovodrun: .*)"
        found = ["".join(one) for one in re.findall(ranks, told)] + re.findall(launcher, told)
        return found[0][:110] if found else ""


def recipe_of(steps: int) -> dict[str, Any]:
    """Return the recipe of a job of so many updates, a multiple of ``STEPS_PER_EPOCH``."""
    return {
        "name": "digits",
        "seed": 5,
        "data": {"source": "digits", "batch_size": 58, "validation_fraction": 0.2},
        "model": {"builder": "elastic_recipe:small"},
        "train": {
            "epochs": steps // STEPS_PER_EPOCH,
            "optimizer": "adam",
            "learning_rate": 2e-3,
        },
        "strategy": {"elastic": {"commit_every_steps": 10}},
    }


def _end_of_recipe(results: dict[str, Any]) -> dict[str, Any]:
    stage = results["stages"][0]
    return {
        "steps": len(stage["history"]["loss"]) * STEPS_PER_EPOCH,
        "changes": results["rank_changes"],
        "accuracy": stage["metric"],
    }


Fault = Callable[[Job], None]


def run_case(folder: Path, name: str, mode: str, instant: str, options: Any) -> Outcome:
    """Run a job, harm it, and say what became of it."""
    keys = folder / "hosts"
    keys.mkdir(parents=True)
    with make_hosts(keys, NAMES) as hosts:
        # A new host is tried before it is listed, and must still find something to do.
        steps = options.steps * (4 if name == "host added" else 1)
        pace = (steps, options.step_seconds, options.limit)
        job = Job(hosts, folder, mode, *pace, options.keras)
        try:
            job.start()
            at = {"start": 1, "middle": steps // 2, "end": steps - 8}[instant]
            if not job.wait_for_step(at):
                return Outcome(name, mode, instant, "the job did not come to the fault")
            since = time.time()
            FAULTS[name](job)
            return judge(job, fault=name, instant=instant, since=since)
        finally:
            job.stop()


def judge(job: Job, *, fault: str, instant: str, since: float | None = None) -> Outcome:
    """Wait for the end of a job that was harmed, and say what became of it.

    Args:
        job: The job.
        fault: What was done to it.
        instant: When.
        since: The time of the fault; None: now.
    """
    since = time.time() if since is None else since
    took = job.wait_to_end()
    if took is None:
        verdict = f"HANG: over {job.limit_seconds:g} s"
        return Outcome(fault, job.mode, instant, verdict)
    ended = Outcome(
        fault,
        job.mode,
        instant,
        f"failed: {job.named_cause() or 'NO CAUSE WAS NAMED'}",
        ended_seconds=took,
        orphans=job.orphans(),
        exit_code=job.launcher.returncode,
    )
    lines = job.lines()
    ends = [line["end"] for line in lines if "end" in line]
    if not ends:
        return ended
    last = max(ends, key=lambda one: len(one["changes"]))
    changes = last["changes"]
    verdict = "recovered" if changes else "went on"
    return replace(
        ended,
        verdict=verdict if all(one["steps"] == job.steps for one in ends) else "WRONG STEPS",
        steps_lost=sum(one["reached"] - one["resumed"] for one in changes),
        metric=last["accuracy"],
        seconds=_pause(lines, since),
    )


def _pause(lines: list[dict[str, Any]], since: float) -> float | None:
    """Return the seconds from the fault to the end of the longest pause after it."""
    finished = {(line["host"], line["process"]) for line in lines if "end" in line}
    times = [
        line["time"]
        for line in lines
        if "step" in line and (line["host"], line["process"]) in finished
    ]
    after = [moment for moment in times if moment > since]
    if not after:
        return None
    before = [since, *after]
    pauses = [(later - sooner, later) for sooner, later in zip(before, after, strict=False)]
    return max(pauses)[1] - since


def _line(process: int) -> str:
    try:
        text = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return " "
    return text.replace(b"\0", b" ").decode(errors="replace") or " "


def kill_worker(job: Job) -> None:
    end(job.worker(1))


def kill_chief(job: Job) -> None:
    end(job.worker(0))


def stop_worker(job: Job) -> None:
    end(job.worker(1), signal.SIGSTOP)


def cut_for_5_s(job: Job) -> None:
    job.hosts[1].cut()
    time.sleep(5)
    job.hosts[1].mend()


def cut_for_good(job: Job) -> None:
    job.hosts[1].cut()


def add_host(job: Job) -> None:
    job.set_hosts(NAMES)


def fill_disk(job: Job) -> None:
    full = f"head -c 10m /dev/zero > {job.disk}/filling 2>/dev/null; true"
    job.host_of(0).run("sh", "-c", full)


FAULTS: dict[str, Fault] = {
    "kill -9 worker": kill_worker,
    "kill -9 chief": kill_chief,
    "SIGSTOP worker": stop_worker,
    "link down 5 s": cut_for_5_s,
    "link down": cut_for_good,
    "host added": add_host,
    "disk full on chief": fill_disk,
}
