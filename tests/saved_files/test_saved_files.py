"""Files written by tfopt 0.1.0 go on loading, wherever the classes in them live by now.

``make_fixtures.py`` says how the files in ``data/`` were written. Only public names are used here,
as users have them.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras2

import tfopt as library
from tfopt.errors import InputError

# Keras 3.15 hands its variables to NumPy 2 in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")
DATA = Path(__file__).resolve().parent / "data"
MODELS = DATA / "models"
Run = Callable[..., Any]

_QUANTIZERS = "tfopt.compression.quantizers"
_TOKENS = "tfopt.bridge.token_layers"
_OPTIMIZER = {"tfopt.strategies.optimizer.DistributedOptimizer"}
_PRUNED = {"tfopt.compression.pruned_layer.PrunedLayer"}
_SCHEMED = {f"{_QUANTIZERS}.SchemedLayer"}
_RANGES = _SCHEMED | {f"{_QUANTIZERS}.RangeLayer"}
_ATTENTION = {
    "tfopt.bridge.attention_core.ScaledDotProductAttention",
    f"{_TOKENS}.PositionTable",
}
_LANGUAGE = {
    *_ATTENTION,
    "tfopt.bridge.plain_parts.ApproximateGelu",
    f"{_TOKENS}.ReversibleEmbedding",
}
_MASKS = {"tfopt.bridge.mask_layers.WithMaskOf", "tfopt.bridge.mask_layers.WithoutMask"}
STORED = {
    "distributed_keras3.keras": _OPTIMIZER,
    "distributed_legacy.keras": _OPTIMIZER,
    "distributed_tf_keras.keras": _OPTIMIZER,
    "prune.keras": _PRUNED,
    "prune_2_4.keras": _PRUNED,
    "cluster.keras": _SCHEMED,
    "quantize.keras": _RANGES,
    "quantized.keras": _RANGES,
    "quantized_sequence.keras": {
        *_RANGES,
        "tfopt.compression.canonical.AddHeight",
        "tfopt.compression.canonical.DropHeight",
    },
    "emulated.keras": {*_RANGES, "tfopt.emulation.EmulatedModel"},
    "masks.keras": _MASKS,
    "odd_layers.keras": {
        *_MASKS,
        "tfopt.bridge.fallback.Keras3Layer",
        "tfopt.bridge.operations.KerasOperation",
        "function.keras3_hard_silu",
    },
    "bert_masked_lm.keras": {*_LANGUAGE, f"{_TOKENS}.Bias", f"{_TOKENS}.GatherPositions"},
    "gpt2.keras": _LANGUAGE,
    "vit.keras": {*_ATTENTION, "tfopt.bridge.vision_blocks.ClassToken"},
}
"""What each .keras file says of the classes of tfopt; an .h5 file has their bare names."""

EVERY = sorted(path.name for path in MODELS.iterdir() if path.suffix in {".keras", ".h5"})
COMPILED = [name for name in EVERY if name.startswith("distributed")]


def beside(name: str) -> dict[str, np.ndarray]:
    """Return what was stored with a model."""
    return dict(np.load(MODELS / f"{name}.npz"))


def outputs_of(model: Any, stored: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return what a model computes from the stored inputs."""
    given = {
        key.removeprefix("input/"): tf.constant(value)
        for key, value in stored.items()
        if key.startswith("input/")
    }
    inputs = given if len(given) > 1 else next(iter(given.values()))
    return [np.asarray(one) for one in tf.nest.flatten(model(inputs, training=False))]


def require_outputs(model: Any, stored: dict[str, np.ndarray]) -> None:
    found = outputs_of(model, stored)
    assert len(found) == sum(key.startswith("output/") for key in stored)
    for number, one in enumerate(found):
        np.testing.assert_allclose(one, stored[f"output/{number}"], rtol=1e-6, atol=1e-6)


def kernels_of(model: Any) -> dict[str, np.ndarray]:
    return {
        layer.name: np.asarray(layer.kernel) for layer in model.layers if hasattr(layer, "kernel")
    }


