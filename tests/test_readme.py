"""What README.md tells people to type works: its programs, its recipe and its commands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml

from tfopt.cli.main import app
from tfopt.config.load import load_recipe

pytestmark = pytest.mark.e2e

Run = Callable[..., Any]
ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, flags=re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def commands(text: str) -> list[str]:
    """Return the indented command lines, and those in backticks, without comments."""
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^    (?=tfopt |make |python )(.*)$", outside, flags=re.MULTILINE)
    inline = re.findall(r"`(?:[A-Z]+=\S+ )?((?:tfopt|make|python) [^`]+)`", outside)
    return [re.sub(r"\s+# .*", "", line) for line in (*lines, *inline)]


COMMANDS = commands(README)


def test_the_pieces_were_found() -> None:
    assert len(blocks("python")) == 4
    assert len(blocks("yaml")) == 1
    assert len(COMMANDS) >= 15


def test_the_python_example_runs(tmp_path: Path) -> None:
    printed = run_program(blocks("python")[0], tmp_path)
    assert (tmp_path / "model.tflite").stat().st_size > 1000
    gzip_bytes, metric = printed.split()[:2]
    assert 0 < int(gzip_bytes) < (tmp_path / "model.tflite").stat().st_size
    assert 0 <= float(metric) <= 1
    assert printed.split()[-1] == "1.0", printed


def test_the_keras_3_example_runs(tmp_path: Path) -> None:
    printed = run_program(blocks("python")[1], tmp_path)
    assert (tmp_path / "pruned.keras").stat().st_size > 1000
    assert printed.startswith("4 weights, 1,314 parameters; 3 native"), printed


def test_the_distillation_example_runs(tmp_path: Path) -> None:
    printed = run_program(blocks("python")[2], tmp_path)
    assert (tmp_path / "student.keras").stat().st_size > 1000
    assert "student_loss" in printed


@pytest.mark.skipif(find_spec("tokenizers") is None, reason="needs the extra: text")
def test_the_transformer_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(blocks("python")[3], "README.md", "exec"), names)  # in this process: it is faster
    assert (tmp_path / "tuned.keras").stat().st_size > 1000
    weights = zip(names["model"].get_weights(), names["tuned"].get_weights(), strict=True)
    assert any(not np.array_equal(one, two) for one, two in weights)


def run_program(program: str, folder: Path) -> str:
    """Run an example as a user would; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_recipe_is_that_of_configs_and_can_be_planned(tmp_path: Path, tfopt: Run) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(blocks("yaml")[0])
    assert load_recipe(path).name == "lenet5-mnist"
    differing = shown_otherwise(
        yaml.safe_load(path.read_text()),
        yaml.safe_load((ROOT / "configs/lenet5_mnist.yaml").read_text()),
    )
    assert differing == []
    found = tfopt("plan", path, "--set", "data.limit=200", "--set", "train.epochs=1")
    assert found.code == 0, found.err
    assert "conv1" in found.out


def shown_otherwise(shown: Any, whole: Any, where: str = "") -> list[str]:
    """Return the settings in a shortened recipe that the whole one has not, or not so."""
    if isinstance(shown, dict) and isinstance(whole, dict):
        pairs = [(key, shown[key], whole.get(key)) for key in shown]
    elif isinstance(shown, list) and isinstance(whole, list) and len(shown) == len(whole):
        pairs = list(zip(range(len(shown)), shown, whole, strict=True))
    else:
        return [] if shown == whole else [f"{where}: {shown}, not {whole}"]
    return [line for key, *both in pairs for line in shown_otherwise(*both, f"{where}.{key}")]


def parse(command: str) -> None:
    """Parse the words of a ``tfopt`` command as the program does, and do nothing."""
    verb, *words = shlex.split(command)[1:]
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    with verbs[verb].make_context(f"tfopt {verb}", words):
        pass


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_exist_with_their_options(command: str) -> None:
    program, *words = shlex.split(command)
    for word in words:
        if word.startswith(("configs/", "scripts/", "benchmarks/")):
            assert (ROOT / word).is_file()
    if program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    elif program == "tfopt":
        parse(command)
    elif words[0].startswith("scripts/"):
        parse(shlex.join(["tfopt", Path(words[0]).stem, *words[1:]]))
    else:
        text = (ROOT / words[0]).read_text()
        assert all(f'"{word}"' in text for word in words[1:] if word.startswith("--"))


@pytest.mark.parametrize("command", ["tfopt prun a.keras", "tfopt prune a.keras --sparsty 0.5"])
def test_a_command_that_does_not_exist_would_be_found(command: str) -> None:
    with pytest.raises((KeyError, typer.BadParameter.__mro__[1])):
        parse(command)


def test_the_steps_from_one_model_file_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shelf: Path, digits: Any, tfopt: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(shelf / "model.keras", "model.keras")
    images, labels = digits
    np.savez("data.npz", x=images[:600], y=labels[:600])
    lines = re.findall(r"^    (tfopt .*)$", section("From one model file"), flags=re.MULTILINE)
    words = [shlex.split(line, comments=True)[1:] for line in lines]
    verbs = [verb for verb, *_ in words]
    assert verbs == ["prune", "quantize", "export", "verify", "bench", "doctor"]
    for verb, *rest in words:
        if verb == "bench":
            shutil.copy("model.tflite", "other.tflite")
            rest += ["--runs", "5", "--warmup", "1"]
        found = tfopt(verb, *rest)
        assert found.code == 0, f"{verb}: {found.err}"
    made = ("pruned/report.html", "small/results.json", "small/model.keras", "model.tflite")
    assert all(Path(name).is_file() for name in made)
