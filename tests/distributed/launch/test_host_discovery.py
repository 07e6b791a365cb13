from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tfopt.distributed.launch import host_discovery
from tfopt.distributed.versions import versions_here


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hosts that are shell scripts in a folder: what each of them does when ssh comes."""
    folder = tmp_path / "hosts"
    folder.mkdir()
    program = tmp_path / "ssh"
    program.write_text(f'#!/bin/sh\nexec /bin/sh "{folder}/$5"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    good = json.dumps(versions_here())
    old = json.dumps(versions_here() | {"tensorflow": "2.20.0"})
    (folder / "good").write_text(f"echo some notice\necho '{good}'\n")
    (folder / "old").write_text(f"echo '{old}'\n")
    (folder / "broken").write_text("echo 'No module named horovod' >&2\nexit 1\n")
    return folder


def hosts_file(tmp_path: Path, *lines: str) -> Path:
    file = tmp_path / "hosts.txt"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.usefixtures("ssh")
def test_hosts_are_let_in_when_they_were_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = hosts_file(tmp_path, "# mine", "good:2", "old:1", "broken:1", "")
    assert host_discovery.admitted(file) == []
    told, until = "", time.monotonic() + 60
    while time.monotonic() < until and told.count("left out") < 2:
        time.sleep(0.1)
        found = host_discovery.admitted(file)
        told += capsys.readouterr().err
    assert "host old is left out: it has tensorflow 2.20.0 instead of 2." in told
    assert "host broken is left out: No module named horovod" in told
    while time.monotonic() < until and not found:
        time.sleep(0.1)
        found = host_discovery.admitted(file)
    assert found == ["good:2"]
    assert "left out" not in capsys.readouterr().err
    assert len(host_discovery._trials) == 3
    assert [trial.wait(timeout=60) for trial in host_discovery._trials] == [0, 0, 0]


def test_a_host_may_mend(ssh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host_discovery.try_host("broken", tmp_path)
    assert (tmp_path / "broken.no").read_text() == "No module named horovod"
    (ssh / "broken").write_text((ssh / "good").read_text())
    host_discovery.try_host("broken", tmp_path)
    assert (tmp_path / "broken.yes").exists()
    assert not (tmp_path / "broken.no").exists()


def test_a_host_that_does_not_answer_is_left_out(
    ssh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ssh / "slow").write_text("exec sleep 30\n")
    monkeypatch.setattr(host_discovery, "_LIMIT_SECONDS", 0.5)
    host_discovery.try_host("slow", tmp_path)
    assert "did not answer within 0.5 s" in (tmp_path / "slow.no").read_text()
