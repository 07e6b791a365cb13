from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tfopt.errors import BackendMissing
from tfopt.strategies import horovod_door

VARIABLES = ("HOROVOD_SIZE", "HOROVOD_ELASTIC", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "launcher", "size"),
    [
        ({}, None, 1),
        ({"HOROVOD_SIZE": "2"}, "horovodrun", 2),
        ({"HOROVOD_ELASTIC": "1"}, "horovodrun", 1),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "mpirun", 4),
        ({"PMI_SIZE": "3"}, "mpiexec", 3),
        ({"SLURM_STEP_NUM_TASKS": "8"}, "srun", 8),
        ({"SLURM_STEP_NUM_TASKS": "1"}, None, 1),
        ({"OMPI_COMM_WORLD_SIZE": "many"}, None, 1),
    ],
)
def test_the_launcher_is_known(environment: dict[str, str], launcher: Any, size: int) -> None:
    assert horovod_door.is_launched_by(environment) == launcher
    assert horovod_door.launched_size(environment) == size


def test_without_horovod_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(horovod_door.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendMissing, match="not installed. Build it with: scripts/install_hor"):
        horovod_door.hvd()


def test_a_build_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(horovod_door, "is_installed", lambda: True)
    monkeypatch.setitem(sys.modules, "horovod.tensorflow", None)
    with pytest.raises(BackendMissing, match=r"cannot be loaded: .*--force"):
        horovod_door.hvd()


def fake(monkeypatch: pytest.MonkeyPatch, *, mpi: bool, size: int) -> None:
    module = SimpleNamespace(
        mpi_built=lambda: mpi, is_initialized=lambda: False, init=lambda: None, size=lambda: size
    )
    monkeypatch.setattr(horovod_door, "library", lambda: module)


def test_gloo_alone_under_mpirun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, mpi=False, size=1)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.raises(BackendMissing, match="mpirun started 2 processes, .* without MPI"):
        horovod_door.hvd()


def test_another_mpi_than_the_launchers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, mpi=True, size=1)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.raises(BackendMissing, match=r"2 processes, and Horovod sees 1 rank"):
        horovod_door.hvd()


def test_ranks_that_fit_are_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, mpi=True, size=2)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    assert horovod_door.hvd().size() == 2
