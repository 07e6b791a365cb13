from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pydantic import ValidationError

from tfopt.compression.base import StepContext
from tfopt.compression.kmeans import share_kernel
from tfopt.compression.layers.masked import PrunedLayer
from tfopt.compression.pruning.magnitude import Prune
from tfopt.config.schema import PruneStep
from tfopt.errors import InputError, ModelError, VerificationError
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, keras

L = keras.layers
Train = Callable[..., None]
Context = Callable[..., StepContext]


def reasons(model: Model, **settings: object) -> dict[str, str]:
    return {entry.layer: entry.reason for entry in Prune(PruneStep(**settings)).decide(model)}


def pruned(model: Model, zeros: dict[str, float]) -> Model:
    for name, share in zeros.items():
        kernel = model.get_layer(name).kernel
        values = kernel.numpy()
        kernel.assign(np.where(np.abs(values) < np.quantile(np.abs(values), share), 0, values))
    return model


def test_decisions_name_target_and_reason(cnn: Model) -> None:
    cnn.get_layer("out").trainable = False
    found = reasons(cnn, sparsity=0.75)
    assert found["conv"] == "0.75 of its kernel becomes zero"
    assert "has no kernel" in found["norm"]
    assert "depthwise" in found["depthwise"]
    assert found["out"] == "frozen"


def test_patterns_set_and_spare_layers(cnn: Model) -> None:
    found = reasons(cnn, sparsity=0.5, layers={"conv": 0.9, "out": 0})
    assert found["conv"].startswith("0.9 ")
    assert found["out"] == "left alone by prune.layers"


def test_a_pattern_for_a_depthwise_layer_says_why_not(cnn: Model) -> None:
    with pytest.raises(InputError, match=r"'depth\*' matches only layers .*depthwise kernels hold"):
        reasons(cnn, layers={"depth*": 0.5})


def test_a_bias_looked_up_by_row_is_left_alone() -> None:
    ids = keras.Input((3,), dtype="int32")
    added = L.Add()([L.Embedding(8, 4, name="words")(ids), L.Embedding(8, 1, name="bias")(ids)])
    found = reasons(keras.Model(ids, added), sparsity=0.5)
    assert found["bias"].endswith("biases are never pruned")
    assert found["words"].startswith("0.5 of its kernel")


@pytest.mark.parametrize("layer", [L.BatchNormalization, L.PReLU, L.ReLU])
def test_a_model_without_kernels_is_refused(layer: type) -> None:
    model = keras.Sequential([L.Input((4,)), layer(name="only")], name="bare")
    with pytest.raises(InputError, match=r"no layer of 'bare' can be pruned \((only|it has no)"):
        reasons(model)


def test_a_kernel_of_zeros_is_left_alone(dense: Model) -> None:
    dense.get_layer("out").kernel.assign(dense.get_layer("out").kernel * 0)
    assert reasons(dense)["out"] == "holds nothing but zeros"


def test_two_of_four_needs_fitting_input_channels() -> None:
    inputs = keras.Input((8, 8, 3))
    hidden = L.Conv2D(4, 3, name="three")(inputs)
    hidden = L.Conv2DTranspose(4, 3, name="transposed")(hidden)
    outputs = L.Dense(4, name="out")(L.Conv2D(4, 3, name="four")(hidden))
    found = reasons(keras.Model(inputs, outputs), pattern="2:4")
    assert "this layer has 3" in found["three"]
    assert "lie elsewhere" in found["transposed"]
    assert found["four"] == found["out"] == "0.5 of its kernel becomes zero"


def test_two_of_four_refuses_another_sparsity(dense: Model) -> None:
    with pytest.raises(InputError, match=r"pattern '2:4' .*Received: 0.9 for layer 'hidden'"):
        reasons(dense, pattern="2:4", layers={"hidden": 0.9})


