from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tfopt.compression.base import StepContext
from tfopt.compression.clustering import Cluster
from tfopt.compression.weight_statistics import unique_values
from tfopt.config.schema import ClusterStep
from tfopt.errors import InputError, ModelError, VerificationError
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, keras

L = keras.layers
Train = Callable[..., None]
Context = Callable[..., StepContext]


def finished(step: Cluster, model: Model, inputs: object, labels: object, train: Train) -> Model:
    wrapped = step.wrap(model, StepContext(8, lambda: iter([])))
    train(wrapped, inputs, labels, callbacks=step.callbacks())
    return step.unwrap(wrapped)


def test_values_are_few_before_and_after_training_and_do_train(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    step = Cluster(ClusterStep(clusters=8, layers={"out": 4}))
    wrapped = step.wrap(dense, context_for())
    assert step.at_target(wrapped)
    start = step.unwrap(wrapped)
    after = finished(step, dense, rows, labels, train)
    for name, limit in (("hidden", 8), ("out", 4)):
        for model in (start, after):
            assert unique_values(model.get_layer(name).kernel.numpy()) <= limit
    assert np.any(after.get_layer("hidden").kernel != start.get_layer("hidden").kernel)
    assert step.measure(dense, after, context_for()).evidence["unique_values_max"] == 8


def test_every_channel_of_a_convolution_has_its_own_values(
    cnn: Model, images: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    step = Cluster(ClusterStep(clusters=4, per_channel=True))
    after = finished(step, cnn, images, labels, train)
    kernel = after.get_layer("conv").kernel.numpy()
    assert all(unique_values(kernel[..., channel]) <= 4 for channel in range(8))
    assert unique_values(kernel) > 4
    assert unique_values(after.get_layer("out").kernel.numpy()) <= 4
    found = step.measure(cnn, after, context_for())
    assert "for each channel" in {entry.layer: entry for entry in found.layers}["conv"].reason


@pytest.mark.parametrize("choice", ["auto", True])
def test_zeros_survive_in_a_pruned_kernel(
    choice: object, dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train,
    context_for: Context,
) -> None:  # fmt: skip
    kernel = dense.get_layer("hidden").kernel
    zeros = np.random.default_rng(0).random(kernel.shape) < 0.6
    kernel.assign(np.where(zeros, 0, kernel))
    step = Cluster(ClusterStep(clusters=8, preserve_sparsity=choice))
    assert "zeros kept" in step.decide(dense)[0].reason
    after = finished(step, dense, rows, labels, train)
    np.testing.assert_array_equal(after.get_layer("hidden").kernel.numpy() == 0, zeros)
    step.measure(dense, after, context_for())
    broken = after.get_layer("hidden").kernel
    values = broken.numpy()
    values[zeros] = values[~zeros][0]
    broken.assign(values)
    with pytest.raises(VerificationError, match=r"cluster: layer 'hidden' lost zeros: 0\.\d+ bef"):
        step.measure(dense, after, context_for())


def test_zeros_may_be_given_up(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    kernel = dense.get_layer("hidden").kernel
    kernel.assign(np.where(np.random.default_rng(0).random(kernel.shape) < 0.6, 0, kernel))
    step = Cluster(ClusterStep(clusters=8, preserve_sparsity=False))
    after = finished(step, dense, rows, labels, train)
    step.measure(dense, after, context_for())
    assert np.mean(after.get_layer("hidden").kernel.numpy() == 0) < 0.1


def test_a_pruned_recurrent_layer_keeps_its_zeros(
    labels: np.ndarray, train: Train, context_for: Context
) -> None:
    model = keras.Sequential([L.Input((5, 4)), L.SimpleRNN(8, name="rnn"), L.Dense(3)])
    kernel = model.get_layer("rnn").cell.kernel
    kernel.assign(np.where(np.arange(8) % 2, kernel, 0))
    step = Cluster(ClusterStep(clusters=4))
    inputs = np.random.default_rng(0).normal(size=(32, 5, 4))
    after = finished(step, model, inputs, labels, train)
    cell = after.get_layer("rnn").cell
    np.testing.assert_array_equal(cell.kernel.numpy()[:, ::2], 0)
    assert np.any(cell.recurrent_kernel != model.get_layer("rnn").cell.recurrent_kernel)
    step.measure(model, after, context_for())
    cell.kernel.assign_add(cell.kernel * 0 + 1e-3)
    with pytest.raises(VerificationError, match="cluster: layer 'rnn' lost zeros"):
        step.measure(model, after, context_for())


def test_decisions_say_why_not(cnn: Model) -> None:
    cnn.get_layer("out").trainable = False
    found = {e.layer: e for e in Cluster(ClusterStep(layers={"depth*": 0})).decide(cnn)}
    assert found["conv"].reason == "at most 16 distinct values"
    assert found["depthwise"].reason == "left alone by cluster.layers"
    assert "has no kernel" in found["norm"].reason
    assert found["out"].reason == "frozen"


def test_a_pattern_for_a_layer_without_kernel_says_why(cnn: Model) -> None:
    with pytest.raises(InputError, match=r"cluster.layers: .*'norm' matches only .*has no kernel"):
        Cluster(ClusterStep(layers={"norm": 4})).decide(cnn)


def test_one_value_is_refused(dense: Model) -> None:
    with pytest.raises(InputError, match="'out' needs at least 2 values .*Received: 1"):
        Cluster(ClusterStep(layers={"out": 1})).decide(dense)


def test_a_model_without_kernels_is_refused() -> None:
    model = keras.Sequential([L.Input((4,)), L.BatchNormalization(name="n")], name="bare")
    with pytest.raises(InputError, match=r"no layer of 'bare' can be clustered \(n: has no kernel"):
        Cluster(ClusterStep()).decide(model)


@pytest.mark.parametrize("kernel", [np.zeros((12, 16)), np.full((12, 16), 0.5)])
def test_constant_kernels_may_be_clustered(
    kernel: np.ndarray, dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train,
    context_for: Context,
) -> None:  # fmt: skip
    dense.get_layer("hidden").kernel.assign(kernel)
    step = Cluster(ClusterStep(clusters=4))
    step.measure(dense, finished(step, dense, rows, labels, train), context_for())


def test_measure_finds_an_extra_value_and_a_dead_kernel(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    step = Cluster(ClusterStep(clusters=4))
    after = finished(step, dense, rows, labels, train)
    kernel = after.get_layer("hidden").kernel
    values = kernel.numpy()
    values[0, 0] += 1e-6
    kernel.assign(values)
    with pytest.raises(VerificationError, match="'hidden' holds 5 distinct values; 4 were asked"):
        step.measure(dense, after, context_for())
    kernel.assign(values * 0)
    with pytest.raises(VerificationError, match="every weight of layer 'hidden' became zero"):
        step.measure(dense, after, context_for())


def test_other_weights_of_a_frozen_model_stay(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train
) -> None:
    dense.get_layer("hidden").trainable = False
    before = dense.get_layer("hidden").get_weights()
    after = finished(Cluster(ClusterStep(clusters=4)), dense, rows, labels, train)
    for left, right in zip(before, after.get_layer("hidden").get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert not after.get_layer("hidden").trainable


def test_wrapped_and_broken_models_are_refused(dense: Model, context_for: Context) -> None:
    step = Cluster(ClusterStep(clusters=4))
    with pytest.raises(InputError, match="cluster: .*in the middle of another step"):
        step.decide(step.wrap(dense, context_for()))
    broken = graph.copy(dense)
    broken.layers[1].kernel.assign(broken.layers[1].kernel * np.nan)
    with pytest.raises(ModelError, match="'hidden/kernel' .*not finite"):
        step.wrap(broken, context_for())
