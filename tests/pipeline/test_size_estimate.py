from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfopt.compression.weight_statistics import layer_kernels, unique_values, zero_fraction
from tfopt.config.schema import ClusterStep, LitertExport, PruneStep, QuantizeStep, Step
from tfopt.export.litert.convert import convert_litert
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, keras
from tfopt.pipeline.size_estimate import forecast_size, imitate_step
from tfopt.storage import gzip_bytes
from tfopt.training.compression_step import make_pass


@pytest.fixture
def model() -> Model:
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(8, 3, name="conv"),
        keras.layers.Flatten(),
        keras.layers.Dense(24, name="dense"),
    ]
    return graph.copy(keras.Sequential(layers))


def imitate(model: Model, step: Step) -> None:
    imitate_step(model, step, make_pass(step).decide(model))


def kernels(model: Model) -> dict[str, np.ndarray]:
    return {name: layer_kernels(model.get_layer(name))["kernel"] for name in ("conv", "dense")}


def test_pruning_leaves_the_largest_weights(model: Model) -> None:
    before = kernels(model)
    imitate(model, Step(prune=PruneStep(sparsity=0.75, layers={"conv": 0.5})))
    after = kernels(model)
    assert zero_fraction({"": after["conv"]}) == 0.5
    assert zero_fraction({"": after["dense"]}) == 0.75
    kept = after["dense"] != 0
    assert np.array_equal(after["dense"][kept], before["dense"][kept])
    assert np.abs(before["dense"][~kept]).max() <= np.abs(before["dense"][kept]).min()


def test_clustering_shares_as_many_values_and_keeps_zeros(model: Model) -> None:
    imitate(model, Step(prune=PruneStep(sparsity=0.75)))
    zeros = kernels(model)["dense"] == 0
    imitate(model, Step(cluster=ClusterStep(clusters=8, layers={"conv": 0})))
    after = kernels(model)
    assert unique_values(after["dense"]) == 8
    assert np.array_equal(after["dense"] == 0, zeros)
    assert unique_values(after["conv"]) > 8
    imitate(model, Step(cluster=ClusterStep(clusters=4, preserve_sparsity=False)))
    assert not np.array_equal(kernels(model)["dense"] == 0, zeros)


def test_channels_of_a_convolution_may_share_values_of_their_own(model: Model) -> None:
    imitate(model, Step(cluster=ClusterStep(clusters=3, per_channel=True)))
    conv = kernels(model)["conv"]
    assert [unique_values(conv[..., channel]) for channel in range(8)] == [3] * 8
    assert unique_values(conv) == 24
    assert unique_values(kernels(model)["dense"]) == 3


def test_quantization_changes_no_count(model: Model) -> None:
    before = kernels(model)
    imitate(model, Step(quantize=QuantizeStep()))
    assert all(np.array_equal(before[name], kernel) for name, kernel in kernels(model).items())


def test_forecast_is_near_the_real_file(model: Model, tmp_path: Path) -> None:
    imitate(model, Step(prune=PruneStep(sparsity=0.9)))
    file = tmp_path / "a.tflite"
    rows = np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype(np.float32)
    convert_litert(model, file, settings=LitertExport(), calibration=rows)
    forecast = forecast_size(model, "int8")
    assert forecast.precision == "int8"
    assert 1 / 1.6 < forecast.bytes / file.stat().st_size < 1.6
    assert 1 / 1.6 < forecast.gzip_bytes / gzip_bytes(file) < 1.6


def test_layers_left_float_are_counted_as_float(model: Model) -> None:
    small, large = (forecast_size(model, "int8", floating=names) for names in ((), ("dense",)))
    assert large.bytes - small.bytes == 3 * kernels(model)["dense"].size
