"""Two hosts for real: separate networks, names and process trees, with ssh between them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
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
