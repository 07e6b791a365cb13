"""Kill a run with SIGKILL at many instants; resumed, it must end as if nothing had happened."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import h5py
import pytest

pytestmark = pytest.mark.e2e

BUILDER = """
import tensorflow as tf
import tf_keras as keras


@keras.saving.register_keras_serializable("resume_test")
class Jitter(keras.layers.Layer):
    def call(self, inputs, training=None):
        if training:
            inputs = inputs + tf.random.normal(tf.shape(inputs), stddev=0.05)
        return inputs


def build(input_shape, classes):
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(8, 3, use_bias=False, name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.Flatten(name="flat")(x)
    x = Jitter(name="jitter")(x)
    x = keras.layers.Dense(24, activation="relu", name="hidden")(x)
    x = keras.layers.Dropout(0.3, name="drop")(x)
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(x))


def build_small(input_shape, classes):
    image = keras.Input(input_shape)
    x = Jitter(name="jitter")(keras.layers.Flatten(name="flat")(image))
    x = keras.layers.Dense(16, activation="relu", name="hidden")(x)
    x = keras.layers.Dropout(0.1, name="drop")(x)
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(x))
"""

RECIPE = """
name: resume
seed: 5
data: {source: digits, batch_size: 32, limit: 256, augment: {shift: 0.1}}
model: {builder: "resume_builder:build"}
train: {epochs: 2, optimizer: adam, learning_rate: {schedule: cosine, peak: 1.0e-2}}
steps:
  - prune: {sparsity: 0.6, epochs: 2}
  - cluster: {clusters: 12, epochs: 2}
  - quantize: {epochs: 2}
"""
STEPS_PER_EPOCH = 8

TAUGHT_RECIPE = """
name: taught
seed: 5
data: {source: digits, batch_size: 32, limit: 256, augment: {shift: 0.1}}
model: {builder: "resume_builder:build"}
train: {epochs: 2, learning_rate: 1.0e-2}
steps:
  - distill:
      student: {builder: "resume_builder:build_small"}
      losses:
        - soft_targets
        - hidden: {student: hidden, teacher: hidden, projection: true}
      alpha: {schedule: linear, start: 0.9, end: 0.1}
      learning_rate: 0.02
      epochs: 2
  - quantize: {epochs: 2, teacher: {temperature: 2}}
"""

WORKER = """
import hashlib, json, os, signal, sys
from pathlib import Path

recipe, output, instant, *overrides = sys.argv[1:]
kind, _, rest = instant.partition(":")
name, _, number = rest.rpartition(":")
seen = {"batches": 0, "files": 0}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


from tfopt import storage
from tfopt.config.load import load_recipe
from tfopt.reporting.console import make_reporter
from tfopt.pipeline.runner import RunOptions, run_recipe
from tfopt.training.epoch_callback import Keeper

replace = os.replace


def counted_replace(source, target):
    counts = Path(target).name.endswith(name)
    seen["files"] += counts
    if counts and kind == "before" and seen["files"] == int(number):
        die()
    replace(source, target)
    if counts and kind == "after" and seen["files"] == int(number):
        die()


storage.os.replace = counted_replace
batch_end = Keeper.on_train_batch_end


def counted_batch_end(self, batch, logs=None):
    seen["batches"] += 1
    if kind == "batch" and seen["batches"] == int(number):
        die()
    batch_end(self, batch, logs)


