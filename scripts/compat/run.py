"""Run tfopt in fresh environments of several Pythons and versions, and write the matrix.

    python scripts/compat/run.py tests/config tests/export        # what pytest gets
    python scripts/compat/run.py --only py311-oldest tests/config

``make compat`` runs it with the fast tests. An environment takes about 15 minutes on two cores and
3 GB of disk. Each Python is looked for among those of ``--python``, then on PATH as ``python3.11``
and so on. The page has the last result of every environment in the cache.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import re
import shutil
import sys
from pathlib import Path

from checks import check_all
from environments import COMBINATIONS, ROOT, Combination, Environment, find_python, requirements
from matrix import page

_NAMES = [combination.name for combination in COMBINATIONS]


def main() -> int:
    words = _arguments()
    chosen = [each for each in COMBINATIONS if each.name in (words.only or _NAMES)]
    are_ok = [_examine(each, words) for each in chosen]
    write_page(words.page, words.cache)
    return 0 if all(are_ok) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tests", nargs="+", help="paths and options for pytest")
    parser.add_argument("--only", action="append", choices=_NAMES, help="run this one; repeatable")
    parser.add_argument("--python", action="append", default=[], help="an interpreter; repeatable")
    parser.add_argument("--keep", action="store_true", help="go on in environments that are there")
    parser.add_argument(
        "--cache", type=Path, default=ROOT / ".compat", help="environments and logs"
    )
    parser.add_argument("--page", type=Path, default=ROOT / "docs/compatibility.md")
    return parser.parse_args()


def _examine(combination: Combination, words: argparse.Namespace) -> bool:
    """Make an environment, run everything in it and store what came of it."""
    python = find_python(combination.python, words.python)
    if python is None:
        print(
            f"{combination.name}: no Python {combination.python} was found. Give --python PATH, or "
            f"put python{combination.python} on PATH (pyenv: PYENV_VERSION=3.11:3.12:3.13).",
            file=sys.stderr,
        )
        return False
    environment = Environment(words.cache.resolve() / combination.name, combination)
    for folder in environment.runs if words.keep else [environment.folder]:
        shutil.rmtree(folder, ignore_errors=True)
    environment.folder.mkdir(parents=True, exist_ok=True)
    found = check_all(environment, python, words.tests)
    result = {
        "name": combination.name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": environment.versions() if found["install"].is_ok else {},
        "checks": {name: dataclasses.asdict(outcome) for name, outcome in found.items()},
    }
    (environment.folder / "result.json").write_text(json.dumps(result, indent=1))
    return all(outcome.is_ok for outcome in found.values())


def write_page(path: Path, cache: Path) -> None:
    """Write the matrix of all results in the cache, of this and earlier runs."""
    files = [cache / name / "result.json" for name in _NAMES]
    results = [json.loads(file.read_text()) for file in files if file.exists()]
    named = [re.match(r"[A-Za-z0-9._-]+", text)[0] for text in requirements()]
    path.write_text(page(results, [*named, "protobuf", "ml_dtypes", "keras-hub", "horovod"]))


if __name__ == "__main__":
    sys.exit(main())
