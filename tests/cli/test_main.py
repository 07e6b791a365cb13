from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tfopt.cli import main
from tfopt.errors import Interrupted
from tfopt.version import __version__

Run = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
VERBS = (
    "run", "train", "distill", "prune", "cluster", "quantize", "export", "verify", "bench",
    "report", "plan", "doctor", "schema",
)  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example(verb: str, tfopt: Run) -> None:
    found = tfopt(verb, "--help")
    assert (found.code, found.err) == (0, "")
    assert f"Usage: tfopt {verb}" in found.out
    assert f"Examples:\n    tfopt {verb}" in found.out
    assert tfopt(verb, "-h").out == found.out


def test_help_lists_the_verbs_and_the_exit_codes(tfopt: Run) -> None:
    found = tfopt("--help")
    assert found.code == 0
    for verb in VERBS:
        assert f"\n  {verb} " in found.out
    assert "...\n" not in found.out.partition("Commands:")[2]
    for code in ("0 ok", "1 internal", "2 bad", "3 gate", "4 verif", "5 optional", "130 interr"):
        assert code in found.out


def test_version(tfopt: Run) -> None:
    assert tfopt("--version").out == f"tfopt {__version__}\n"


USAGE = {
    "no verb": ((), "Usage: tfopt [OPTIONS] COMMAND"),
    "unknown verb": (("prun",), "No such command 'prun'"),
    "unknown option": (("run", "--bogus"), "No such option: --bogus"),
    "no value": (("run", "--set"), "--set"),
    "no file": (("bench",), "Missing argument"),
    "no model": (("verify", "a.tflite"), "Missing option '--against'"),
    "no number": (("prune", "m.keras", "--epochs", "two"), "--epochs"),
    "unknown precision": (("export", "m.keras", "-p", "int4"), "int4"),
    "too few runs": (("bench", "a.tflite", "--runs", "0"), "--runs"),
    "no recipe": (("run",), "error: Give a recipe: a YAML file, as an argument or with --config."),
    "missing recipe": (("plan", "nosuch.yaml"), "error: There is no recipe 'nosuch.yaml'."),
    "missing model": (("prune", "no.keras", "-d", "digits"), "error: There is no model 'no.keras'"),
    "no data": (("prune", __file__), "error: Give the data: --data mnist5k, digits,"),
    "missing run": (("report", "nosuch"), "error: The run folder 'nosuch' does not exist."),
}


@pytest.mark.parametrize("name", USAGE)
def test_bad_usage_exits_with_2_and_says_why(name: str, tfopt: Run) -> None:
    words, message = USAGE[name]
    found = tfopt(*words)
    assert found.code == 2
    assert found.out == ""
    assert message in found.err
    assert "Traceback" not in found.err


@pytest.mark.parametrize("words", [("--debug", "plan", "no.yaml"), ("plan", "no.yaml", "--debug")])
def test_debug_shows_the_traceback_wherever_it_stands(words: Any, tfopt: Run) -> None:
    found = tfopt(*words)
    assert found.code == 2
    assert "Traceback (most recent call last)" in found.err
    assert found.err.endswith("error: There is no recipe 'no.yaml'.\n")


def test_an_internal_error_is_one_line_and_exits_with_1(
    tfopt: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Any, overrides: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("tfopt.cli.arguments.recipe_from", broken)
    found = tfopt("plan", "x.yaml")
    assert found.code == 1
    assert found.err == (
        "error: internal error: RuntimeError: boom\nRun again with --debug for the traceback.\n"
    )
    assert "Traceback" in tfopt("plan", "x.yaml", "--debug").err


@pytest.mark.parametrize("kind", [KeyboardInterrupt, EOFError, Interrupted])
def test_an_interruption_exits_with_130(
    kind: Any, tfopt: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(path: Any, overrides: Any) -> None:
        raise kind("interrupted")

    monkeypatch.setattr("tfopt.cli.arguments.recipe_from", stopped)
    found = tfopt("plan", "x.yaml")
    assert (found.code, found.err) == (130, "error: interrupted\n")


def test_the_schema_is_json(tfopt: Run) -> None:
    import json

    found = tfopt("schema")
    assert found.code == 0
    assert json.loads(found.out)["properties"]["steps"]["type"] == "array"


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m tfopt schema | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert (done.stdout, done.stderr) == ("{0\n", "")


PROGRAM = """
import sys
from tfopt.cli.main import main
code = main(sys.argv[1:])
heavy = {"tensorflow", "keras", "tf_keras", "ai_edge_litert", "sklearn", "matplotlib"}
print(code, sorted(heavy & set(sys.modules)))
"""
LIGHT = {
    "help": (("--help",), 0),
    "help of a verb": (("run", "--help"), 0),
    "schema": (("schema",), 0),
    "bad recipe": (("run", "bad.yaml"), 2),
    "bad recipe for plan": (("plan", "bad.yaml", "--set", "x"), 2),
    "used folder": (("run", "good.yaml", "--output", "."), 2),
    "nothing to resume": (("run", "good.yaml", "--resume"), 2),
    "no run to resume": (("run", "good.yaml", "--resume", "--output", "."), 2),
    "damaged run": (("run", "good.yaml", "--resume", "--output", "damaged"), 2),
    "bad option": (("cluster", "good.yaml", "--data", "digits", "--clusters", "1"), 2),
    "bad run folder": (("report", "."), 2),
}


@pytest.mark.parametrize("name", LIGHT)
def test_nothing_heavy_is_imported_until_it_is_needed(name: str, tmp_path: Path) -> None:
    good = "name: a\ndata: {source: digits}\nmodel: {builder: lenet5}\n"
    (tmp_path / "good.yaml").write_text(good)
    (tmp_path / "bad.yaml").write_text(good + "trian: {}\n")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "manifest.json").write_text("{")
    words, code = LIGHT[name]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.splitlines()[-1] == f"{code} []", done.stderr


def test_scripts_are_the_verbs(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    assert names == set(VERBS) - {"schema"}
    for name in names:
        text = (ROOT / "scripts" / f"{name}.py").read_text()
        assert f'script("{name}")' in text
    monkeypatch.setattr(sys, "argv", ["scripts/plan.py", "nosuch.yaml"])
    with pytest.raises(SystemExit, match="2"):
        main.script("plan")
