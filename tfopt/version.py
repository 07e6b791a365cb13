"""The version of tfopt, and the versions of Python and of packages that it was run on."""

from __future__ import annotations

from collections.abc import Mapping

__version__ = "0.1.0"

TESTED_VERSIONS: Mapping[str, tuple[str, ...]] = {
    "python": ("3.11",),
    "tensorflow": ("2.19", "2.21"),
    "tf_keras": ("2.19", "2.21"),
    "keras": ("3.12", "3.15"),
}
"""Python and packages to the versions (major.minor) that the tests of tfopt passed on."""


def untested(found: Mapping[str, str]) -> list[str]:
    """Return those versions that tfopt was not run on, each with those that it was.

    Args:
        found: Names to versions. Names that are not in ``TESTED_VERSIONS`` are left out.

    Example:
        >>> untested({"python": "3.11.7", "keras": "3.16.0", "numpy": "2.1"})
        ['keras 3.16.0 (tested: 3.12, 3.15)']
    """
    return [
        f"{name} {version} (tested: {', '.join(TESTED_VERSIONS[name])})"
        for name, version in found.items()
        if name in TESTED_VERSIONS and ".".join(version.split(".")[:2]) not in TESTED_VERSIONS[name]
    ]
