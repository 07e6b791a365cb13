from __future__ import annotations

import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from tfopt.cli import doctor
from tfopt.distributed.horovod import library, self_test
from tfopt.errors import BackendMissing, VerificationError


def test_without_horovod_doctor_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "is_installed", lambda: False)
    for check in (doctor._horovod, doctor._two_ranks):
        finding = doctor._try("Horovod", check, is_required=False)
        assert not finding.is_ok
        assert finding.detail.startswith("Horovod is not installed. Build it with: scripts/")


@pytest.mark.horovod
def test_the_build_is_described() -> None:
    finding = doctor._try("Horovod", doctor._horovod, is_required=False)
    assert finding.is_ok
    assert finding.detail.startswith("0.28.1")
    assert ") for TensorFlow 2." in finding.detail
    assert "controllers gloo" in finding.detail
    assert "NCCL" in finding.detail


@pytest.mark.horovod
@pytest.mark.parametrize(
    ("version", "source"),
    [
        ("0.28.1", "as released"),
        ("0.28.1+tfopt.1", "communication loop changed for busy cores"),
        ("0.28.1+site.2", "changed by others: site.2"),
    ],
)
def test_the_source_of_a_build_is_named(
    version: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_test, "version", lambda name: version)
    finding = doctor._try("Horovod", doctor._horovod, is_required=False)
    assert finding.is_ok
    assert finding.detail.startswith(f"{version} ({source}) for TensorFlow 2.")


@pytest.mark.horovod
def test_a_build_for_another_tensorflow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf, "__version__", "9.9.9")
    with pytest.raises(BackendMissing, match=r"built for TensorFlow 2\..*, and 9.9.9 is installed"):
        self_test.describe_build()


@pytest.mark.horovod
def test_gloo_alone_under_mpirun_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test.library(), "mpi_built", lambda: False)
    monkeypatch.delenv("HOROVOD_RANK", raising=False)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.raises(BackendMissing, match="without MPI, and mpirun started 2 processes"):
        self_test.describe_build()


def answer(monkeypatch: pytest.MonkeyPatch, *, code: int = 0, out: str = "", err: str = "") -> None:
    monkeypatch.setattr(self_test, "library", lambda: None)
    done = SimpleNamespace(returncode=code, stdout=out, stderr=err)
    monkeypatch.setattr(subprocess, "run", lambda *words, **settings: done)


def test_two_ranks_that_are_one_twice_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, out="[0]<stdout>:FOUND [1, [0], 1.0]\n")
    with pytest.raises(VerificationError, match=r"ranks \[0\] of 1"):
        self_test.run_two_ranks()


def test_two_ranks_that_fail_show_their_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, code=1, err="much\nno route to localhost\n")
    with pytest.raises(VerificationError, match="failed: no route to localhost"):
        self_test.run_two_ranks()


def test_two_ranks_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, out="[0]<stdout>:FOUND [2, [0, 1], 3.0]\n")
    assert self_test.run_two_ranks() == "sizes 2, ranks {0, 1}, 1 + 2 = 3"


def test_a_launcher_above_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def run(words: list[str], *, env: dict[str, str], **settings: Any) -> Any:
        seen.update(env)
        return SimpleNamespace(returncode=0, stdout="FOUND [2, [0, 1], 3.0]", stderr="")

    monkeypatch.setattr(self_test, "library", lambda: None)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    self_test.run_two_ranks()
    assert "OMPI_COMM_WORLD_SIZE" not in seen
    assert "PATH" in seen
