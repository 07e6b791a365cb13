"""What users get wrong, and what machines do to them: a clear line, the right exit code."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.e2e

Run = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
name: tiny
data: {source: digits, limit: 64, batch_size: 32}
model: {builder: lenet300}
train: {epochs: 1}
"""
OWN = """
import tf_keras as keras


def raises(**anything):
    raise KeyError("boom")


def number(input_shape, classes):
    return 3


def wrong_shape(input_shape, classes):
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(classes)])


def two_outputs(input_shape, classes):
    image = keras.Input(input_shape)
    flat = keras.layers.Flatten()(image)
    return keras.Model(image, [keras.layers.Dense(classes)(flat), keras.layers.Dense(1)(flat)])


def keras_3(input_shape, classes):
    import keras as keras_3

    class Own(keras_3.Model):
        def call(self, pictures):
            return pictures

    return Own()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a good recipe and the user's own functions."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    (tmp_path / "bad_input_own.py").write_text(OWN)
    return tmp_path


def refused(found: Any, message: str, code: int = 2) -> None:
    """Judge what a failed command printed: one line, no traceback, no other noise."""
    assert found.code == code, found.err
    last = found.err.splitlines()[-1]
    assert re.search(f"^error: .*{message}", last), found.err
    assert "Traceback" not in found.err
    assert "internal error" not in found.err


FUNCTIONS = {
    "raises": "model builder 'bad_input_own:raises' failed: KeyError: 'boom'",
    "number": "bad_input_own:number' must be a tf_keras.Model. Received: builtins.int",
    "wrong_shape": r"shape \(8, 8, 1\), but input .* takes \(3,\)",
    "two_outputs": "trains models with one output; .* has 2",
    "keras_3": "is a subclassed Keras 3 model",
    "rases": r"has no 'rases'. Did you mean 'raises'\?",
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_users_builder(name: str, here: Path, tfopt: Run) -> None:
    words = ("--set", f"model.builder=bad_input_own:{name}", "-o", "out")
    refused(tfopt("run", "tiny.yaml", *words), FUNCTIONS[name])
    assert not Path("out").exists()


def test_the_users_data(here: Path, tfopt: Run) -> None:
    found = tfopt("run", "tiny.yaml", "--set", "data.source=bad_input_own:raises", "-o", "out")
    refused(found, "source 'bad_input_own:raises' failed: KeyError: 'boom'")
    found = tfopt("run", "tiny.yaml", "--set", "data.source=nosuchmodule:load", "-o", "out")
    refused(found, "'nosuchmodule:load' cannot be imported: No module named")
    assert not Path("out").exists()


def rows(**changed: Any) -> dict[str, Any]:
    images = np.random.default_rng(0).random((60, 8, 8, 1)).astype(np.float32)
    return {"x": images, "y": np.arange(60) % 10, **changed}


def test_epochs_judged_by_the_rows_that_the_source_brings(here: Path, tfopt: Run) -> None:
    given = rows()
    np.savez("with.npz", **given, x_val=given["x"][:9], y_val=given["y"][:9])
    np.savez("without.npz", **given)
    Path("best.yaml").write_text(
        "name: best\ndata: {source: npz, path: with.npz}\nmodel: {builder: lenet300}\n"
        "train: {epochs: 1, keep: best}\n"
    )
    bad = tfopt("run", "best.yaml", "--set", "data.path=without.npz", "-o", "out")
    refused(bad, "keep: best needs rows.*the data source brings none.*data.validation_fraction")
    assert "[1/1]" not in bad.err
    assert not Path("out").exists()
    good = tfopt("run", "best.yaml", "-o", "out")
    assert good.code == 0, good.err
    assert "val accuracy" in good.err


def spoilt(images: np.ndarray) -> np.ndarray:
    images[5, 2, 2, 0] = np.nan
    return images


ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "nan": (rows(x=spoilt(rows()["x"])), "1 of 3840 entries are NaN.*first in row 5"),
    "shape": (rows(x=np.zeros((60, 7, 8, 1))), r"shape \(7, 8, 1\), but input .*\(8, 8, 1\)"),
    "no labels": ({"x": rows()["x"]}, "has no array 'y'. It has: x"),
    "fewer labels": (rows(y=np.arange(59)), "60.*59"),
    "empty": ({"x": np.zeros((0, 8, 8, 1)), "y": np.zeros(0, int)}, "no examples|0 rows"),
    "objects": (rows(x=np.array([{}] * 60)), "objects|object|pickle"),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_do_not_fit(name: str, here: Path, shelf: Path, tfopt: Run) -> None:
    content, message = ROWS[name]
    np.savez("rows.npz", **content)
    words = ("--data", "rows.npz", "--output")
    refused(tfopt("quantize", shelf / "model.keras", *words, "out"), message)
    refused(tfopt("export", shelf / "model.keras", *words, "m.tflite"), message)
    assert {path.name for path in here.iterdir()} == {"tiny.yaml", "bad_input_own.py", "rows.npz"}


@pytest.fixture
def broken(here: Path, shelf: Path) -> Path:
    """Files of every kind that are not what their names say."""
    whole = (shelf / "model.keras").read_bytes()
    (here / "half.keras").write_bytes(whole[: len(whole) // 2])
    for suffix in ("keras", "h5", "tflite", "npz"):
        (here / f"text.{suffix}").write_text("hello " * 50)
        (here / f"empty.{suffix}").touch()
    return here


@pytest.mark.parametrize("file", ["half.keras", "text.keras", "empty.keras", "text.h5", "empty.h5"])
def test_models_that_are_damaged(file: str, broken: Path, shelf: Path, tfopt: Run) -> None:
    rows = ("--data", str(shelf / "rows.npz"))
    refused(tfopt("prune", file, *rows, "-o", "out"), file)
    refused(tfopt("export", file, *rows, "-o", "m.tflite"), file)
    assert not Path("out").exists()
    assert not Path("m.tflite").exists()


@pytest.mark.parametrize(
    "file", ["text.tflite", "empty.tflite", "half.keras", "nosuch.tflite", "."]
)
def test_exported_files_that_are_damaged(file: str, broken: Path, shelf: Path, tfopt: Run) -> None:
    model = shelf / "model.keras"
    refused(tfopt("verify", file, "-a", model, "-d", shelf / "rows.npz"), re.escape(file))
    refused(tfopt("bench", file), re.escape(file))


@pytest.mark.parametrize("file", ["text.npz", "empty.npz", "nosuch.npz"])
def test_data_files_that_are_damaged(file: str, broken: Path, shelf: Path, tfopt: Run) -> None:
    found = tfopt("cluster", shelf / "model.keras", "-d", file, "-o", "out")
    assert found.code == 2
    assert file in found.err
    assert "Traceback" not in found.err
    assert not Path("out").exists()


def test_a_loss_that_is_lost(here: Path, tfopt: Run) -> None:
    words = ("--set", "train.learning_rate=1.0e+30", "--set", "train.optimizer=sgd", "-o", "out")
    lost = tfopt("run", "tiny.yaml", *words)
    refused(lost, "The loss became nan in epoch 1", code=4)
    assert lost.err.count("The loss became nan") == 1
    assert "FAILED at stage train\n" in lost.err
    found = json.loads(Path("out/results.json").read_text())
    assert found["status"] == "failed"
    assert "The loss became nan" in found["error"]
    assert Path("out/report.html").is_file()


def test_a_missed_gate_keeps_the_file(here: Path, tfopt: Run) -> None:
    words = ("--set", "gate={max_drop: -0.5}", "--set", "export=[{litert: {precision: float32}}]")
    found = tfopt("run", "tiny.yaml", *words, "-o", "out", "-q")
    refused(found, "The gate allows a drop of -0.5000: .*The files are written", code=3)
    assert found.err.startswith("GATE MISSED: ")
    results = json.loads(Path("out/results.json").read_text())
    assert results["status"] == "gate_missed"
    (artifact,) = results["artifacts"]
    assert (Path("out") / artifact["path"]).stat().st_size == artifact["bytes"]


def test_output_folders(here: Path, tfopt: Run) -> None:
    Path("used").mkdir()
    Path("used/mine.txt").write_text("keep me")
    refused(tfopt("run", "tiny.yaml", "-o", "used"), "used exists and is not empty. Add --resume")
    refused(tfopt("run", "tiny.yaml", "-o", "used", "--resume"), "used holds no run")
    assert [path.name for path in Path("used").iterdir()] == ["mine.txt"]
    refused(tfopt("run", "tiny.yaml", "-o", "tiny.yaml"), "tiny.yaml is a file; give the name of")
    refused(tfopt("run", "tiny.yaml", "-o", "tiny.yaml/out"), "tiny.yaml/out cannot be")
    refused(tfopt("run", "tiny.yaml", "--resume"), "There is no run to resume in runs/tiny")
    assert not Path("runs").exists()


def test_runs_are_numbered_and_the_latest_is_resumed(here: Path, tfopt: Run) -> None:
    for _ in range(2):
        assert tfopt("run", "tiny.yaml", "-q").code == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["tiny", "tiny-2"]
    found = tfopt("run", "tiny.yaml", "--resume")
    assert found.code == 0
    assert "-> runs/tiny-2\ntrain: skipped" in found.err


def test_a_read_only_folder(here: Path, tfopt: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # Permissions do not stop root, so the answer of the system is planted.
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    Path("out").mkdir()
    refused(tfopt("run", "tiny.yaml", "-o", "out"), "out is read-only")
    assert list(Path("out").iterdir()) == []


def test_a_full_disk(here: Path, tfopt: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target).name == "model.keras":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    found = tfopt("run", "tiny.yaml", "-o", "out")
    refused(found, "model.keras cannot be written: No space left on device")
    assert json.loads(Path("out/results.json").read_text())["status"] == "failed"
    assert not [path for path in Path("out").rglob("*") if "partial" in path.name]
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert tfopt("run", "tiny.yaml", "-o", "out", "--resume", "-q").code == 0


def test_a_reader_that_goes_away_stops_the_run_and_says_how_to_go_on(
    here: Path, tfopt: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tfopt.reporting.console.plain_reporter import PlainReporter

    def gone(self: Any, line: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(PlainReporter, "_write", gone)
    found = tfopt("run", "tiny.yaml", "-o", "out")
    refused(found, "Nobody reads the output.*tfopt run tiny.yaml --output out --resume", code=130)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "tfopt", *words]


def test_only_our_lines_are_printed(here: Path) -> None:
    words = ("run", "tiny.yaml", "--set", "export=[{litert: {runs: 2, warmup: 0}}]", "-o", "out")
    done = subprocess.run(
        command(*words),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "0"},
    )
    assert (done.returncode, done.stdout) == (0, "")
    starts = (
        "tiny: train, export", "[1/2] ", "[2/2] ", "export/tiny-int8.tflite", "file ",
        "float model ", "DONE: ", "results: out/results.json", "report: out/report.html",
    )  # fmt: skip
    others = [line for line in done.stderr.splitlines() if not line.startswith(starts)]
    assert others == []
    assert "tensorflow" in Path("out/log.txt").read_text().lower()  # that is where the noise went


@pytest.mark.parametrize(("number", "epochs"), [(signal.SIGINT, 900), (signal.SIGTERM, 900)])
def test_an_interrupted_run_can_be_taken_up_again(
    number: signal.Signals, epochs: int, here: Path, tfopt: Run
) -> None:
    words = ("run", "tiny.yaml", "--set", f"train.epochs={epochs}", "-o", "out")
    child = subprocess.Popen(
        command(*words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        # A shell that starts the tests in the background has them ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not list(Path("out").rglob("checkpoint.npz")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert child.poll() is None, child.communicate()[1]  # it was still going on
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, ""), err
    told = "error: Interrupted. Go on with: tfopt "
    last = err.splitlines()[-1]
    assert last.startswith(told)
    assert json.loads(Path("out/results.json").read_text())["status"] == "failed"
    if number is signal.SIGINT:
        return  # what follows is the same for both, and slow
    found = tfopt(*shlex.split(last.removeprefix(told)))
    assert found.code == 0, found.err
    assert "resumed after epoch" in found.err
    assert json.loads(Path("out/results.json").read_text())["status"] == "ok"
