"""Which Horovod `make setup` asks for, and when it asks again."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A set-up project whose install_horovod.sh writes its options into the file `asked`."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "scripts/horovod").mkdir(parents=True)
    script = tmp_path / "scripts/install_horovod.sh"
    script.write_text('#!/bin/sh\necho "$*" >>asked\n[ ! -e broken ]\n')
    script.chmod(0o755)
    (tmp_path / ".venv").mkdir()
    others = ("scripts/horovod/change_source.py", "pyproject.toml", "constraints.txt")
    for name in (*others, ".venv/.installed"):
        (tmp_path / name).touch()
    return tmp_path


def setup(project: Path, *words: str) -> tuple[list[str], str]:
    """Run `make setup`; return what install_horovod.sh was asked, and what was printed."""
    asked = project / "asked"
    asked.unlink(missing_ok=True)
    done = subprocess.run(
        ["make", "setup", *words],
        cwd=project,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return asked.read_text().splitlines() if asked.exists() else [], done.stdout + done.stderr


def test_horovod_is_built_as_released_once(project: Path) -> None:
    assert setup(project)[0] == ["--python .venv/bin/python"]
    assert setup(project)[0] == []
    assert setup(project, "HOROVOD_BUILD=released")[0] == []


def test_another_choice_builds_again(project: Path) -> None:
    setup(project)
    for _ in range(2):
        found, _ = setup(project, "HOROVOD_BUILD=busy-cores")
        assert found == ["--busy-cores --python .venv/bin/python"]
        assert setup(project, "HOROVOD_BUILD=busy-cores")[0] == []
        assert setup(project)[0] == ["--python .venv/bin/python"]


def test_a_build_that_failed_is_tried_again(project: Path) -> None:
    setup(project)
    (project / "broken").touch()
    for _ in range(2):
        found, text = setup(project, "HOROVOD_BUILD=busy-cores")
        assert len(found) == 1
        assert "Horovod was not built" in text
    (project / "broken").unlink()
    assert len(setup(project)[0]) == 1  # which of the two is there now is not known


def test_without_horovod_nothing_is_asked(project: Path) -> None:
    assert setup(project, "HOROVOD=no")[0] == []


def test_an_unknown_choice_is_refused(project: Path) -> None:
    found, text = setup(project, "HOROVOD_BUILD=fast")
    assert found == []
    assert "HOROVOD_BUILD is released or busy-cores. Received: fast" in text
