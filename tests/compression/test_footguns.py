"""Each silent failure of the stack that a pass guards against, planted.

The numbers are those of the project's list. Where it is cheap, the same test shows what tfmot
does on its own, so that a guard cannot become empty when tfmot changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import keras as keras_3
import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError

from tfopt.compression.base import StepContext
from tfopt.compression.clustering import Cluster
from tfopt.compression.pruning.magnitude import Prune
from tfopt.compression.pruning.zero_constraint import held, require_trainable
from tfopt.compression.quantization.qat import Quantize
from tfopt.compression.tfmot import ConstantSparsity, PolynomialDecay, PruneLowMagnitude
from tfopt.compression.weight_statistics import unique_values, zero_fraction
from tfopt.config.schema import ClusterStep, PruneStep, QuantizeStep
from tfopt.errors import InputError, ModelError, VerificationError
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, keras

L = keras.layers
Train = Callable[..., None]
Context = Callable[..., StepContext]


@pytest.fixture(scope="module")
def tfmot() -> Iterator[Any]:
    """Return tfmot itself, with the variable that it sets put back."""
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    import tensorflow_model_optimization as module

    yield module
    os.environ.pop("TF_USE_LEGACY_KERAS", None)
    if before is not None:
        os.environ["TF_USE_LEGACY_KERAS"] = before


def kernel_of(model: Model, name: str) -> np.ndarray:
    return model.get_layer(name).kernel.numpy()


def zeros_of(model: Model, name: str) -> float:
    return zero_fraction({name: kernel_of(model, name)})


def sparsify(model: Model, name: str, share: float = 0.6) -> np.ndarray:
    kernel = model.get_layer(name).kernel
    values = kernel.numpy()
    kernel.assign(np.where(np.abs(values) < np.quantile(np.abs(values), share), 0, values))
    return kernel.numpy() == 0


def run(step: Any, model: Model, inputs: Any, labels: Any, train: Train, **more: Any) -> Model:
    wrapped = step.wrap(model, StepContext(8, lambda: iter([inputs])))
    train(wrapped, inputs, labels, callbacks=step.callbacks(), **more)
    return step.unwrap(wrapped)


@pytest.mark.parametrize(
    "schedule",
    [
        lambda: ConstantSparsity(0.8, begin_step=0),
        lambda: PolynomialDecay(0.0, 0.8, begin_step=0, end_step=1000, frequency=1),
        lambda: PolynomialDecay(0.0, 0.8, begin_step=1, end_step=8),
    ],
    ids=["F1 frequency", "F2 end after the last step", "F3 span below the frequency"],
)
def test_f1_f2_f3_schedules_fit_the_steps_that_run(
    schedule: Any, dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train, tfmot: Any
) -> None:
    own = tfmot.sparsity.keras.prune_low_magnitude(graph.copy(dense), schedule())
    train(own, rows, labels, callbacks=[tfmot.sparsity.keras.UpdatePruningStep()])
    stripped = tfmot.sparsity.keras.strip_pruning(own)
    assert zeros_of(stripped, "hidden") < 0.1
    ours = run(Prune(PruneStep(sparsity=0.8)), dense, rows, labels, train)
    assert zeros_of(ours, "hidden") == pytest.approx(0.8, abs=0.01)


def test_f4_an_early_epoch_is_not_at_target(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    step = Prune(PruneStep(sparsity=0.9, end=1.0))
    wrapped = step.wrap(dense, context_for(steps=8))
    train(wrapped, rows, labels, epochs=1, callbacks=step.callbacks())
    early = wrapped.get_weights()
    assert not step.at_target(wrapped)
    train(wrapped, rows, labels, epochs=1, callbacks=step.callbacks())
    assert step.at_target(wrapped)
    # A checkpoint of the early epoch, put back, is found twice.
    wrapped.set_weights(early)
    assert not step.at_target(wrapped)
    with pytest.raises(VerificationError, match=r"hidden \(kernel\) has 0\.\d+ of 0.9000"):
        step.measure(dense, step.unwrap(wrapped), context_for())


def test_f5_unpruned_layers_are_reported_with_their_weight(
    cnn: Model, images: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    step = Prune(PruneStep(sparsity=0.8))
    found = step.measure(cnn, run(step, cnn, images, labels, train), context_for())
    skipped = {entry.layer: entry.reason for entry in found.layers if not entry.done}
    assert "depthwise" in skipped["depthwise"]
    assert found.evidence["zero_fraction"] == pytest.approx(0.8, abs=0.02)
    share = found.evidence["pruned_fraction_of_parameters"]
    assert found.evidence["model_zero_fraction"] == pytest.approx(0.8 * share, abs=0.02)
    assert 0 < share < 1


def test_f6_zeros_survive_training_of_a_stripped_model(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train
) -> None:
    sparsify(dense, "hidden", 0.8)
    lost = graph.copy(dense)
    train(lost, rows, labels)
    assert zeros_of(lost, "hidden") < 0.1
    with held(dense):
        train(dense, rows, labels)
    assert zeros_of(dense, "hidden") == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("setting", [{"sparsity": 0.9}, {"begin": 0.2}, {"schedule": "constant"}])
def test_f7_a_schedule_for_two_of_four_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=f"remove {next(iter(setting))}"):
        PruneStep(pattern="2:4", **setting)


def test_f7_two_of_four_holds_after_a_resumed_step(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    step = Prune(PruneStep(pattern="2:4"))
    wrapped = step.wrap(dense, context_for())
    train(wrapped, rows, labels, epochs=1, callbacks=step.callbacks())
    resumed = step.wrap(dense, context_for())
    resumed.set_weights(wrapped.get_weights())
    assert int(resumed.layers[1].pruning_step) == 4
    train(resumed, rows, labels, epochs=1, callbacks=step.callbacks())
    step.measure(dense, step.unwrap(resumed), context_for())


def test_f8_the_two_of_four_setting_is_saved(
    dense: Model, context_for: Context, tmp_path: Any, tfmot: Any
) -> None:
    from tfopt.compression.saved_objects import STEP_OBJECTS

    wrapped = Prune(PruneStep(pattern="2:4")).wrap(dense, context_for())
    wrapped.save(tmp_path / "wrapped.keras")
    loaded = keras.models.load_model(tmp_path / "wrapped.keras", custom_objects=STEP_OBJECTS)
    assert [layer.sparsity_m_by_n for layer in loaded.layers[1:]] == [(2, 4), (2, 4)]
    own = tfmot.sparsity.keras.prune_low_magnitude(graph.copy(dense), sparsity_m_by_n=(2, 4))
    with tfmot.sparsity.keras.prune_scope():
        lost = keras.models.clone_model(own)
    assert [layer.sparsity_m_by_n for layer in lost.layers[1:]] == [None, None]


def test_f10_convolutions_without_bias_are_clustered_per_channel(
    cnn: Model, images: np.ndarray, labels: np.ndarray, train: Train
) -> None:
    assert not cnn.get_layer("conv").use_bias
    step = Cluster(ClusterStep(clusters=4, per_channel=True))
    kernel = kernel_of(run(step, cnn, images, labels, train), "conv")
    assert max(unique_values(kernel[..., channel]) for channel in range(8)) <= 4


def test_f11_frozen_layers_are_reported_and_left_as_they_are(
    cnn: Model, images: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    cnn.get_layer("conv").trainable = False
    before = kernel_of(cnn, "conv")
    step = Cluster(ClusterStep(clusters=4))
    after = run(step, cnn, images, labels, train)
    found = {e.layer: e for e in step.measure(cnn, after, context_for()).layers}
    assert (found["conv"].done, found["conv"].reason) == (False, "frozen")
    assert found["conv"].values["unique_values"] > 4
    np.testing.assert_array_equal(kernel_of(after, "conv"), before)


@pytest.mark.parametrize("step", [Prune(PruneStep()), Cluster(ClusterStep())])
def test_f12_a_keras_3_model_is_refused_not_ignored(
    step: Any, context_for: Context, tfmot: Any
) -> None:
    model = keras_3.Sequential([keras_3.Input((4,)), keras_3.layers.Dense(2)])
    with pytest.raises(ModelError, match="Keras 3 object"):
        step.wrap(model, context_for())
    start = tfmot.clustering.keras.CentroidInitialization.LINEAR
    clustered = tfmot.clustering.keras.cluster_weights(
        model, number_of_clusters=2, cluster_centroids_init=start
    )
    assert clustered is None


def test_f13_clustering_keeps_zeros(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train
) -> None:
    zeros = sparsify(dense, "hidden")
    after = run(Cluster(ClusterStep(clusters=8)), dense, rows, labels, train)
    np.testing.assert_array_equal(kernel_of(after, "hidden") == 0, zeros)
    assert unique_values(kernel_of(after, "hidden")) <= 8


def test_f14_training_a_clustered_model_is_refused(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train
) -> None:
    after = run(Cluster(ClusterStep(clusters=8)), dense, rows, labels, train)
    with pytest.raises(InputError, match="'hidden' is clustered"):
        require_trainable(after)
    train(after, rows, labels)
    assert unique_values(kernel_of(after, "hidden")) > 100


def test_f15_zero_steps_of_training_are_no_worse_than_calibration(
    dense: Model, rows: np.ndarray, context_for: Context, tfmot: Any
) -> None:
    rows = rows * 20
    step = Quantize(QuantizeStep(epochs=0))
    ours = step.unwrap(step.wrap(dense, context_for(rows, steps=0)))
    step.measure(dense, ours, context_for(rows))
    own = tfmot.quantization.keras.quantize_model(graph.copy(dense))
    expected = dense(rows).numpy()
    errors = [
        np.linalg.norm(np.asarray(model(rows)) - expected) / np.linalg.norm(expected)
        for model in (ours, own)
    ]
    assert errors[0] < 0.02
    assert errors[1] > 0.5


@pytest.mark.parametrize("ends", [(-6.0, 6.0), (0.0, 0.001), (0.0, 0.0)])
def test_f16_a_range_that_did_not_converge_is_an_error(
    ends: tuple[float, float], dense: Model, rows: np.ndarray, context_for: Context
) -> None:
    rows = rows * 0.1
    step = Quantize(QuantizeStep())
    wrapped = step.wrap(dense, context_for(rows))
    state = wrapped.get_layer("hidden_activation_range").quantizer_vars
    for name, value in zip(("min_var", "max_var"), ends, strict=True):
        state[name].assign(value)
    with pytest.raises(VerificationError, match="'hidden_activation' (has not conv|was never cal)"):
        step.measure(dense, wrapped, context_for(rows))


def test_f18_zeros_survive_quantization_aware_training(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train, context_for: Context,
    tfmot: Any,
) -> None:  # fmt: skip
    zeros = sparsify(dense, "hidden", 0.8)
    own = tfmot.quantization.keras.quantize_model(graph.copy(dense))
    train(own, rows, labels)
    lost = next(w for w in own.weights if w.name.startswith("hidden/kernel"))
    assert zero_fraction({"": lost.numpy()}) < 0.1
    step = Quantize(QuantizeStep())
    after = run(step, dense, rows, labels, train)
    kernel = after.get_layer("quant_hidden").settled_kernels()["kernel"]
    np.testing.assert_array_equal(kernel == 0, zeros)
    assert step.measure(dense, after, context_for(rows)).evidence["scheme"] == "PQAT"


def test_f19_zeros_of_a_depthwise_kernel_are_kept(
    cnn: Model, images: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    kernel = cnn.get_layer("depthwise").depthwise_kernel
    kernel.assign(np.where(np.arange(kernel.shape[2])[:, None] % 2, kernel, 0))
    kernel.assign(np.where(np.arange(3)[:, None, None, None] == 1, 0, kernel))
    zeros = kernel.numpy() == 0
    step = Quantize(QuantizeStep())
    after = run(step, cnn, images, labels, train)
    found = after.get_layer("quant_depthwise").settled_kernels()["depthwise_kernel"]
    np.testing.assert_array_equal(found == 0, zeros)
    reasons = {entry.layer: entry.reason for entry in step.decide(cnn)}
    assert "zeros kept" in reasons["depthwise"]


def test_f20_mask_and_quantizer_are_in_the_file(
    dense: Model, rows: np.ndarray, context_for: Context, tmp_path: Any
) -> None:
    from tfopt.compression.saved_objects import STEP_OBJECTS

    zeros = sparsify(dense, "hidden")
    wrapped = Quantize(QuantizeStep()).wrap(dense, context_for(rows))
    wrapped.save(tmp_path / "wrapped.keras")
    loaded = keras.models.load_model(tmp_path / "wrapped.keras", custom_objects=STEP_OBJECTS)
    _, quantizer, state = loaded.get_layer("quant_hidden").kernels()["kernel"]
    assert quantizer.masked
    np.testing.assert_array_equal(state["mask"].numpy() == 0, zeros)


def test_f21_f22_a_pointwise_kernel_keeps_zeros_and_values(
    images: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    inputs = keras.Input((8, 8, 4))
    hidden = L.Conv2D(16, 1, activation="relu", name="pointwise")(inputs)
    model = keras.Model(inputs, L.Dense(3, name="out")(L.GlobalAveragePooling2D()(hidden)))
    zeros = sparsify(model, "pointwise", 0.5)
    clustered = run(Cluster(ClusterStep(clusters=8)), model, images, labels, train)
    step = Quantize(QuantizeStep())
    after = run(step, clustered, images, labels, train)
    found = step.measure(clustered, after, context_for(images))
    assert found.evidence["scheme"] == "PCQAT"
    layer = after.get_layer("quant_pointwise")
    kernel = layer.settled_kernels()["kernel"]
    np.testing.assert_array_equal(kernel == 0, zeros)
    assert unique_values(kernel) <= 8
    assert np.any(layer.rounded_kernels()["kernel"])


def test_f22_a_lost_cluster_is_found(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    clustered = run(Cluster(ClusterStep(clusters=8)), dense, rows, labels, train)
    step = Quantize(QuantizeStep())
    after = step.wrap(clustered, context_for(rows))
    # The same model, quantized as if nothing had been clustered.
    free = Quantize(QuantizeStep(preserve="none"))
    scattered = run(free, clustered, rows, labels, train)
    step.measure(clustered, after, context_for(rows))
    with pytest.raises(VerificationError, match="quantize: layer 'hidden' lost its shared values"):
        step.measure(clustered, scattered, context_for(rows))


def test_begin_equal_to_end_in_a_short_run_is_a_schedule_of_one_update(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    step = Prune(PruneStep(sparsity=0.8, begin=0.5, end=0.6))
    wrapped = step.wrap(dense, context_for(steps=4))
    assert isinstance(wrapped.layers[1].pruning_schedule, ConstantSparsity)
    train(wrapped, rows, labels, epochs=1, callbacks=step.callbacks())
    step.measure(dense, step.unwrap(wrapped), context_for())
    layer = PruneLowMagnitude(
        L.Dense(16), PolynomialDecay(0.0, 0.8, begin_step=2, end_step=2, frequency=1)
    )
    own = keras.Sequential([L.Input((12,)), layer, L.Dense(3)])
    with pytest.raises(tf.errors.InvalidArgumentError, match="indices"):
        train(own, rows, labels, epochs=1, callbacks=step.callbacks())


def test_every_pass_brings_the_callback_that_pruned_layers_need(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    step = Prune(PruneStep())
    wrapped = step.wrap(dense, context_for())
    with pytest.raises(tf.errors.InvalidArgumentError, match="UpdatePruningStep"):
        train(wrapped, rows, labels)
    for each in (step, Cluster(ClusterStep()), Quantize(QuantizeStep())):
        assert [type(callback).__name__ for callback in each.callbacks()] == ["UpdatePruningStep"]


AWKWARD = {
    "x + 1": lambda x: x + 1,
    "a[:, 0]": lambda x: x[:, 0],
    "tf.reshape": lambda x: tf.reshape(x, (-1, 4, 4)),
    "Lambda": L.Lambda(lambda x: x * 2),
    "Multiply": lambda x: L.Multiply()([x, x]),
    "nested": keras.Sequential([L.Input((4, 4)), L.Dense(4)]),
    "Bidirectional": L.Bidirectional(L.SimpleRNN(4, return_sequences=True)),
}


@pytest.mark.filterwarnings("ignore:Lambda layers are not supported")  # tfmot's own, of tfmot
@pytest.mark.parametrize("name", AWKWARD)
def test_layers_that_stop_tfmot_pass_through(
    name: str, labels: np.ndarray, context_for: Context, tfmot: Any
) -> None:
    inputs = keras.Input((4, 4))
    hidden = L.Flatten()(AWKWARD[name](L.Dense(4)(inputs)))
    model = keras.Model(inputs, L.Dense(3)(hidden))
    values = np.random.default_rng(0).normal(size=(32, 4, 4)).astype("float32")
    with pytest.raises((ValueError, AttributeError, RuntimeError)):
        tfmot.quantization.keras.quantize_model(model)
    step = Quantize(QuantizeStep())
    wrapped = step.wrap(model, context_for(values))
    expected = model(values).numpy()
    assert np.linalg.norm(wrapped(values) - expected) < 0.05 * np.linalg.norm(expected)
    found = step.measure(model, step.unwrap(wrapped), context_for(values))
    assert found.evidence["layers_quantized"] >= 2
    pruned = Prune(PruneStep(sparsity=0.5)).wrap(model, context_for(values))
    np.testing.assert_array_equal(pruned(values), model(values))


def test_quantization_under_a_mixed_policy_computes_in_float32(
    rows: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = keras.Sequential(
            [L.Input((12,)), L.Dense(16, activation="relu"), L.Dense(3, dtype="float32")]
        )
        step = Quantize(QuantizeStep())
        after = run(step, model, rows, labels, train)
        step.measure(model, after, context_for(rows))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert {layer.compute_dtype for layer in after.layers} == {"float32"}
    assert after.layers[-1].quantizer_vars["max_var"].dtype == tf.float32
