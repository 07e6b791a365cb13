"""All ranks of a run must run the same program; hosts are often installed at different times."""

from __future__ import annotations

import json
import platform
import socket
from collections.abc import Callable, Mapping
from importlib import metadata

from tfopt import __version__
from tfopt.errors import InputError

PACKAGES = ("tensorflow", "tf_keras", "keras", "horovod", "numpy", "tensorflow-model-optimization")
"""What decides how a step is computed, or what ranks send each other."""


def versions_here() -> dict[str, str]:
    """Return the versions of Python, tfopt and ``PACKAGES`` in this process."""
    found = {"python": platform.python_version(), "tfopt": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def require_equal_versions(gather: Callable[[str], list[str]]) -> None:
    """Raise on every rank whose versions are not those of rank 0; collective.

    Other versions are not caught by Horovod: ranks train on with optimizers that differ, or
    wait for a collective that the other version does not make.

    Args:
        gather: Returns the text that each rank gave, by rank.

    Raises:
        InputError: Naming this rank's host, the packages and both versions.
    """
    require_equal(gather, versions_here(), "Install the same versions on all hosts.")


def require_equal(
    gather: Callable[[str], list[str]], facts: Mapping[str, str], advice: str
) -> None:
    """Raise on every rank that knows something else than rank 0; collective.

    Only those ranks raise, so in an elastic job the others go on without them.

    Args:
        gather: Returns the text that each rank gave, by rank.
        facts: What is compared, by name.
        advice: What to do, for the message.

    Raises:
        InputError: Naming this rank's host, and what differs.
    """
    host = socket.gethostname()
    chief, expected = json.loads(gather(json.dumps([host, dict(facts)]))[0])
    wrong = [
        f"{name} {facts.get(name)} instead of {value}"
        for name, value in expected.items()
        if facts.get(name) != value
    ]
    if wrong:
        raise InputError(f"Host {host} has {', '.join(wrong)} as on {chief}. {advice}")
