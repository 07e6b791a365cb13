"""Whole recipes through the command line, on real data, judged by what they leave behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.e2e


def tfopt(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tfopt", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="session")
def lenet(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The demo's recipe with few epochs."""
    folder = tmp_path_factory.mktemp("lenet") / "run"
    short = ["train=6", "steps.prune=4", "steps.cluster=1", "steps.quantize=1"]
    sets = [word for part in short for word in ("--set", part.replace("=", ".epochs="))]
    sets += ["--set", "gate.max_drop=0.05"]
    return folder, tfopt("run", "configs/lenet5_mnist.yaml", *sets, "--output", str(folder))


def test_the_demo_recipe_leaves_a_verified_file(lenet: Any) -> None:
    folder, done = lenet
    assert done.returncode == 0, done.stderr
    found = results(folder)
    assert found["status"] == "ok"
    assert [stage["name"] for stage in found["stages"]] == ["train", "prune", "cluster", "quantize"]
    artifact = found["artifacts"][0]
    file = folder / artifact["path"]
    assert file.stat().st_size == artifact["bytes"]
    assert found["baseline"]["litert_float_bytes"] / artifact["gzip_bytes"] > 90
    assert artifact["int8_op_fraction"] == 1.0
    assert artifact["float_ops"] == []
    assert found["metric"] == {
        "name": "accuracy",
        "higher_is_better": True,
        "examples": 1000,
        "label": "accuracy",
        "unit": "points",
    }
    low, high = artifact["drop_ci95"]
    assert low < artifact["drop"] < high
    assert artifact["drop"] == pytest.approx(found["baseline"]["metric"] - artifact["metric"])


def test_every_step_left_its_evidence(lenet: Any) -> None:
    folder, _ = lenet
    stages = {stage["name"]: stage for stage in results(folder)["stages"]}
    prune = {layer["layer"]: layer["values"] for layer in stages["prune"]["layers"]}
    assert prune["dense"]["zero_fraction"] == pytest.approx(0.991, abs=1e-4)
    assert prune["conv1"]["zero_fraction"] == pytest.approx(0.5, abs=1e-2)
    assert stages["cluster"]["evidence"]["unique_values_max"] <= 16
    assert stages["quantize"]["evidence"]["scheme"] == "PCQAT"
    quantized = {layer["layer"]: layer["values"] for layer in stages["quantize"]["layers"]}
    assert quantized["dense"]["zero_fraction"] >= 0.99
    assert quantized["dense"]["unique_values"] <= 8


def test_the_folder_is_whole(lenet: Any) -> None:
    folder, done = lenet
    for name in ("recipe.yaml", "manifest.json", "results.json", "report.html", "model.keras"):
        assert (folder / name).stat().st_size > 0
    assert list(folder.rglob("events.out.tfevents*"))
    assert not [path for path in folder.rglob("*") if "partial" in path.name or ".tmp" in path.name]
    page = (folder / "report.html").read_text().replace("http://www.w3.org", "")
    assert "http:" not in page
    assert "https:" not in page
    assert "Traceback" not in done.stderr
    for noise in ("cuda", "oneDNN", "XNNPACK", "absl::", "WARNING"):
        assert noise not in done.stderr + done.stdout


def test_the_file_is_verified_again_from_outside(lenet: Any) -> None:
    folder, _ = lenet
    artifact = results(folder)["artifacts"][0]
    done = tfopt(
        "verify", str(folder / artifact["path"]), "--against", str(folder / "model.keras"),
        "--data", "mnist5k", "--max-drop", "0.02",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{artifact['metric']:.4f}" in done.stdout


def test_a_finished_run_resumes_without_work_and_a_missed_gate_exits_3(lenet: Any) -> None:
    folder, _ = lenet
    before = {path: path.stat().st_mtime_ns for path in folder.glob("0*/model.keras")}
    sets = json.loads((folder / "results.json").read_text())["command"].split(" --set ")[1:]
    words = [word for part in sets for word in ("--set", part.split()[0])]
    words += ["--set", "gate.max_drop=-0.5"]
    done = tfopt("run", "configs/lenet5_mnist.yaml", *words, "--output", str(folder), "--resume")
    assert done.returncode == 3, done.stderr
    assert results(folder)["status"] == "gate_missed"
    assert (folder / results(folder)["artifacts"][0]["path"]).is_file()
    assert {path: path.stat().st_mtime_ns for path in folder.glob("0*/model.keras")} == before


USERS_MODULE = """
import tensorflow as tf
import tf_keras as keras


def build(input_shape, classes, width=8):
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(width, 3, activation="relu", name="first")(inputs)
    x = keras.layers.LayerNormalization(name="norm")(x)
    gate = keras.layers.Dense(width, activation="sigmoid")(keras.layers.GlobalAveragePooling2D()(x))
    x = keras.layers.Multiply(name="gated")([x, keras.layers.Reshape((1, 1, width))(gate)])
    x = keras.layers.Conv2D(width, 3, activation="elu", name="second")(x * 2.0 + 1.0)
    x = keras.layers.BatchNormalization(name="late")(x)
    x = keras.layers.Flatten()(tf.sqrt(tf.abs(x) + 0.01))
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(x))
"""

USERS_RECIPE = """
name: mine
data: {source: npz, path: mine.npz, batch_size: 32}
model: {builder: "mine:build", arguments: {width: 12}}
train: {epochs: 6, learning_rate: 0.003}
steps:
  - prune: {sparsity: 0.5, epochs: 2}
  - quantize
export: [litert]
gate: {max_drop: 0.1}
"""


def test_a_users_data_and_model_with_layers_that_stay_float(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[..., None]
    np.savez(tmp_path / "mine.npz", x=images, y=digits.target)
    (tmp_path / "mine.py").write_text(USERS_MODULE)
    (tmp_path / "mine.yaml").write_text(USERS_RECIPE)
    planned = tfopt("plan", "mine.yaml", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    done = tfopt("run", "mine.yaml", "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = results(tmp_path / "out")
    quantize = found["stages"][-1]
    floating = {
        layer["layer"]: layer["reason"] for layer in quantize["layers"] if not layer["done"]
    }
    page = (tmp_path / "out" / "report.html").read_text()
    for name in ("norm", "second_activation", "late"):
        assert name in floating
        assert f"{name} (" in planned.stdout
        assert any(name in note for note in quantize["notes"])
        assert name in page.replace("<wbr>", "")
    artifact = found["artifacts"][0]
    assert 0.2 < artifact["int8_op_fraction"] < 1
    assert any("elu" in operator.lower() for operator in artifact["float_ops"])
    integer = {layer["layer"] for layer in quantize["layers"] if layer["done"]}
    assert {"first", "second", "gated"} <= integer


def test_the_same_recipe_on_digits_with_resnet8(tmp_path: Path) -> None:
    short = ["--set", "train.epochs=4", "--set", "steps.prune.epochs=2", "--set", "data.limit=700"]
    short += ["--set", "gate.max_drop=0.6", "--set", "steps.prune.sparsity=0.5"]
    done = tfopt("run", "configs/digits_resnet8.yaml", *short, "--output", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    found = results(tmp_path / "out")
    assert [entry["precision"] for entry in found["artifacts"]] == ["int8"]
    assert found["artifacts"][0]["int8_op_fraction"] == 1.0