@pytest.mark.parametrize("kernel", [(3, 3, 4, 5), (12, 16)])
def test_two_of_four_holds_along_the_input_axis(
    kernel: tuple[int, ...], dense: Model, cnn: Model, rows: np.ndarray, images: np.ndarray,
    labels: np.ndarray, train: Train, context_for: Context,
) -> None:  # fmt: skip
    model, inputs = (dense, rows) if len(kernel) == 2 else (cnn, images)
    step = Prune(PruneStep(pattern="2:4"))
    wrapped = step.wrap(model, context_for())
    train(wrapped, inputs, labels, callbacks=step.callbacks())
    after = step.unwrap(wrapped)
    values = after.layers[1].kernel.numpy()
    groups = np.moveaxis(values, -2, -1).reshape(-1, 4)
    assert set((groups == 0).sum(axis=1)) == {2}
    groups[0] = 1
    after.layers[1].kernel.assign(np.moveaxis(groups.reshape(np.moveaxis(values, -2, -1).shape),
                                              -1, -2))  # fmt: skip
    with pytest.raises(VerificationError, match="zeros are not as asked|keeps 4 weights"):
        step.measure(model, after, context_for())


def test_two_of_four_is_not_mere_half(dense: Model, context_for: Context) -> None:
    half = graph.copy(dense)
    for layer in half.layers[1:]:
        layer.kernel.assign(np.where(np.arange(layer.units) % 2, layer.kernel, 0))
    half.get_layer("out").kernel.assign(
        np.where(np.arange(16)[:, None] % 4 < 2, half.get_layer("out").kernel, 0)
    )
    with pytest.raises(VerificationError, match="'hidden' keeps 4 weights in a group of four"):
        Prune(PruneStep(pattern="2:4")).measure(dense, half, context_for())


