from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tfopt.distributed import keepalive
from tfopt.errors import TrainingError


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


def test_connections_are_watched(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()) as one, listener.accept()[0] as other:
        assert keepalive.watch_peers(7) >= 2
        for side in (one, other):
            assert side.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
            assert side.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        one.sendall(b"still open")
        assert other.recv(100) == b"still open"
    assert not listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_connections_of_lost_ranks_are_cut(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()) as old, listener.accept()[0] as far:
        before = keepalive.connected()
        assert len(before) >= 2
        with socket.create_connection(listener.getsockname()) as new, listener.accept()[0] as peer:
            keepalive.cut(keepalive.connected() - before)
            assert peer.recv(100) == b""
            assert new.recv(100) == b""
            old.sendall(b"still open")
            assert far.recv(100) == b"still open"
        keepalive.cut(before - keepalive.connected())


def test_a_launcher_that_answers_passes(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, port = listener.getsockname()
    monkeypatch.setenv("HOROVOD_GLOO_RENDEZVOUS_ADDR", address)
    monkeypatch.setenv("HOROVOD_GLOO_RENDEZVOUS_PORT", str(port))
    keepalive.require_launcher(5)
    listener.close()
    with pytest.raises(TrainingError, match=f"cannot reach the launcher at {address}:{port}"):
        keepalive.require_launcher(5)


def test_without_a_launcher_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOROVOD_GLOO_RENDEZVOUS_ADDR", raising=False)
    keepalive.require_launcher(5)
