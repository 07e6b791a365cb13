"""Who of a cluster with parameter servers is there; imports nothing heavy."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tfopt.errors import InputError

_LOOK_EVERY_SECONDS = 1.0
_MISSES = 3
_CHIEF_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class ClusterAddresses:
    """The addresses of a cluster, ``host:port``.

    Attributes:
        chief: The process that runs the recipe.
        workers: Those that take steps.
        servers: Those that hold the weights.
    """

    chief: str
    workers: Sequence[str]
    servers: Sequence[str]

    def wait_while_chief_is_there(self) -> None:
        """Return once the chief has come and gone.

        TensorFlow's servers never end by themselves, and would outlive a chief that was killed.

        Raises:
            InputError: If it does not come.
        """
        if first_absent([self.chief], seconds=_CHIEF_SECONDS):
            raise InputError(
                f"No chief listens on {self.chief} of TF_CONFIG after {_CHIEF_SECONDS:.0f} s. "
                "Start the same command there, as its task 'chief'."
            )
        misses = 0
        while misses < _MISSES:
            time.sleep(_LOOK_EVERY_SECONDS)
            misses = 0 if is_listening(self.chief) else misses + 1


def read_cluster(text: str) -> ClusterAddresses:
    """Return the cluster of a ``TF_CONFIG`` that ``find_place`` has checked."""
    cluster = json.loads(text)["cluster"]
    return ClusterAddresses(cluster["chief"][0], tuple(cluster["worker"]), tuple(cluster["ps"]))


def first_absent(addresses: Sequence[str], *, seconds: float) -> str | None:
    """Return an address on which nothing listens after a time; None as soon as all answer."""
    until = time.monotonic() + seconds
    left = list(addresses)
    while left := [address for address in left if not is_listening(address)]:
        if time.monotonic() > until:
            return left[0]
        time.sleep(_LOOK_EVERY_SECONDS / 4)
    return None


def is_listening(address: str) -> bool:
    """Return whether something takes connections on ``host:port``."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_LOOK_EVERY_SECONDS):
            return True
    except OSError:
        return False
