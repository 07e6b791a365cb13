from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest

from tfopt.distributed.environment import Place
from tfopt.distributed.horovod import library
from tfopt.errors import BackendMissing

VARIABLES = ("HOROVOD_SIZE", "HOROVOD_RANK", "HOROVOD_ELASTIC", "OMPI_COMM_WORLD_RANK", "PMI_RANK")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "SLURM_STEP_NUM_TASKS", "TF_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def test_a_cluster_of_tensorflow_is_not_horovods(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    assert library.launched() == Place()
    monkeypatch.setenv("HOROVOD_ELASTIC", "1")
    assert library.launched().is_launched
    assert library.is_elastic()


def test_without_horovod_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendMissing, match="not installed. Build it with: scripts/install_hor"):
        library.hvd()


def test_a_build_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "is_installed", lambda: True)
    monkeypatch.setitem(sys.modules, "horovod.tensorflow", None)
    with pytest.raises(BackendMissing, match=r"cannot be loaded: .*--force"):
        library.hvd()


def fake(monkeypatch: pytest.MonkeyPatch, *, mpi: bool, size: int) -> None:
    module = SimpleNamespace(
        mpi_built=lambda: mpi, is_initialized=lambda: False, init=lambda: None, size=lambda: size
    )
    monkeypatch.setattr(library, "library", lambda: module)


def test_gloo_alone_under_mpirun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, mpi=False, size=1)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.raises(BackendMissing, match="mpirun started 2 processes, .* without MPI"):
        library.hvd()


def test_another_mpi_than_the_launchers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, mpi=True, size=1)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.raises(BackendMissing, match=r"2 processes, and Horovod sees 1 rank"):
        library.hvd()


def test_ranks_that_fit_are_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, mpi=True, size=2)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    assert library.hvd().size() == 2
