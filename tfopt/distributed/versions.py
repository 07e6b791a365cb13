"""All ranks of a run must run the same program; hosts are often installed at different times."""

from __future__ import annotations

import json
import platform
import socket
from collections.abc import Callable, Mapping
from importlib import metadata

from tfopt.errors import InputError
from tfopt.version import __version__

PACKAGES = ("tensorflow", "tf_keras", "keras", "horovod", "numpy", "tensorflow-model-optimization")
"""What decides how a step is computed, or what ranks send each other."""

SAME_VERSIONS = "Install the same versions on all hosts."

_SHOWN = 40


def versions_here() -> dict[str, str]:
    """Return the versions of Python, tfopt and ``PACKAGES`` in this process."""
    found = {"python": platform.python_version(), "tfopt": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def require_equal(
    gather: Callable[[str], list[str]],
    facts: Mapping[str, str],
    advice: str,
    *,
    rank: int | None = None,
) -> None:
    """Raise if a rank knows something else than rank 0; collective.

    Other versions are not caught by Horovod or TensorFlow: ranks train on with optimizers that
    differ, or wait for a collective that the other version does not make.

    Args:
        gather: Returns the text that each rank gave, by rank.
        facts: What is compared, by name.
        advice: What to do, for the message.
        rank: Raise only if it is this one that differs; None: whichever it is.

    Raises:
        InputError: Naming the rank's host, what differs, and both values.
    """
    found = [json.loads(text) for text in gather(json.dumps([socket.gethostname(), dict(facts)]))]
    chief, expected = found[0]
    for number, (host, own) in enumerate(found):
        wrong = [
            f"{name} {_short(own.get(name))} instead of {_short(value)}"
            for name, value in expected.items()
            if own.get(name) != value
        ]
        if wrong and rank in (None, number):
            raise InputError(
                f"Rank {number} on host {host} has {', '.join(wrong)} as rank 0 on {chief}. "
                f"{advice}"
            )


def _short(value: str | None) -> str:
    return str(value)[:_SHOWN]
