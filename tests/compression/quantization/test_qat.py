from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tfopt.compression.base import StepContext
from tfopt.compression.kmeans import share_kernel
from tfopt.compression.layers.masked import PrunedLayer
from tfopt.compression.layers.quantized import RangeLayer, SchemedLayer
from tfopt.compression.quantization.qat import Quantize
from tfopt.compression.weight_statistics import unique_values
from tfopt.config.schema import LitertExport, QuantizeStep
from tfopt.errors import DataError, InputError, ModelError, VerificationError
from tfopt.export.litert.convert import convert_litert
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, keras
from tfopt.runtimes import open_litert

L = keras.layers
Train = Callable[..., None]
Context = Callable[..., StepContext]


def relative_error(found: object, expected: object) -> float:
    difference = np.linalg.norm(np.asarray(found) - np.asarray(expected))
    return float(difference / np.linalg.norm(np.asarray(expected)))


def set_kernel(model: Model, name: str, *, zeros: float = 0.0, clusters: int = 0) -> np.ndarray:
    kernel = model.get_layer(name).kernel
    values = kernel.numpy()
    values[np.abs(values) < np.quantile(np.abs(values), zeros)] = 0
    if clusters:
        shared = share_kernel(values, clusters, keep_zeros=bool(zeros))
        values = shared.values[shared.indices]
    kernel.assign(values)
    return values


def test_the_calibrated_model_is_near_the_float_model(
    residual: Model, images: np.ndarray, context_for: Context
) -> None:
    step = Quantize(QuantizeStep())
    wrapped = step.wrap(residual, context_for(images))
    error = relative_error(wrapped(images), residual(images))
    assert 0 < error < 0.02
    found = step.measure(residual, step.unwrap(wrapped), context_for(images))
    assert found.evidence["scheme"] == "QAT"
    assert found.evidence["layers_float"] == 0
    assert found.evidence["range_gap_max"] == pytest.approx(0, abs=1e-6)


def test_the_file_computes_what_the_model_emulates(
    residual: Model, images: np.ndarray, labels: np.ndarray, train: Train, context_for: Context,
    tmp_path: Path,
) -> None:  # fmt: skip
    step = Quantize(QuantizeStep())
    wrapped = step.wrap(residual, context_for(images))
    train(wrapped, images, labels, epochs=1, rate=1e-4)
    path = tmp_path / "model.tflite"
    convert_litert(step.unwrap(wrapped), path, settings=LitertExport())
    file = open_litert(path)
    compute = [operator for operator in file.operators() if operator.is_compute]
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD"} <= {operator.name for operator in compute}
    assert [operator.name for operator in compute if not operator.is_integer] == []
    assert relative_error(file.predict(images), wrapped(images)) < 0.02


def test_a_one_dimensional_shared_net_is_integer_too(context_for: Context, tmp_path: Path) -> None:
    body = keras.Sequential(
        [
            L.Input((16, 4)),
            L.Conv1D(6, 3, padding="causal", use_bias=False),
            L.BatchNormalization(),
            L.ReLU(),
            L.GlobalAveragePooling1D(),
        ]
    )
    left, right = keras.Input((16, 4), name="left"), keras.Input((16, 4), name="right")
    model = keras.Model([left, right], L.Dense(3)(L.Subtract()([body(left), body(right)])))
    random = np.random.default_rng(0)
    body.layers[1].set_weights([random.uniform(0.5, 1.5, 6) for _ in range(4)])
    inputs = [random.normal(size=(32, 16, 4)).astype("float32") * by for by in (1, 5)]
    step = Quantize(QuantizeStep())
    wrapped = step.wrap(model, context_for(inputs))
    assert not [entry for entry in step.decide(model) if not entry.done]
    path = tmp_path / "model.tflite"
    convert_litert(step.unwrap(wrapped), path, settings=LitertExport())
    file = open_litert(path)
    assert all(operator.is_integer for operator in file.operators() if operator.is_compute)
    assert relative_error(file.predict(inputs), wrapped(inputs)) < 0.02


@pytest.mark.parametrize(
    ("zeros", "clusters", "scheme"),
    [(0.0, 0, "QAT"), (0.7, 0, "PQAT"), (0.0, 8, "CQAT"), (0.7, 8, "PCQAT")],
)
def test_the_scheme_is_read_off_the_kernels_and_kept(
    zeros: float, clusters: int, scheme: str, dense: Model, rows: np.ndarray, labels: np.ndarray,
    train: Train, context_for: Context,
) -> None:  # fmt: skip
    before = set_kernel(dense, "hidden", zeros=zeros, clusters=clusters)
    step = Quantize(QuantizeStep())
    wrapped = step.wrap(dense, context_for(rows))
    train(wrapped, rows, labels, rate=1e-3)
    after = step.unwrap(wrapped)
    found = step.measure(dense, after, context_for(rows))
    assert found.evidence["scheme"] == scheme
    kernel = after.get_layer("quant_hidden").settled_kernels()["kernel"]
    assert np.any(kernel != before)
    if zeros:
        np.testing.assert_array_equal(kernel == 0, before == 0)
    if clusters:
        assert unique_values(kernel) == unique_values(before) == clusters


