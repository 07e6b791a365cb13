"""The page that says which versions were run, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Result = Mapping[str, Any]
"""What ``run.py`` stores of an environment: name, date, versions and checks."""

_CHECKS = ("install", "horovod", "tests", "recipe", "two ranks")
_INTRODUCTION = """\
# Versions that were run

`make compat` makes a fresh environment for each column, without `constraints.txt`, and runs the
fast tests in it, a small recipe (train, prune, cluster, quantize, int8 export) with `tfopt verify`
on its file, and that recipe on two Horovod processes. This page is its output: do not edit it.
*Oldest* is the lowest series that `pyproject.toml` allows of each package it names, in its last bug
fix; *newest* is what pip chooses; *middle* has a TensorFlow and a Keras between. Each tf_keras
requires the TensorFlow of its number, and tfopt refuses another pair. `tfopt doctor` names a
version that was not run.
"""


def page(results: Sequence[Result], packages: Sequence[str]) -> str:
    """Return the page in Markdown.

    Args:
        results: One for each environment, in the order of the columns.
        packages: The packages whose versions are shown, as pip spells them.
    """
    names = ["", *(result["name"] for result in results)]
    checks = [
        [name, *(_cell(result["checks"].get(name)) for result in results)] for name in _CHECKS
    ]
    dates = ["date", *(result["date"] for result in results)]
    versions = [
        [name, *(result["versions"].get(name, "") for result in results)]
        for name in ("python", *packages)
    ]
    failures = _failures(results)
    parts = [
        _INTRODUCTION,
        _table(names, [*checks, dates]),
        "## Versions as pip resolved them\n",
        _table(names, versions),
        *(["## What failed\n", failures] if failures else []),
    ]
    return "\n".join(parts)


def _cell(outcome: Mapping[str, Any] | None) -> str:
    if outcome is None:
        return "not run"
    state = outcome["detail"] if outcome["is_ok"] else f"**failed**: {_short(outcome['detail'])}"
    return f"{state}, {outcome['seconds']} s"


def _short(text: str) -> str:
    return text.replace("|", "/")[:80]


def _failures(results: Sequence[Result]) -> str:
    lines = [
        f"- {result['name']}, {check}: `{test}`"
        for result in results
        for check, outcome in result["checks"].items()
        for test in outcome["failed"] or ([outcome["detail"]] if not outcome["is_ok"] else [])
    ]
    return "".join(f"{line}\n" for line in lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
