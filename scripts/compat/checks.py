"""What runs in an environment, and how it ended."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from environments import ROOT, Environment, commands_to_install

_RECIPE = ROOT / "scripts/compat/digits.yaml"
_MINUTES = {"install": 30, "horovod": 30, "tests": 60, "recipe": 15, "two ranks": 15}
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "horovod": ("install",),
    "tests": ("install",),
    "recipe": ("install",),
    "two ranks": ("install", "horovod"),
}
_SUMMARY = re.compile(r"(\d+ (?:passed|failed|errors?|skipped)\b.*) in [\d.]+s")


@dataclass(frozen=True)
class Outcome:
    """How one check ended.

    Attributes:
        is_ok: Whether every command of it ended with exit code 0.
        detail: One line: pytest's counts, ``passed``, or the last line of the command that failed.
        seconds: Wall time.
        failed: The tests that failed, as pytest names them.
    """

    is_ok: bool
    detail: str
    seconds: int
    failed: tuple[str, ...] = ()


def check_all(environment: Environment, python: str, tests: Sequence[str]) -> dict[str, Outcome]:
    """Make an environment and run every check in it; what needs a failed one is left out.

    Args:
        environment: Where to.
        python: The interpreter to make it from.
        tests: The paths and options that pytest gets.

    Returns:
        The outcome of each check that ran, by its name.
    """
    commands = {
        "install": commands_to_install(environment, python),
        "horovod": [horovod_command(environment)],
        "tests": [tests_command(environment, tests)],
        "recipe": recipe_commands(environment),
        "two ranks": [two_ranks_command(environment)],
    }
    found: dict[str, Outcome] = {}
    for name, words in commands.items():
        if all(found[needed].is_ok for needed in _NEEDED.get(name, ())):
            found[name] = run(name, words, environment)
            state = "ok" if found[name].is_ok else "FAILED"
            print(
                f"{environment.combination.name}: {name} {state}: {found[name].detail}", flush=True
            )
    return found


def horovod_command(environment: Environment) -> list[str]:
    """Return the command that builds Horovod against the TensorFlow of an environment."""
    return [
        str(ROOT / "scripts/install_horovod.sh"),
        *("--python", str(environment.python), "--constraint", str(environment.constraints)),
    ]


def tests_command(environment: Environment, tests: Sequence[str]) -> list[str]:
    """Return the command that runs the fast tests."""
    options = ("-n", "0", "-p", "no:cacheprovider", "--tb=short", "-rfE")
    return [str(environment.python), "-m", "pytest", *options, *tests]


def recipe_commands(environment: Environment) -> list[list[str]]:
    """Return the commands that run the small recipe and verify its file from outside of the run."""
    tfopt = [str(environment.python), "-m", "tfopt"]
    folder, _ = environment.runs
    artefact, source = folder / "export/compat-int8.tflite", folder / "model.keras"
    return [
        [*tfopt, "run", str(_RECIPE), "--output", str(folder)],
        [*tfopt, "verify", str(artefact), "--against", str(source), "--data", "digits"],
    ]


def two_ranks_command(environment: Environment) -> list[str]:
    """Return the command that runs the small recipe on two ranks of this machine."""
    return [
        *(str(environment.python.parent / "horovodrun"), "--gloo", "-np", "2", "-H", "localhost:2"),
        *(str(environment.python), str(ROOT / "scripts/run.py"), str(_RECIPE)),
        *("--output", str(environment.runs[1])),
    ]


def run(name: str, commands: Sequence[Sequence[str]], environment: Environment) -> Outcome:
    """Run the commands of a check one after another until one fails.

    Args:
        name: Of the check; its log has this name.
        commands: Programs with their arguments.
        environment: Where the log goes.
    """
    log = environment.folder / f"{name.replace(' ', '-')}.log"
    started = time.monotonic()
    with log.open("w") as stream:
        is_ok = all(_ended_well(words, stream.fileno(), 60 * _MINUTES[name]) for words in commands)
    seconds = time.monotonic() - started
    lines = log.read_text(errors="replace").splitlines()
    detail = "passed" if is_ok and name != "tests" else last_words(lines)
    return Outcome(is_ok, detail, round(seconds), failed_tests(lines))


def _ended_well(words: Sequence[str], stream: int, seconds: int) -> bool:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            words, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=stream,
            stderr=subprocess.STDOUT, timeout=seconds, check=False,
        )  # fmt: skip
    except (subprocess.TimeoutExpired, OSError) as error:
        os.write(stream, f"\n{error}\n".encode())
        return False
    return done.returncode == 0


def last_words(lines: Sequence[str]) -> str:
    """Return pytest's counts if a log ends with them, else its last line.

    >>> last_words(["...", "== 3 passed, 1 skipped in 2.50s =="])
    '3 passed, 1 skipped'
    >>> last_words(["done", ""])
    'done'
    """
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        return "nothing printed"
    counts = _SUMMARY.search(texts[-1])
    return counts[1] if counts else texts[-1]


def failed_tests(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the tests that pytest's closing lines name, without their messages.

    >>> failed_tests(["FAILED tests/test_a.py::test_b - ValueError: no", "1 failed in 2.0s"])
    ('tests/test_a.py::test_b',)
    """
    ends = [line for line in lines if line.startswith(("FAILED ", "ERROR tests"))]
    return tuple(line.split(" - ")[0].split(" ", 1)[1] for line in ends)
