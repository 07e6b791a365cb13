"""Comparing two models leaves both of them as they were."""

import keras as keras3
import numpy as np
import pytest

import tfopt.bridge.to_tf_keras.convert as converting
from tfopt.bridge import parity
from tfopt.bridge.provenance import conversion_of
from tfopt.bridge.report import Parity
from tfopt.bridge.sample_inputs import random_inputs
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.bridge.to_tf_keras.graph import walk
from tfopt.errors import ModelError, VerificationError
from tfopt.keras2.core import keras as keras2

L = keras3.layers
PLAIN = Parity(
    rows=2,
    max_abs_error=0.0,
    relative_error=0.0,
    tolerance=1e-5,
    sensitivity=1.0,
    calibrated=False,
    on_user_data=False,
)


@keras3.saving.register_keras_serializable("tests_parity")
class Restless(L.Layer):
    """Counts its calls, and draws random numbers in training."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.seed = keras3.random.SeedGenerator(5)
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, inputs, training=False):
        self.calls.assign(self.calls + 1.0)
        if training:
            inputs = inputs + keras3.random.normal(keras3.ops.shape(inputs), seed=self.seed)
        return inputs


def restless():
    """A model with everything that running it could change."""
    x = keras3.Input(batch_shape=(2, 6, 4), name="x")
    y = Restless(name="restless")(x)
    y = L.SpectralNormalization(L.Conv1D(5, 2, name="conv"), name="spectral")(y)
    y = L.BatchNormalization(name="norm", momentum=0.9)(y)
    y = L.Dropout(0.5, seed=3, name="drop")(y)
    y = L.GaussianNoise(0.3, seed=2, name="noise")(y)
    y = L.SpatialDropout1D(0.25, seed=4, name="spatial")(y)
    y = L.LSTM(3, stateful=True, name="memory", return_sequences=True)(y)
    y = L.Bidirectional(L.GRU(2, stateful=True), name="both")(y)
    return keras3.Model(x, L.Dense(2, name="head")(y))


def state(model):
    """All values of a model of either Keras, its settings and seeds included."""
    values = (
        [one.numpy() for one in model.variables]
        if isinstance(model, keras2.Model)
        else [np.asarray(one.value) for one in model.variables]
    )
    settings = [
        (layer.name, getattr(layer, "momentum", None), getattr(layer, "rate", None))
        for layer in model._flatten_layers()
    ]
    generators = [
        np.asarray(layer._random_generator._generator.state)
        for layer in model._flatten_layers()
        if getattr(getattr(layer, "_random_generator", None), "_generator", None) is not None
    ]
    inner = [
        np.asarray(seed.state.value)
        for layer in model._flatten_layers()
        if hasattr(layer, "keras3_class")
        for seed in layer._held.layer._seed_generators
    ]
    return [one.tobytes() for one in (*values, *generators, *inner)], settings


def filled(model):
    walked = walk(model)
    for link in walked.links:
        link.forward()
    return walked


@pytest.mark.parametrize("fails", [False, True])
def test_calibration_leaves_both_models_bit_identical(fails):
    model = restless()
    model.predict(np.ones((2, 6, 4)), verbose=0)  # states and counters that are not zero
    walked = filled(model)
    before = state(model), state(walked.model)
    inputs = random_inputs(model, rows=2)

    def run():
        with parity.calibrated(walked.model, walked.links, inputs) as statistics:
            moving = walked.model.get_layer("norm").moving_mean.numpy()
            assert np.abs(moving).max() > 0
            assert {variable.name for variable, _ in statistics} == {
                "moving_mean",
                "moving_variance",
            }
            found = parity.compare(
                model, walked.model, inputs, tolerance=1e-5, statistics=statistics
            )
            assert found.calibrated
            assert found.relative_error < 1e-5
            parity.layer_differences(
                model, walked.model, walked.tensors, inputs, statistics=statistics
            )
            if fails:
                raise VerificationError("planted")

    if fails:
        with pytest.raises(VerificationError, match="planted"):
            run()
    else:
        run()
    assert (state(model), state(walked.model)) == before


def test_counters_come_along_and_states_begin_at_zero():
    model = restless()
    model.predict(np.ones((2, 6, 4)), verbose=0)
    before = state(model)
    twin = to_tf_keras(model, check=np.zeros((2, 6, 4), "float32"))
    assert state(model) == before
    assert float(twin.get_layer("restless").weights[0]) == float(model.layers[1].calls) == 1.0
    assert np.abs(np.asarray(model.get_layer("memory").states[0].value)).max() > 0
    assert not any(np.any(one) for one in twin.get_layer("memory").states)
    first, second = (twin.predict(np.ones((2, 6, 4)), verbose=0) for _ in range(2))
    assert np.abs(first - second).max() > 1e-4  # it remembers
    again = restless()
    again.set_weights(model.get_weights())
    expected = [again.predict(np.ones((2, 6, 4)), verbose=0) for _ in range(2)]
    np.testing.assert_allclose([first, second], expected, atol=1e-6)


def test_a_failed_comparison_leaves_the_keras_3_model_alone(monkeypatch):
    model = restless()
    before = state(model)
    monkeypatch.setattr(converting.parity, "_difference", lambda *arrays: (1.0, 1.0))
    with pytest.raises(VerificationError, match="first layer that differs is 'restless'"):
        to_tf_keras(model)
    assert state(model) == before


def test_calibration_without_batch_normalization_does_not_run_the_model():
    model = keras3.Sequential([keras3.Input((3,)), L.Dense(2)])
    walked = filled(model)
    with parity.calibrated(walked.model, walked.links, [np.zeros((0, 9))]) as statistics:
        assert list(statistics) == []


def test_batch_normalization_that_is_frozen_keeps_its_statistics():
    model = keras3.Sequential([keras3.Input((3,)), L.BatchNormalization(name="norm")])
    model.get_layer("norm").trainable = False
    assert conversion_of(to_tf_keras(model)).parity[0].calibrated is False


def test_without_calibration_equality_would_be_vacuous():
    """Layers that shrink everything: nothing is left to compare, but for the statistics."""
    x = y = keras3.Input((8,))
    for number in range(12):
        y = L.Dense(8, kernel_initializer=keras3.initializers.RandomNormal(stddev=0.05))(y)
        y = L.BatchNormalization(name=f"norm{number}")(y)
    model = keras3.Model(x, L.Dense(2, bias_initializer="ones")(y))
    walked, inputs = filled(model), random_inputs(model, rows=2)
    plain = parity.compare(model, walked.model, inputs, tolerance=1e-5)
    assert plain.sensitivity < 1e-6
    assert conversion_of(to_tf_keras(model)).parity[0].sensitivity > 0.1


def pair(values, others):
    """Two models that return a constant each, and inputs for them."""
    x, y = keras3.Input((1,)), keras2.Input((1,))
    ours = keras3.Model(x, x * 0.0 + np.asarray(values, "float32"))
    add = keras2.layers.Lambda(lambda one: one * 0.0 + np.asarray(others, "float32"))
    return ours, keras2.Model(y, add(y)), [np.ones((2, 1), "float32")]


@pytest.mark.parametrize(
    ("values", "others", "absolute", "relative"),
    [
        ([4.0, 2.0], [4.0, 2.0], 0.0, 0.0),
        ([4.0, 2.0], [4.0, 1.0], 1.0, 0.25),
        ([np.nan, 2.0], [np.nan, 1.0], 1.0, 0.5),
        ([np.nan, 2.0], [1.0, 2.0], np.inf, np.inf),
        ([2.0, 2.0], [1.0, np.inf], np.inf, np.inf),
        ([0.0, 0.0], [0.0, 1e-3], 1e-3, 1e-3),
        ([1.0, 2.0], [1.0, 2.0, 3.0], np.inf, np.inf),
    ],
)
def test_differences(values, others, absolute, relative):
    ours, theirs, inputs = pair(values, others)
    found = parity.compare(ours, theirs, inputs, tolerance=1e-5)
    assert (found.max_abs_error, found.relative_error) == pytest.approx((absolute, relative))
    if relative:
        with pytest.raises(VerificationError, match="computes something else: outputs differ by"):
            parity.require(found, lambda: "")
    else:
        assert parity.require(found, lambda: "") is found


def test_differences_that_are_no_number_are_refused():
    nan = PLAIN.__class__(**{**{name: getattr(PLAIN, name) for name in PLAIN.__slots__},
                             "relative_error": float("nan")})  # fmt: skip
    with pytest.raises(VerificationError, match="Named. *$"):
        parity.require(nan, lambda: "Named.")


def test_no_single_layer_to_blame():
    differences = [("'a' (Dense)", 1e-7), ("'b' (Dense)", 2e-5)]
    assert parity.first_difference(differences, tolerance=1e-5) == (
        "The first layer that differs is 'b' (Dense), by 2e-05 relative."
    )
    assert parity.first_difference(differences, tolerance=1e-4).startswith("No single layer")


def test_a_model_that_cannot_be_run_is_named_in_one_line():
    def broken(tensor):
        raise KeyError("first line\nsecond line")

    ours, theirs, inputs = pair([1.0], [1.0])
    y = keras2.Input((1,))
    layer = keras2.layers.Lambda(lambda one: one)
    theirs = keras2.Model(y, layer(y))
    layer.function = broken
    with pytest.raises(
        ModelError, match=r"tf_keras model fails on random inputs .*\[\(2, 1\)\]"
    ) as e:
        parity.compare(ours, theirs, inputs, tolerance=1e-5)
    assert "\n" not in str(e.value)
    with pytest.raises(ModelError, match="Keras 3 model fails on given inputs") as e:
        parity.compare(
            ours, theirs, [np.ones((2, 5, 5), "float32")], tolerance=1e-5, on_user_data=True
        )
    assert "\n" not in str(e.value)
