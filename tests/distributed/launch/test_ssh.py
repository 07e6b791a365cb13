from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from tfopt.distributed.launch import ssh as reachable
from tfopt.distributed.launch.ssh import is_here, require_reachable
from tfopt.errors import BackendMissing, InputError

OTHERS = [
    "198.51.100.1",
    "198.51.100.2",
]  # addresses of nobody (RFC 5737), which need no name server


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace ssh: the first host answers, the second does not."""
    program = tmp_path / "ssh"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
        'case "$*" in *198.51.100.1*) exit 0;; esac\n'
        'echo "warning: new host" >&2; echo "ssh: connect to host: timed out" >&2; exit 255\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_own_names_are_known() -> None:
    assert is_here("localhost")
    assert is_here("127.0.0.1")
    assert not is_here(OTHERS[0])


def test_this_machine_needs_no_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachable.shutil, "which", lambda name: None)
    require_reachable(["localhost"])
    with pytest.raises(BackendMissing, match="ssh is not installed"):
        require_reachable(["localhost", OTHERS[0]])


def test_a_host_that_does_not_answer_is_named(ssh: Path) -> None:
    require_reachable([OTHERS[0]])
    with pytest.raises(InputError, match=r"on 198.51.100.2: ssh: connect to host: timed out. Each"):
        require_reachable(["localhost", *OTHERS], port=2222)
    calls = (ssh / "calls").read_text()
    assert "-p 2222 198.51.100.2 true" in calls
    assert "localhost" not in calls
    assert shutil.which("ssh") == str(ssh / "ssh")
    assert socket.gethostbyname(OTHERS[0]) == OTHERS[0]
