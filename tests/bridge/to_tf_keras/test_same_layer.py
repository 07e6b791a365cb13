"""Layers that tf_keras has too: every public class of ``keras.layers``, outputs and training."""

from __future__ import annotations

from typing import Any

import keras as keras3
import numpy as np
import pytest
from bridge_checks import check, step_error
from keras import layers as L  # noqa: N812
from layer_case import Case, public_layers
from layer_cases import CASES

from tfopt.bridge.custom_objects import OBJECTS
from tfopt.bridge.provenance import conversion_of
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.bridge.to_tf_keras.layer_config import NoTwin
from tfopt.bridge.to_tf_keras.same_layer import native, reads_batches, twin_layer
from tfopt.bridge.to_tf_keras.twin import Names
from tfopt.keras2.core import keras as keras2

# The plainest configuration of each class and the last one, which is far from it; the
# benchmark runs all of them.
_BY_NAME = {case.name: [one for one in CASES if one.name == case.name] for case in CASES}
_SOME = [
    case
    for found in _BY_NAME.values()
    for case in {id(c): c for c in (found[0], found[-1])}.values()
]
_CONVERTED = [case for case in _SOME if case.how != "refused"]
_TRAINED = {
    *("BatchNormalization", "Bidirectional", "Conv2D", "Conv2DTranspose", "ConvLSTM1D", "Dense"),
    *("DepthwiseConv1D", "EinsumDense", "Embedding", "GRU", "GroupNormalization", "LSTM"),
    *("LayerNormalization", "MultiHeadAttention", "PReLU", "RNN", "SeparableConv1D"),
    *("SpectralNormalization", "StackedRNNCells", "TimeDistributed", "Wrapper"),
}


def _model(layer: Any, *shape: int | None, dtype: str = "float32") -> Any:
    return keras3.Sequential([keras3.Input(shape, dtype=dtype), layer])


def _how(model: Any, class_name: str) -> list[str]:
    layers = conversion_of(to_tf_keras(model)).layers
    return [one.how for one in layers if one.class_name == class_name]


def test_every_public_class_has_a_case() -> None:
    assert set(public_layers()) == set(_BY_NAME)


@pytest.mark.parametrize("case", _CONVERTED, ids=lambda case: case.text[:60])
def test_outputs_are_the_same(case: Case) -> None:
    model = case.model()
    evidence = conversion_of(to_tf_keras(model))
    assert evidence.relative_error <= 1e-6
    own = type(model.layers[-1]).__name__
    found = [one.how for one in evidence.layers if one.class_name == own]
    assert (found or ["native"])[-1] == case.how


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize(
    "case",
    [case for case in _CONVERTED if case.name in _TRAINED and case.step],
    ids=lambda case: case.text[:60],
)
def test_one_training_step_gives_the_same_weights(case: Case) -> None:
    error = check(case.model(), eager=True).step_error
    assert error is None or error <= 1e-5


def test_a_step_is_seen() -> None:
    """The check of the steps is no formality: other weights are other weights."""
    model = _model(L.Dense(2), 3)
    twin = to_tf_keras(model)
    twin.layers[-1].kernel.assign_add(np.full((3, 2), 0.5, "float32"))
    assert step_error(model, twin, eager=True) > 0.1


@pytest.mark.parametrize("adapted", [True, False])
def test_discretization_takes_over_its_boundaries(adapted: bool) -> None:
    layer = L.Discretization(num_bins=4) if adapted else L.Discretization([0.0, 1.0])
    if adapted:
        layer.adapt(np.random.default_rng(0).normal(size=(50, 1)))
    assert _how(_model(layer, 2), "Discretization") == ["native"]


@pytest.mark.parametrize("mode", ["int", "multi_hot", "count", "tf_idf"])
def test_adapted_vocabulary_is_taken_over(mode: str) -> None:
    layer = L.TextVectorization(output_mode=mode)
    layer.adapt(np.array(["the quick brown fox", "the fox a", "b quick"]))
    inputs = keras3.Input((), dtype="string")
    assert _how(keras3.Model(inputs, layer(inputs)), "TextVectorization") == ["native"]


def test_document_frequencies_survive_a_file(tmp_path: Any) -> None:
    layer = L.StringLookup(vocabulary=["a", "b"], output_mode="tf_idf", idf_weights=[0.3, 0.7])
    model = to_tf_keras(_model(layer, 3, dtype="string"))
    model.save(tmp_path / "model.keras")
    loaded = keras2.models.load_model(tmp_path / "model.keras", custom_objects=dict(OBJECTS))
    words = np.array([["a", "b", "b"], ["x", "a", "x"]])
    np.testing.assert_array_equal(loaded(words), model(words))
    assert not model.weights


def test_batch_normalization_is_not_fused() -> None:
    """The fused kernel counts the variance of N values as N/(N-1) times what it is."""
    twin = to_tf_keras(_model(L.BatchNormalization(), 4, 4, 3))
    assert twin.layers[-1].fused is False


def test_time_distributed_batch_normalization_is_left_to_keras3() -> None:
    assert reads_batches(L.BatchNormalization())
    assert not reads_batches(L.BatchNormalization(trainable=False))
    assert _how(_model(L.TimeDistributed(L.BatchNormalization()), 3, 4), "TimeDistributed") == [
        "fallback"
    ]


def test_a_frozen_layer_in_a_wrapper_stays_frozen() -> None:
    twin = to_tf_keras(_model(L.TimeDistributed(L.Dense(2, trainable=False)), 3, 4))
    assert not twin.trainable_weights
    assert len(twin.non_trainable_weights) == 2


def test_a_frozen_layer_stays_frozen() -> None:
    assert not twin_layer(L.Conv2D(2, 3, trainable=False)).trainable


def test_settings_that_tf_keras_refuses_are_no_crash() -> None:
    """Such as an output of rank 3, or whatever a later Keras 3 has more."""
    layer = L.SpectralNormalization(L.Dense(3))
    with pytest.raises(NoTwin, match="only where tf.keras is tf_keras"):
        twin_layer(layer)
    layer = L.Dense(3)
    layer.get_config = lambda: {**L.Dense(3).get_config(), "units": -1}  # type: ignore[method-assign]
    with pytest.raises(NoTwin, match="refuses the settings.*units"):
        twin_layer(layer)


def test_layers_of_the_user_are_not_taken_for_those_of_keras() -> None:
    class Dense(L.Dense):
        """Another layer of the same name."""

    with pytest.raises(NoTwin, match="not one of Keras' own"):
        native(Dense(3), Names())


def test_normalization_without_statistics_has_no_twin() -> None:
    with pytest.raises(NoTwin, match="mean and variance are not known"):
        twin_layer(L.Normalization())


def test_document_frequencies_of_one_name_are_free_for_others() -> None:
    names = Names()
    model = _model(L.Dense(2, name="mine"), 3)
    assert native(model.layers[-1], names).call.name == "mine"
    assert native(model.layers[-1], names).call.name == "mine_1"
