from __future__ import annotations

import json
import os
import socket

import pytest

from tfopt.distributed.tf_distribute.ports import require_own_port
from tfopt.errors import InputError


def config(*workers: str) -> dict[str, str]:
    cluster = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": 1}}
    return {"TF_CONFIG": json.dumps(cluster)}


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_a_port_that_is_taken_is_named_with_its_process(host: str) -> None:
    with socket.create_server((host, 0)) as taken:
        port = taken.getsockname()[1]
        named = rf"Worker 1 of TF_CONFIG.* b:{port}, and cannot: port {port} is taken by process "
        with pytest.raises(InputError, match=rf"{named}{os.getpid()} \(.+\)"):
            require_own_port(config("a:1", f"b:{port}"))
    require_own_port(config("a:1", f"b:{port}"))


def test_an_address_without_a_port() -> None:
    with pytest.raises(InputError, match="gives this worker the address 'b'; it is host:port"):
        require_own_port(config("a:1", "b"))
