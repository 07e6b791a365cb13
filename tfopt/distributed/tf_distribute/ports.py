"""Say who holds the port on which this process of a cluster is to listen."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Mapping

import psutil

from tfopt.errors import InputError


def require_own_port(environment: Mapping[str, str]) -> None:
    """Raise if another process listens on the port that ``TF_CONFIG`` gives to this one.

    TensorFlow says only that it could not start a server, and the other workers wait for it.

    Args:
        environment: The process's environment; ``TF_CONFIG`` in it is valid.

    Raises:
        InputError: Naming the address and, where it may be seen, the process.
    """
    config = json.loads(environment["TF_CONFIG"])
    task = config["task"]
    address = str(config["cluster"][task["type"]][int(task["index"])])
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise InputError(f"TF_CONFIG gives this worker the address {address!r}; it is host:port.")
    where = f"Worker {task['index']} of TF_CONFIG is to listen on {address}"
    try:
        # As gRPC does: on all addresses, and beside connections that an earlier run left.
        socket.create_server(("", int(port))).close()
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = f"port {port} is taken by {_holder(int(port))}" if taken else error.strerror
        raise InputError(
            f"{where}, and cannot: {reason}. Stop what listens there, or give this worker another "
            "port above 1023 in TF_CONFIG on every host."
        ) from error


def _holder(port: int) -> str:
    """Return the process that listens on a port, as far as this user may see it."""
    try:
        for one in psutil.net_connections(kind="tcp"):
            if (
                one.status == psutil.CONN_LISTEN
                and one.laddr
                and one.laddr.port == port
                and one.pid
            ):
                return f"process {one.pid} ({psutil.Process(one.pid).name()})"
    except psutil.Error:
        return "another process"
    return "another process"