def test_preserve_none_keeps_nothing(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    set_kernel(dense, "hidden", zeros=0.7)
    step = Quantize(QuantizeStep(preserve="none"))
    wrapped = step.wrap(dense, context_for(rows))
    train(wrapped, rows, labels)
    assert step.measure(dense, wrapped, context_for(rows)).evidence["scheme"] == "QAT"
    assert np.all(wrapped.get_layer("quant_hidden").settled_kernels()["kernel"])


def test_a_skipped_clustered_layer_keeps_its_values_and_leaves_plain(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    before = set_kernel(dense, "hidden", zeros=0.5, clusters=8)
    step = Quantize(QuantizeStep(skip=("hidden",)))
    wrapped = step.wrap(dense, context_for(rows))
    train(wrapped, rows, labels, callbacks=step.callbacks())
    after = step.unwrap(wrapped)
    np.testing.assert_array_equal(after(rows), wrapped(rows))
    assert type(after.get_layer("hidden")) is L.Dense
    assert isinstance(after.get_layer("quant_out"), SchemedLayer)
    kernel = after.get_layer("hidden").kernel.numpy()
    np.testing.assert_array_equal(kernel == 0, before == 0)
    assert unique_values(kernel) <= 8
    found = step.measure(dense, after, context_for(rows))
    assert "hidden stays float: left out by skip" in found.notes
    after.get_layer("hidden").kernel.assign(kernel + np.eye(*kernel.shape) * 1e-3)
    with pytest.raises(VerificationError, match="quantize: layer 'hidden' lost zeros"):
        step.measure(dense, after, context_for(rows))


def test_a_pruned_recurrent_layer_keeps_its_zeros(
    labels: np.ndarray, train: Train, context_for: Context
) -> None:
    model = keras.Sequential([L.Input((5, 4)), L.SimpleRNN(8, name="rnn"), L.Dense(3)])
    kernel = model.get_layer("rnn").cell.kernel
    kernel.assign(np.where(np.arange(8) % 2, kernel, 0))
    inputs = np.random.default_rng(0).normal(size=(32, 5, 4)).astype("float32")
    step = Quantize(QuantizeStep())
    wrapped = step.wrap(model, context_for(inputs))
    train(wrapped, inputs, labels, callbacks=step.callbacks())
    after = step.unwrap(wrapped)
    assert not [layer for layer in after.layers if isinstance(layer, PrunedLayer)]
    np.testing.assert_array_equal(after.get_layer("rnn").cell.kernel.numpy()[:, ::2], 0)
    np.testing.assert_array_equal(after(inputs), wrapped(inputs))
    step.measure(model, after, context_for(inputs))


def test_each_call_of_a_shared_layer_has_its_own_range(context_for: Context) -> None:
    layer = L.Dense(4, name="shared")
    left, right = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([left, right], L.Subtract()([layer(left), layer(right)]))
    inputs = [np.ones((8, 4), "float32"), np.full((8, 4), 100.0, "float32")]
    wrapped = Quantize(QuantizeStep()).wrap(model, context_for(inputs))
    widths = [
        float(wrapped.get_layer(name).quantizer_vars["max_var"])
        - float(wrapped.get_layer(name).quantizer_vars["min_var"])
        for name in ("shared_range", "shared_range_1")
    ]
    assert max(widths) == pytest.approx(100 * min(widths), rel=0.05)
    assert relative_error(wrapped(inputs), model(inputs)) < 0.02


def test_lost_zeros_values_and_weights_are_found(
    dense: Model, rows: np.ndarray, context_for: Context
) -> None:
    set_kernel(dense, "hidden", zeros=0.6)
    set_kernel(dense, "out", clusters=4)
    step = Quantize(QuantizeStep())

    def state_of(model: Model, name: str) -> dict[str, object]:
        return model.get_layer(name).kernels()["kernel"][2]

    after = step.wrap(dense, context_for(rows))
    kernel = after.get_layer("quant_hidden").kernels()["kernel"][0]
    state_of(after, "quant_hidden")["mask"].assign(np.ones(kernel.shape))
    kernel.assign_add(np.full(kernel.shape, 0.01, np.float32))
    with pytest.raises(VerificationError, match="quantize: layer 'hidden' lost zeros"):
        step.measure(dense, after, context_for(rows))

    after = step.wrap(dense, context_for(rows))
    state_of(after, "quant_out")["values"].assign(np.zeros(4))
    with pytest.raises(VerificationError, match="every weight of layer 'out' became zero"):
        step.measure(dense, after, context_for(rows))

    after = step.wrap(dense, context_for(rows))
    for end, value in (("min_var", -1e6), ("max_var", 1e6)):
        state_of(after, "quant_out")[end].assign(value)
    with pytest.raises(VerificationError, match="every weight of layer 'out' became zero"):
        step.measure(dense, after, context_for(rows))


def test_decisions_name_role_and_reason() -> None:
    inputs = keras.Input((8, 8, 4))
    hidden = L.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    hidden = L.BatchNormalization(name="norm")(hidden)
    hidden = L.LayerNormalization(name="layer_norm")(hidden)
    outputs = L.Dense(3, activation="softmax", name="out")(L.Flatten()(hidden))
    found = {
        entry.layer: entry
        for entry in Quantize(QuantizeStep()).decide(keras.Model(inputs, outputs))
    }
    assert found["conv"].reason == "8-bit kernel, a range for each channel"
    assert found["conv_activation"].reason == "folded into the layer before it"
    assert found["norm_scale"].reason == "8-bit kernel, a range for each channel"
    assert found["norm"].reason == "folded into the layer before it"
    assert not found["layer_norm"].done
    assert found["out"].reason == "8-bit kernel, one range"
    assert found["out_activation"].reason == "8-bit, with a fixed output range"
    assert "flatten" not in " ".join(found)


def test_skip_patterns_must_match(dense: Model) -> None:
    with pytest.raises(InputError, match=r"quantize.skip: .*'hiden' matches no layer.*'hidden'\?"):
        Quantize(QuantizeStep(skip=("hiden",))).decide(dense)


def test_nothing_to_quantize_is_an_error(dense: Model) -> None:
    with pytest.raises(InputError, match="no layer of .* can be quantized .*hidden: left out"):
        Quantize(QuantizeStep(skip=("*",))).decide(dense)


def test_quantizing_twice_is_refused(dense: Model, rows: np.ndarray, context_for: Context) -> None:
    step = Quantize(QuantizeStep())
    wrapped = step.wrap(dense, context_for(rows))
    with pytest.raises(InputError, match="already emulates 8-bit arithmetic"):
        step.decide(wrapped)


def test_no_or_broken_calibration_is_an_error(
    dense: Model, rows: np.ndarray, context_for: Context
) -> None:
    step = Quantize(QuantizeStep())
    with pytest.raises(DataError, match="no calibration examples"):
        step.wrap(dense, context_for(None))
    with pytest.raises(DataError, match="not finite"):
        step.wrap(dense, context_for(rows * np.nan))
    dense.layers[-1].kernel.assign(dense.layers[-1].kernel * np.nan)
    with pytest.raises(ModelError, match="'out/kernel' .*not finite"):
        step.wrap(dense, context_for(rows))


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_training_on_other_data_than_calibration_converges(
    rate: float, images: np.ndarray, labels: np.ndarray, train: Train, context_for: Context
) -> None:
    """Augmentation, dropout and a dead unit must not look like ranges gone wrong."""
    inputs = keras.Input((8, 8, 4))
    hidden = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, use_bias=False)(inputs)))
    dead = L.Dense(4, activation="relu", bias_initializer=keras.initializers.Constant(-99.0))
    hidden = L.Concatenate()([hidden, dead(hidden)])
    hidden = L.Dropout(rate)(L.GlobalAveragePooling2D()(hidden))
    model = keras.Model(inputs, L.Dense(3)(hidden))
    train(model, images, labels, epochs=25)
    step = Quantize(QuantizeStep())
    wrapped = step.wrap(model, context_for(images))
    random = np.random.default_rng(0)
    strange = images * random.uniform(0.7, 1.3, (32, 1, 1, 1)) + random.normal(size=(32, 1, 1, 1))
    train(wrapped, np.roll(strange, 1, axis=1), labels, epochs=5, rate=1e-3)
    found = step.measure(model, step.unwrap(wrapped), context_for(images))
    assert found.evidence["range_gap_max"] < 0.5
    assert all(
        float(layer.quantizer_vars["max_var"]) > float(layer.quantizer_vars["min_var"])
        for layer in wrapped.layers
        if isinstance(layer, RangeLayer)
    )


def test_the_input_model_is_not_changed(residual: Model, images: np.ndarray) -> None:
    before = graph.copy(residual)
    Quantize(QuantizeStep()).decide(residual)
    np.testing.assert_array_equal(residual(images), before(images))
