"""Notice within seconds that a peer, its cable or the launcher is gone.

Horovod waits for its peers as long as Gloo's timeout says (30 s), which is also the time that a
starting rank has to arrive: short enough for the one is too short for the other. So the time-out
stays long, and the kernel watches the connections instead.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from tfopt.distributed import watchdog
from tfopt.errors import TrainingError

STOPPED_SECONDS = 3.0
"""How long a rank may be stopped by a signal before it is ended."""

LOST_SECONDS = 8
"""How long a peer may be silent if not said otherwise."""

_KEEPALIVE_SECONDS = 2
_ADDRESS, _PORT = "HOROVOD_GLOO_RENDEZVOUS_ADDR", "HOROVOD_GLOO_RENDEZVOUS_PORT"

_FAMILIES = (socket.AF_INET, socket.AF_INET6)

_guards: dict[int, subprocess.Popen[bytes]] = {}


def watch_peers(lost_seconds: int) -> int:
    """Let the kernel break every connection of this process whose other side is silent.

    A connection that waits for data sends probes (SO_KEEPALIVE), and one whose data or probes
    stay unanswered ends (TCP_USER_TIMEOUT, RFC 5482); Gloo then reports the peer as lost. A
    peer that is merely slow answers, since its kernel does.

    Args:
        lost_seconds: How long a peer may be silent, in seconds, ``> 2``.

    Returns:
        How many connections are watched.
    """
    watched = 0
    for connection in _connections():
        _watch(connection, lost_seconds)
        watched += 1
    return watched


def connected() -> frozenset[int]:
    """Return the inodes of this process's TCP connections, which tell new ones from old ones."""
    return frozenset(os.fstat(connection.fileno()).st_ino for connection in _connections())


def cut(connections: Collection[int]) -> None:
    """End connections of this process, whoever holds them; their other sides hear of it at once.

    Horovod (0.28.1) keeps those of its global process set open after it was shut down. When one
    of three ranks is lost, one that has noticed would leave another to wait for it in a ring until
    Gloo's time-out.

    Args:
        connections: Inodes that ``connected`` gave; of those that are closed nothing happens.
    """
    for connection in _connections():
        if os.fstat(connection.fileno()).st_ino in connections:
            with suppress(OSError):  # the other side has ended it
                connection.shutdown(socket.SHUT_RDWR)


def _connections() -> Iterator[socket.socket]:
    """Yield a handle of every TCP connection of this process; it closes with the next one."""
    for name in os.listdir("/proc/self/fd") if Path("/proc/self/fd").exists() else ():
        with suppress(OSError):  # closed meanwhile, or not connected
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as connection:
                if connection.type == socket.SOCK_STREAM and connection.family in _FAMILIES:
                    connection.getpeername()
                    yield connection


def guard_process(stopped_seconds: float = STOPPED_SECONDS) -> None:
    """Start a small process that ends this one when it is stopped or its launcher is gone.

    The second call in a process does nothing, and so does any without Linux's /proc.

    Args:
        stopped_seconds: How long this process may be stopped by a signal, in seconds.
    """
    if os.getpid() in _guards or not Path("/proc/self/stat").exists():
        return
    words = [sys.executable, "-I", "-S", watchdog.__file__, str(os.getpid()), str(stopped_seconds)]
    _guards[os.getpid()] = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    )


def require_launcher(timeout_seconds: float) -> None:
    """Raise unless the launcher of this process can be reached.

    A rank that cannot ask its launcher for the new ranks would wait for ever.

    Args:
        timeout_seconds: How long to try.

    Raises:
        TrainingError: If it cannot be reached.
    """
    address, port = os.environ.get(_ADDRESS), os.environ.get(_PORT)
    if not address or not port:
        return
    try:
        socket.create_connection((address, int(port)), timeout_seconds).close()
    except OSError as error:
        raise TrainingError(
            f"This rank on {socket.gethostname()} lost its peers, and cannot reach the launcher at "
            f"{address}:{port} either ({error}). It is cut off, or the launcher has ended; ranks "
            "that the launcher still reaches go on without it."
        ) from error


def _watch(connection: socket.socket, lost_seconds: int) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, lost_seconds * 1000)