@pytest.mark.parametrize("name", STORED)
def test_the_files_hold_the_paths_of_that_version(name: str) -> None:
    with zipfile.ZipFile(MODELS / name) as archive:
        text = archive.read("config.json").decode()
    # A model within a model is JSON within JSON, with its quotes escaped.
    quote = r'\\*"'
    pattern = f"{quote}module{quote}: {quote}(tfopt[.\\w]*){quote}, {quote}class_name{quote}: "
    found = {".".join(pair) for pair in re.findall(pattern + f"{quote}(\\w+)", text)}
    found |= {f"function.{function}" for function in re.findall(r'"config": "(keras3_\w+)"', text)}
    assert found == STORED[name]


@pytest.mark.parametrize("name", EVERY)
def test_it_loads_and_computes_the_same(name: str) -> None:
    loaded = library.load(MODELS / name)
    assert isinstance(loaded, keras2.Model)
    require_outputs(loaded, beside(name))


def go_on(model: Any) -> None:
    """Train a model in the middle of a step a little more."""
    from tensorflow_model_optimization.sparsity.keras import UpdatePruningStep

    images = np.random.default_rng(1).normal(size=(32, 6, 6, 1)).astype("float32")
    before = [np.asarray(one) for one in model.trainable_weights]
    model.compile(keras2.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    model.fit(images, np.arange(32) % 2, verbose=0, callbacks=[UpdatePruningStep()])
    after = [np.asarray(one) for one in model.trainable_weights]
    assert max(np.abs(a - b).max() for a, b in zip(after, before, strict=True)) > 1e-4


@pytest.mark.parametrize("name", ["prune.keras", "prune.h5"])
def test_pruning_goes_on(name: str) -> None:
    loaded = library.load(MODELS / name)
    go_on(loaded)
    kernels = kernels_of(library.strip(loaded))
    assert set(kernels) == {"conv", "hidden", "head"}
    for kernel in kernels.values():
        assert np.mean(kernel == 0) == pytest.approx(0.75, abs=0.5 / kernel.size)


def test_two_of_four_stay_zero() -> None:
    loaded = library.load(MODELS / "prune_2_4.keras")
    go_on(loaded)
    kernel = kernels_of(library.strip(loaded))["hidden"]
    zeros = (kernel == 0).reshape(-1, 4, kernel.shape[1]).sum(1)
    np.testing.assert_array_equal(zeros, 2)


def test_clustering_goes_on() -> None:
    loaded = library.load(MODELS / "cluster.keras")
    before = kernels_of(library.strip(loaded))
    go_on(loaded)
    after = kernels_of(library.strip(loaded))
    assert set(after) == {"conv", "hidden", "head"}
    for name, kernel in after.items():
        assert len(np.unique(kernel)) <= 6
        np.testing.assert_array_equal(kernel == 0, before[name] == 0)


@pytest.mark.parametrize("name", ["quantize.keras", "quantize.h5"])
def test_quantization_goes_on(name: str) -> None:
    loaded = library.load(MODELS / name)
    before = kernels_of(library.strip(loaded))
    go_on(loaded)
    for layer, kernel in kernels_of(library.strip(loaded)).items():
        np.testing.assert_array_equal(kernel == 0, before[layer] == 0)
        assert len(np.unique(kernel)) <= 6


@pytest.mark.parametrize("name", ["quantized.keras", "quantized_sequence.keras", "emulated.keras"])
def test_trained_ranges_are_exported(name: str, tmp_path: Path) -> None:
    stored = beside(name)
    found = next(value for key, value in stored.items() if key.startswith("input/"))
    artifact = library.export_litert(
        library.load(MODELS / name),
        tmp_path / "model.tflite",
        evaluation=(found, stored["output/0"].argmax(1)),
    )
    assert artifact.int8_op_fraction == 1
    assert artifact.top1_agreement == 1


needs_horovod = pytest.mark.skipif(
    importlib.util.find_spec("horovod") is None,
    reason="Horovod is not installed: scripts/install_horovod.sh builds it",
)


def known(name: str) -> dict[str, Any]:
    """Return what Keras is given to load a file; of a .keras file tf_keras imports the path."""
    if name.endswith(".keras") and "keras3" not in name:
        return {}
    return {"DistributedOptimizer": library.DistributedOptimizer}


@needs_horovod
@pytest.mark.horovod
@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_model_averages_again(name: str) -> None:
    k = keras3 if "keras3" in name else keras2
    loaded = k.models.load_model(MODELS / name, custom_objects=known(name))
    stored = beside(name)
    require_outputs(loaded, stored)
    optimizer = loaded.optimizer
    base = k.optimizers.legacy.SGD if "legacy" in name else k.optimizers.SGD
    assert isinstance(optimizer, base)
    settings = {"op": "sum", "groups": 3, "accumulate_steps": 2}
    assert optimizer.get_config().items() >= settings.items()
    with pytest.raises(InputError, match="averages over ranks already"):
        library.DistributedOptimizer(optimizer)
    begun = int(np.asarray(optimizer.iterations))
    rows = (stored["input/row"], stored["targets"])
    loaded.fit(*rows, batch_size=4, shuffle=False, verbose=0)
    assert int(np.asarray(optimizer.iterations)) - begun == 2  # of four batches
    if "legacy" not in name:  # whose momentum tf_keras leaves out of a .keras file
        np.testing.assert_allclose(np.asarray(loaded(rows[0])), stored["trained"], atol=1e-6)


@needs_horovod
@pytest.mark.horovod
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_model_is_saved_again(name: str, tmp_path: Path) -> None:
    k = keras3 if "keras3" in name else keras2
    first = k.models.load_model(MODELS / name, custom_objects=known(name))
    first.save(tmp_path / name)
    again = k.models.load_model(tmp_path / name, custom_objects=known(name))
    assert again.optimizer.get_config() == first.optimizer.get_config()


FRESH = """
import sys
import tf_keras
for path in sys.argv[1:]:
    print(type(tf_keras.models.load_model(path).optimizer).__name__)
"""


@needs_horovod
@pytest.mark.horovod
def test_a_fresh_process_imports_what_it_needs(tmp_path: Path) -> None:
    """tf_keras imports the module that a file names, and looks in its ``vars``."""
    old, new = MODELS / "distributed_tf_keras.keras", tmp_path / "again.keras"
    keras2.models.load_model(old).save(new)
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(old), str(new)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
        env={"PATH": "/usr/bin", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["DistributedOptimizer"] * 2


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run folders, beside their recipes, data and models."""
    folder = tmp_path / "runs"
    shutil.copytree(DATA / "runs", folder)
    monkeypatch.chdir(folder)
    return folder


def metrics_in(folder: Path) -> dict[str, float]:
    """Return the metric of each stage, by its name."""
    found = json.loads((folder / "results.json").read_text())
    return {stage["name"]: stage["metric"] for stage in found["stages"]}


def skipped_in(text: str) -> list[str]:
    """Return the stages that a run did not do again."""
    return re.findall(r"(\w[\w ]*): skipped", text)


def test_a_report_is_made_of_old_results(runs: Path, tfopt: Run) -> None:
    done = tfopt("report", "finished")
    assert done.code == 0, done.err
    page = (runs / "finished" / "report.html").read_text()
    for word in ("distill", "prune", "cluster", "quantize", "int8", "90.6%"):
        assert word in page


# folder: the stages that are read from it, and what is said of the one that goes on.
RESUMED = {
    "finished": (
        ["train", "distill", "prune", "cluster", "quantize", "export litert int8"],
        "",
    ),
    "killed": (["train", "distill", "prune"], "resumed after epoch 1"),
    "pruned": (["train", "distill", "prune"], ""),
}


@pytest.mark.parametrize("folder", RESUMED)
def test_a_run_is_resumed(runs: Path, tfopt: Run, folder: str) -> None:
    expected = metrics_in(runs / "finished")
    done = tfopt("run", "small.yaml", "-o", folder, "--resume")
    assert done.code == 0, done.err
    skipped, words = RESUMED[folder]
    assert skipped_in(done.err) == skipped, done.err
    assert words in done.err
    assert metrics_in(runs / folder) == pytest.approx(expected, abs=0.04)
    model = library.load(runs / folder / "model.keras")
    rows = np.load(runs / "rows.npz")
    share = np.mean(np.asarray(model(rows["x_test"])).argmax(1) == rows["y_test"])
    assert share == pytest.approx(expected["quantize"], abs=0.04)


def test_adapters_are_resumed(runs: Path, tfopt: Run) -> None:
    done = tfopt("run", "adapted.yaml", "-o", "killed_with_adapters", "--resume")
    assert done.code == 0, done.err
    assert "resumed after epoch 1" in done.err
    assert "epoch 2/2" in done.err
    assert "epoch 1/2" not in done.err
