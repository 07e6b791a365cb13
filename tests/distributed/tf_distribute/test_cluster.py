"""Workers see whether their chief is there, and end when it has gone."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from tfopt.distributed.launch.launcher import free_ports
from tfopt.distributed.tf_distribute import cluster as presence
from tfopt.distributed.tf_distribute.cluster import (
    ClusterAddresses,
    first_absent,
    is_listening,
    read_cluster,
)
from tfopt.errors import InputError


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "_LOOK_EVERY_SECONDS", 0.05)


def test_reading() -> None:
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"], "ps": ["d:1"]}
    assert read_cluster(json.dumps({"cluster": cluster})) == ClusterAddresses(
        "a:1", ("b:1", "c:1"), ("d:1",)
    )


def test_who_is_absent() -> None:
    gone = f"localhost:{free_ports(1)[0]}"
    with socket.create_server(("localhost", 0)) as server:
        there = f"localhost:{server.getsockname()[1]}"
        assert first_absent([there], seconds=5) is None
        assert first_absent([there, gone], seconds=0.1) == gone
    assert not is_listening(there)


def test_a_chief_that_comes_late_and_goes() -> None:
    port = free_ports(1)[0]
    cluster = ClusterAddresses(f"localhost:{port}", ("b:1",), ("d:1",))
    waiting = threading.Thread(target=cluster.wait_while_chief_is_there, daemon=True)
    waiting.start()
    with socket.create_server(("localhost", port)) as chief:
        chief.accept()[0].close()
        waiting.join(0.3)
        assert waiting.is_alive()
    waiting.join(20)
    assert not waiting.is_alive()


def test_a_chief_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "_CHIEF_SECONDS", 0.1)
    port = free_ports(1)[0]
    with pytest.raises(InputError, match=f"No chief listens on localhost:{port}"):
        ClusterAddresses(f"localhost:{port}", ("b:1",), ("d:1",)).wait_while_chief_is_there()
