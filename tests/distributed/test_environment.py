"""Which process this is, and whether the recipe's strategy fits how it was started."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tfopt.config.distributed import StrategySettings
from tfopt.distributed.environment import Place, choose_kind, find_place
from tfopt.errors import InputError

CLUSTER = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
CHIEF = {
    "cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]},
    "task": {"type": "worker", "index": 1},
}
SERVED = {"chief": ["a:1"], "worker": ["b:1", "c:1"], "ps": ["d:1"]}


def served(kind: str, **cluster: Any) -> dict[str, str]:
    task = {"type": kind, "index": 0}
    return {"TF_CONFIG": json.dumps({"cluster": {**SERVED, **cluster}, "task": task})}


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, Place()),
        ({"HOROVOD_RANK": "1", "HOROVOD_SIZE": "4"}, Place(1, 4, "horovodrun")),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}, Place(0, 2, "mpirun")),
        ({"PMI_RANK": "2", "PMI_SIZE": "3"}, Place(2, 3, "mpiexec")),
        ({"HOROVOD_ELASTIC": "1"}, Place(0, 1, "horovodrun", is_elastic=True)),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"}, Place(1, 4, "srun")),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, Place()),
        ({"TF_CONFIG": json.dumps(CLUSTER)}, Place(1, 2, "TF_CONFIG")),
        ({"TF_CONFIG": json.dumps(CHIEF)}, Place(2, 3, "TF_CONFIG")),
        (served("chief"), Place(launcher="TF_CONFIG", task="chief")),
        (served("ps"), Place(launcher="TF_CONFIG", task="ps")),
    ],
)
def test_places(environment: dict[str, str], place: Place) -> None:
    assert find_place(environment) == place


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"HOROVOD_RANK": "4", "HOROVOD_SIZE": "4"}, "rank '4' of '4' processes.*impossible"),
        ({"HOROVOD_RANK": "first", "HOROVOD_SIZE": "4"}, "rank 'first'"),
        ({"TF_CONFIG": "{"}, "TF_CONFIG does not describe.*Received: {"),
        ({"TF_CONFIG": "{}"}, "TF_CONFIG does not describe.*cluster"),
        (served("chief", worker=[]), "1 chief.* and 0 worker.*needs one chief"),
        (served("evaluator"), "TF_CONFIG does not describe.*evaluator"),
        (
            {"TF_CONFIG": json.dumps({**CLUSTER, "task": {"type": "ps", "index": 0}})},
            "TF_CONFIG does not describe.*'ps'",
        ),
        (
            {"TF_CONFIG": json.dumps({**CLUSTER, "task": {"type": "worker", "index": 2}})},
            "rank '2' of '2'",
        ),
    ],
)
def test_variables_that_say_nothing_useful(environment: dict[str, str], named: str) -> None:
    with pytest.raises(InputError, match=f"(?s){named}"):
        find_place(environment)


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        (Place(), "single"),
        (Place(0, 2, "horovodrun"), "horovod"),
        (Place(1, 2, "mpirun"), "horovod"),
        (Place(0, 2, "TF_CONFIG"), "multi_worker"),
        (Place(launcher="TF_CONFIG", task="worker"), "parameter_server"),
    ],
)
def test_auto_follows_the_launcher(place: Place, kind: str) -> None:
    assert choose_kind(StrategySettings(), place) == kind


@pytest.mark.parametrize(
    ("settings", "place", "named"),
    [
        ({"kind": "single"}, Place(1, 2, "horovodrun"), "'single', but horovodrun started 2 proc"),
        ({"kind": "mirrored"}, Place(1, 2, "mpirun"), "'mirrored', but mpirun.*rank 1"),
        (
            {"kind": "single"},
            Place(0, 1, "horovodrun", is_elastic=True),
            "'single', but horovodrun started 1 process",
        ),
        ({"kind": "single"}, Place(0, 2, "TF_CONFIG"), "auto or 'multi_worker'"),
        ({"kind": "parameter_server"}, Place(), "started alone.*names no 'ps'"),
        ({"kind": "parameter_server"}, Place(0, 2, "TF_CONFIG"), "TF_CONFIG started 2.*no 'ps'"),
        ({"kind": "single"}, Place(launcher="TF_CONFIG", task="ps"), "this is the ps of a cluster"),
        ({"kind": "tpu"}, Place(1, 2, "mpirun"), "'tpu', but mpirun.*rank 1"),
        ({"kind": "multi_worker"}, Place(), "started alone.*TF_CONFIG names no workers"),
        ({"kind": "multi_worker"}, Place(0, 2, "horovodrun"), "horovodrun started 2"),
        ({"kind": "horovod"}, Place(0, 2, "TF_CONFIG"), "'horovod', but TF_CONFIG started 2"),
    ],
)
def test_contradictions(settings: dict[str, Any], place: Place, named: str) -> None:
    with pytest.raises(InputError, match=named):
        choose_kind(StrategySettings(**settings), place)


def test_horovod_alone_is_one_process() -> None:
    assert choose_kind(StrategySettings(kind="horovod"), Place()) == "horovod"