def test_the_mask_moves_on_schedule(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    step = Prune(PruneStep(sparsity=0.9, begin=0.0, end=1.0))
    wrapped = step.wrap(dense, context_for(steps=8))
    assert not step.at_target(wrapped)
    train(wrapped, rows, labels, epochs=1, callbacks=step.callbacks())
    assert 0.3 < np.mean(wrapped.layers[1].layer.kernel.numpy() == 0) < 0.9
    assert not step.at_target(wrapped)
    train(wrapped, rows, labels, epochs=1, callbacks=step.callbacks())
    assert step.at_target(wrapped)
    evidence = step.measure(dense, step.unwrap(wrapped), context_for()).evidence
    assert evidence["zero_fraction"] == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("schedule", ["polynomial", "constant"])
def test_a_few_steps_are_enough(
    steps: int, schedule: str, dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train,
    context_for: Context,
) -> None:  # fmt: skip
    step = Prune(PruneStep(sparsity=0.8, schedule=schedule, end=1.0))
    wrapped = step.wrap(dense, context_for(steps=steps))
    rows, labels = rows[: 8 * steps], labels[: 8 * steps]
    train(wrapped, rows, labels, epochs=1, callbacks=step.callbacks())
    assert step.at_target(wrapped)
    step.measure(dense, step.unwrap(wrapped), context_for())


def test_a_pruned_model_is_pruned_further_and_never_less(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    pruned(dense, {"hidden": 0.5, "out": 0.9})
    step = Prune(PruneStep(sparsity=0.8))
    found = {entry.layer: entry for entry in step.decide(dense)}
    assert found["hidden"].values["present"] == pytest.approx(0.5)
    assert found["out"].reason == "keeps its 0.8958 zeros, no fewer than asked"
    wrapped = step.wrap(dense, context_for())
    train(wrapped, rows, labels, callbacks=step.callbacks())
    after = step.unwrap(wrapped)
    zeros = dense.get_layer("out").kernel.numpy() == 0
    np.testing.assert_array_equal(after.get_layer("out").kernel.numpy() == 0, zeros)
    assert np.mean(after.get_layer("hidden").kernel.numpy() == 0) == pytest.approx(0.8, abs=0.01)


def test_zeros_of_layers_left_alone_are_kept(
    cnn: Model, images: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    pruned(cnn, {"conv": 0.7})
    zeros = cnn.get_layer("conv").kernel.numpy() == 0
    step = Prune(PruneStep(sparsity=0.5, layers={"conv": 0}))
    wrapped = step.wrap(cnn, context_for())
    train(wrapped, images, labels, callbacks=step.callbacks())
    after = step.unwrap(wrapped)
    np.testing.assert_array_equal(after.get_layer("conv").kernel.numpy() == 0, zeros)
    after.get_layer("conv").kernel.assign_add(after.get_layer("conv").kernel * 0 + 1e-3)
    with pytest.raises(VerificationError, match="prune: layer 'conv' lost zeros"):
        step.measure(cnn, after, context_for())


@pytest.mark.parametrize("units", [1, 2, 4])
def test_tiny_kernels(units: int, labels: np.ndarray, train: Train, context_for: Context) -> None:
    model = keras.Sequential([L.Input((1,)), L.Dense(units), L.Dense(3)])
    step = Prune(PruneStep(sparsity=0.8))
    wrapped = step.wrap(model, context_for())
    train(wrapped, np.ones((32, 1)), labels, callbacks=step.callbacks())
    after = step.unwrap(wrapped)
    step.measure(model, after, context_for())
    assert np.count_nonzero(after.layers[1].kernel.numpy()) == 1


def test_measure_finds_missing_zeros_and_dead_kernels(dense: Model, context_for: Context) -> None:
    step = Prune(PruneStep(sparsity=0.5))
    after = pruned(graph.copy(dense), {"hidden": 0.5, "out": 0.5})
    step.measure(dense, after, context_for())
    kernel = after.get_layer("out").kernel
    values = kernel.numpy()
    values[np.unravel_index(np.argmin(np.abs(values)), values.shape)] = 1e-6
    kernel.assign(values)
    with pytest.raises(VerificationError, match=r"out \(kernel\) has 0.4792 of 0.5000"):
        step.measure(dense, after, context_for())
    kernel.assign(values * 0)
    with pytest.raises(VerificationError, match=r"out \(kernel\) holds nothing but zeros"):
        step.measure(dense, after, context_for())


def test_a_clustered_model_is_refused(dense: Model, context_for: Context) -> None:
    kernel = dense.get_layer("hidden").kernel
    shared = share_kernel(kernel.numpy(), 8, keep_zeros=False)
    kernel.assign(shared.values[shared.indices])
    with pytest.raises(InputError, match="'hidden' is clustered"):
        Prune(PruneStep()).wrap(dense, context_for())


def test_a_wrapped_model_is_refused(dense: Model, context_for: Context) -> None:
    step = Prune(PruneStep())
    with pytest.raises(InputError, match="prune: .*in the middle of another step"):
        step.decide(step.wrap(dense, context_for()))


def test_weights_that_are_not_finite_are_refused(dense: Model, context_for: Context) -> None:
    dense.get_layer("out").kernel.assign(dense.get_layer("out").kernel * np.inf)
    with pytest.raises(ModelError, match="'out/kernel' .*not finite"):
        Prune(PruneStep()).wrap(dense, context_for())


def test_an_own_layer_may_name_its_prunable_weights(
    rows: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    class Gate(L.Layer):
        def build(self, input_shape: tuple[int, ...]) -> None:
            self.gate = self.add_weight("gate", shape=(input_shape[-1], 3))

        def call(self, inputs: object) -> object:
            return inputs @ self.gate

        def get_prunable_weights(self) -> list[object]:
            return [self.gate]

    model = keras.Sequential([L.Input((12,)), Gate(name="own")])
    step = Prune(PruneStep(sparsity=0.5))
    wrapped = step.wrap(model, context_for())
    assert isinstance(wrapped.layers[1], PrunedLayer)
    train(wrapped, rows, labels, callbacks=step.callbacks())
    after = step.unwrap(wrapped)
    assert type(after.layers[1]) is Gate
    assert step.measure(model, after, context_for()).evidence["zero_fraction"] == 0.5


def test_the_recipe_refuses_a_schedule_of_no_length() -> None:
    with pytest.raises(ValidationError, match=r"begin \(0.5\) must be before end \(0.5\)"):
        PruneStep(begin=0.5, end=0.5)
