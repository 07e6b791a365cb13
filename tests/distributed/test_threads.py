"""Processes of one host share its cores, unless somebody has said otherwise."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from tfopt.distributed.threads import own_cores, share_cores, workers_here


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Stand in for TensorFlow's settings, which are fixed in this process; four cores."""
    found = {"intra": 0, "inter": 0}
    threading = SimpleNamespace(
        get_intra_op_parallelism_threads=lambda: found["intra"],
        get_inter_op_parallelism_threads=lambda: found["inter"],
        set_intra_op_parallelism_threads=lambda number: found.update(intra=number),
        set_inter_op_parallelism_threads=lambda number: found.update(inter=number),
    )
    monkeypatch.setattr(tf.config, "threading", threading)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.delenv(name, raising=False)
    return found


@pytest.mark.parametrize(
    ("processes", "threads"), [(1, (0, 0)), (2, (2, 2)), (4, (1, 2)), (9, (1, 2))]
)
def test_cores_are_shared(chosen: Any, processes: int, threads: tuple[int, int]) -> None:
    share_cores(processes)
    assert (chosen["intra"], chosen["inter"]) == threads


def test_what_the_user_says_stands(chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen["intra"] = 3
    share_cores(2)
    assert chosen == {"intra": 3, "inter": 0}
    chosen["intra"] = 0
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    share_cores(2)
    assert chosen == {"intra": 0, "inter": 0}


def test_a_process_that_is_bound_keeps_its_cores() -> None:
    assert own_cores(2, 8, 4) == own_cores(8, 8, 4) == 2
    assert own_cores(4, 64, 2) == 4


def test_workers_of_other_hosts_do_not_count() -> None:
    cluster = {"chief": ["a:1"], "worker": ["b:1", "a:2", "b:2", "b:3"]}

    def here(kind: str, index: int) -> int:
        task = {"type": kind, "index": index}
        return workers_here({"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})})

    assert [here("chief", 0), here("worker", 1), here("worker", 3)] == [2, 2, 3]
