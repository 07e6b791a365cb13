"""What scripts/compat makes of versions, of the ends of programs, and of results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "scripts/compat"
RESULT = {
    "name": "py311-oldest",
    "date": "2026-01-02",
    "versions": {"python": "3.11.7", "keras": "3.12.4"},
    "checks": {
        "install": {"is_ok": True, "detail": "passed", "seconds": 60, "failed": []},
        "tests": {
            "is_ok": False,
            "detail": "1 failed, 9 passed",
            "seconds": 30,
            "failed": ["tests/test_a.py::test_b[x|y]"],
        },
        "recipe": {"is_ok": False, "detail": "error: a | b", "seconds": 5, "failed": []},
    },
}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of the program: ``module("checks")``."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name: str) -> ModuleType:
        from importlib import import_module

        return import_module(name)

    yield load
    for name in ("checks", "environments", "matrix"):
        sys.modules.pop(name, None)


def test_the_oldest_environment_has_the_lowest_series_of_every_range(module: Any) -> None:
    environments = module("environments")
    required = environments.requirements()
    pins = dict(pin.split("==") for pin in environments.oldest_pins(required))
    assert pins["tensorflow"] == pins["tf_keras"] == "2.19.*"
    assert "tensorboard" not in pins
    assert len(pins) == sum(">=" in text for text in required) > 10


def test_every_python_and_tensorflow_that_is_allowed_has_an_environment(module: Any) -> None:
    combinations = module("environments").COMBINATIONS
    assert {each.python for each in combinations if not each.pins} == {"3.11", "3.12", "3.13"}
    assert sum(each.is_oldest for each in combinations) == 1
    for each in combinations:
        pins = dict(pin.split("==") for pin in each.pins)
        assert pins.get("tensorflow") == pins.get("tf_keras")


def test_a_python_of_another_version_is_passed_over(module: Any, tmp_path: Path) -> None:
    find_python = module("environments").find_python
    own = "{}.{}".format(*sys.version_info[:2])
    assert find_python(own, ["/bin/false", sys.executable]) == sys.executable
    assert find_python("2.0", [sys.executable]) is None


def test_a_check_ends_at_the_first_command_that_fails(module: Any, tmp_path: Path) -> None:
    checks, environments = module("checks"), module("environments")
    environment = environments.Environment(tmp_path, environments.COMBINATIONS[0])
    programs = ["print('fine')", "import sys; print('no luck'); sys.exit(3)", "print('never')"]
    commands = [[sys.executable, "-c", program] for program in programs]
    outcome = checks.run("two ranks", commands, environment)
    assert (outcome.is_ok, outcome.detail) == (False, "no luck")
    assert (tmp_path / "two-ranks.log").read_text() == "fine\nno luck\n"
    assert checks.run("recipe", [["/not/there"]], environment).detail.endswith("'/not/there'")


def test_pytests_end_is_read(module: Any) -> None:
    checks = module("checks")
    lines = ["FAILED tests/a.py::b[x-y] - E: x", "ERROR tests/c.py", "1 failed, 1 error in 2.0s"]
    assert checks.last_words(lines) == "1 failed, 1 error"
    assert checks.failed_tests(lines) == ("tests/a.py::b[x-y]", "tests/c.py")
    assert checks.last_words([]) == "nothing printed"


def test_the_page_says_what_failed_and_what_was_not_run(module: Any) -> None:
    text = module("matrix").page([RESULT, RESULT | {"name": "other"}], ["keras", "h5py"])
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if "|" in line}
    assert rows["install"] == "| install | passed, 60 s | passed, 60 s |"
    assert rows["two ranks"] == "| two ranks | not run | not run |"
    assert "| **failed**: 1 failed, 9 passed, 30 s |" in rows["tests"]
    assert "| **failed**: error: a / b, 5 s |" in rows["recipe"]
    assert rows["h5py"] == "| h5py |  |  |"
    assert "- other, tests: `tests/test_a.py::test_b[x|y]`" in text
    assert "- other, recipe: `error: a | b`" in text


def test_a_python_that_is_missing_is_named_and_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    words = ["--only", "py313-newest", "--cache", str(tmp_path), "--page", str(page), "tests"]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "run.py"), *words],
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("py313-newest: no Python 3.13 was found. Give --python PATH")
    assert page.read_text().startswith("# Versions that were run")