Keeper.on_train_batch_end = counted_batch_end
options = RunOptions(Path(output), resume=True)
result = run_recipe(load_recipe(Path(recipe), overrides), options, make_reporter(quiet=True))
metrics = [stage.metric for stage in result.stages]
print(json.dumps({"batches": seen["batches"], "stages": metrics}))
"""


class Place:
    """A folder with a recipe, a builder, and the run."""

    def __init__(self, folder: Path, recipe: str = RECIPE) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.output = folder / "run"
        (folder / "resume_builder.py").write_text(BUILDER)
        (folder / "recipe.yaml").write_text(recipe)

    def start(self, instant: str, *overrides: str) -> subprocess.Popen[str]:
        paths = [str(self.folder), os.getcwd()]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
        recipe = str(self.folder / "recipe.yaml")
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, recipe, str(self.output), instant, *overrides],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, *overrides: str) -> dict[str, object]:
        process = self.start("", *overrides)
        out, err = process.communicate()
        assert process.returncode == 0, err
        return json.loads(out.splitlines()[-1])

    def state_of(self, stage: str) -> str:
        manifest = self.output / "manifest.json"
        stages = json.loads(manifest.read_text())["stages"] if manifest.exists() else []
        return next((entry["state"] for entry in stages if entry["name"] == stage), "")


INSTANTS = (
    # Before anything is recorded: only a temporary file lies there.
    "before:manifest.json:1",
    # In the second epoch of training.
    f"batch::{STEPS_PER_EPOCH + 2}",
    # The trained model is written, but not recorded (after opening, and beginning the stage).
    "before:manifest.json:3",
    # In the second epoch of pruning (one epoch of training came from its checkpoint).
    f"batch::{STEPS_PER_EPOCH + 3}",
    # Between pruning and clustering.
    "after:manifest.json:3",
    # While the first checkpoint of quantizing is written, after two of clustering.
    "before:checkpoint.npz:3",
)


def test_killed_runs_end_with_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, killed = Place(tmp_path / "whole"), Place(tmp_path / "killed")
    uninterrupted = whole.start("")
    for instant in INSTANTS:
        process = killed.start(instant)
        _, err = process.communicate()
        assert process.returncode == -signal.SIGKILL, f"{instant}: {err}"
    assert any(killed.output.rglob(".checkpoint*.partial*"))
    _kill_from_outside(killed)
    out, err = uninterrupted.communicate()
    assert uninterrupted.returncode == 0, err
    assert killed.finish()["stages"] == json.loads(out.splitlines()[-1])["stages"]
    assert not list(killed.output.rglob(".*.partial*"))
    assert _weights(killed) == _weights(whole)
    _check_later_runs(killed)


TAUGHT_INSTANTS = {
    # In the second epoch of the lesson, whose projection must come back too.
    "live": (f"batch::{3 * STEPS_PER_EPOCH + 3}", f"batch::{2 * STEPS_PER_EPOCH + 1}"),
    # While the teacher's outputs are written; and when they are read again.
    "cached": ("before:.shard:1", f"batch::{STEPS_PER_EPOCH + 3}"),
}


@pytest.mark.parametrize("kind", TAUGHT_INSTANTS)
def test_a_killed_lesson_ends_as_one_that_was_not(kind: str, tmp_path: Path) -> None:
    whole, killed = (Place(tmp_path / name, TAUGHT_RECIPE) for name in ("whole", "killed"))
    settings = (
        [] if kind == "live" else ["steps.distill.cache=float16", "steps.distill.augment_views=3"]
    )
    uninterrupted = whole.start("", *settings)
    for instant in TAUGHT_INSTANTS[kind]:
        process = killed.start(instant, *settings)
        _, err = process.communicate()
        assert process.returncode == -signal.SIGKILL, f"{instant}: {err}"
    assert killed.state_of("distill") in ("running", "done")
    out, err = uninterrupted.communicate()
    assert uninterrupted.returncode == 0, err
    assert killed.finish(*settings)["stages"] == json.loads(out.splitlines()[-1])["stages"]
    assert _weights(killed) == _weights(whole)
    results = [
        json.loads((place.output / "results.json").read_text())["stages"]
        for place in (killed, whole)
    ]
    for one, two in zip(*results, strict=True):
        assert one["evidence"] == two["evidence"]
        assert one["history"] == two["history"]


def _kill_from_outside(place: Place) -> None:
    process = place.start("")
    while place.state_of("quantize") != "running" and process.poll() is None:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 3))
    process.kill()
    process.communicate()


def _check_later_runs(place: Place) -> None:
    """A finished run trains no more; a changed step is done again, with those after it."""
    before = _weights(place)
    assert place.finish()["batches"] == 0
    assert _weights(place) == before
    trained = (place.output / "01-prune" / "model.keras").stat().st_mtime_ns
    assert place.finish("steps.cluster.clusters=8")["batches"] == 4 * STEPS_PER_EPOCH
    assert (place.output / "01-prune" / "model.keras").stat().st_mtime_ns == trained
    assert _weights(place) != before


def _weights(place: Place) -> dict[str, bytes]:
    """Return the bytes of every weight in the final model."""
    with zipfile.ZipFile(place.output / "model.keras") as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    found: dict[str, bytes] = {}
    with h5py.File(content) as file:
        file.visititems(
            lambda name, entry: (
                found.update({name: entry[()].tobytes()})
                if isinstance(entry, h5py.Dataset)
                else None
            )
        )
    assert found
    return found
