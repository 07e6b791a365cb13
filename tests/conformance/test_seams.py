"""An installed package adds a data source, a builder and a metric, with words of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tfopt.config.components import METRICS, SOURCES
from tfopt.errors import InputError
from tfopt.registry import resolve

MODULE = '''
import numpy as np
import tf_keras as keras
from tfopt.data.source import SourceData
from tfopt.data.split import ArraySplit
from tfopt.evaluation.metrics import CLASSES, Metric


def stripes(settings):
    """Rows whose class is the column that is brightest."""
    random = np.random.default_rng(0)
    labels = np.arange(96) % 3
    rows = random.normal(0, 0.1, (96, 3)).astype("float32")
    rows[np.arange(96), labels] += 1
    return SourceData(
        train=ArraySplit(rows[:64], labels[:64]),
        evaluation=ArraySplit(rows[64:], labels[64:]),
        description="stripes of the toy package",
    )


def tiny_net(input_shape, classes):
    return keras.Sequential([keras.Input(input_shape), keras.layers.Dense(classes, name="only")])


class NearHits(Metric):
    """Share of rows whose class is among the two largest outputs."""

    name, label, unit = "near_hits", "near hits", "points"
    higher_is_better, label_kinds = True, CLASSES

    def score(self, outputs, labels):
        return (np.argsort(outputs, axis=-1)[:, -2:] == labels[:, None]).any(axis=1).astype(float)

    def training_metric(self, labels):
        return keras.metrics.SparseTopKCategoricalAccuracy(2, name=self.name)
'''
ENTRY_POINTS = """
[tfopt.sources]
stripes = toy_parts:stripes
[tfopt.builders]
tiny_net = toy_parts:tiny_net
[tfopt.metrics]
near_hits = toy_parts:NearHits
"""
RECIPE = """
name: toy
data: {source: stripes, batch_size: 16}
model: {builder: tiny_net}
metric: near_hits
train: {epochs: 8, learning_rate: 0.05}
steps: [{quantize: {epochs: 1}}]
export: [{litert: {precision: int8}}]
gate: {max_drop: 0.1}
"""


def install(folder: Path, entry_points: str, *, name: str = "toy-parts") -> None:
    """Lay out a package as an installer does."""
    metadata = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of packages that is searched, with the toy package in it."""
    folder = tmp_path / "packages"
    install(folder, ENTRY_POINTS)
    (folder / "toy_parts.py").write_text(MODULE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(tmp_path)
    return folder


def test_its_parts_run_with_their_own_words(toy: Path, tfopt: Callable[..., Any]) -> None:
    Path("toy.yaml").write_text(RECIPE)
    planned = tfopt("plan", "toy.yaml")
    assert planned.code == 0, planned.err
    assert "stripes of the toy package" in planned.out
    done = tfopt("run", "toy.yaml", "-o", "out")
    assert done.code == 0, done.err
    assert "near hits" in done.err
    result = json.loads(Path("out/results.json").read_text())
    assert result["metric"]["name"] == "near_hits"
    assert result["artifacts"][0]["metric"] > 0.9
    report = Path("out/report.html").read_text()
    assert "near hits" in report
    assert "ccuracy" not in report


def test_doctor_lists_what_packages_add(toy: Path) -> None:
    from tfopt.cli import doctor

    found = doctor._registered()
    assert "near_hits = 'toy_parts:NearHits' (tfopt.metrics of toy-parts 1.2)" in found
    assert "stripes" in found
    assert "tiny_net" in found


def test_a_name_that_means_two_things_is_refused(toy: Path) -> None:
    install(toy, "[tfopt.sources]\ndigits = toy_parts:stripes\n", name="other")
    with pytest.raises(InputError, match=r"'digits' in tfopt.sources is registered by other 1.2 a"):
        resolve(SOURCES, "data source", "digits")


def test_a_broken_entry_point_names_its_package(toy: Path) -> None:
    install(toy, "[tfopt.metrics]\nworse = no_such_module:Worse\n", name="broken")
    with pytest.raises(InputError, match=r"broken 1.2\) cannot be loaded: ModuleNotFoundError"):
        resolve(METRICS, "metric", "worse")


def test_an_unknown_metric_is_refused_with_the_nearest(
    tmp_path: Path, tfopt: Callable[..., Any]
) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE.replace("stripes", "digits").replace("near_hits", "acuracy"))
    found = tfopt("run", path)
    assert found.code == 2
    assert "Did you mean 'accuracy'?" in found.err
