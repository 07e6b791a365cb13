"""Masks that Keras 3 attached go, those of the user stay."""

import keras as keras3
import numpy as np
import pytest

from tfopt.bridge.provenance import conversion_of
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.bridge.to_tf_keras.keras3_graph import nodes_of
from tfopt.bridge.to_tf_keras.masks import without_own_masks

# Keras 3.15 hands its variables to NumPy 2 in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")
L, ops = keras3.layers, keras3.ops
WORDS = np.array([[1, 2, 3, 0, 0], [4, 3, 0, 0, 0], [1, 1, 1, 1, 1]], "int32")


def arguments_of(model, name):
    found = [node for node in nodes_of(model) if node.operation.name == name]
    assert len(found) == 1
    return without_own_masks(found[0])


def words():
    x = keras3.Input((5,), dtype="int32", name="words")
    return x, L.Embedding(6, 4, mask_zero=True, name="table")(x)


def test_a_mask_that_keras_attached_goes():
    x, y = words()
    model = keras3.Model(x, L.LSTM(3, name="lstm")(y))
    assert arguments_of(model, "lstm").kwargs == {}


def test_a_mask_of_the_user_stays():
    x, y = words()
    mask = ops.not_equal(x, 3)
    model = keras3.Model(x, L.LSTM(3, name="lstm")(y, mask=mask))
    assert arguments_of(model, "lstm").kwargs == {"mask": mask}
    plain = keras3.Model(x, L.LSTM(3, name="lstm")(y))
    for kind in (model, plain):
        twin = to_tf_keras(kind, check=WORDS)
        assert conversion_of(twin).relative_error <= 1e-6
    model.set_weights(plain.get_weights())
    assert np.abs(np.asarray(model(WORDS)) - np.asarray(plain(WORDS))).max() > 1e-3


def test_masks_of_attention():
    x, y = words()
    layer = L.MultiHeadAttention(2, 3, name="attention")
    model = keras3.Model(x, layer(y, y))
    found = arguments_of(model, "attention")
    assert set(found.kwargs) == {"value"}
    other = keras3.Input((5, 5), dtype="bool", name="pairs")
    layer = L.MultiHeadAttention(2, 3, name="attention")
    model = keras3.Model([x, other], layer(y, y, attention_mask=other))
    found = arguments_of(model, "attention")
    assert set(found.kwargs) == {"value", "attention_mask"}
    pairs = np.random.default_rng(0).random((3, 5, 5)) > 0.4
    twin = to_tf_keras(model, check=[WORDS, pairs])
    assert conversion_of(twin).relative_error <= 1e-6


def test_training_and_none_go():
    x = keras3.Input((5, 4))
    y = L.Dropout(0.5, name="drop")(x, training=True)
    y = L.BatchNormalization(name="norm")(y, training=False, mask=None)
    model = keras3.Model(x, y)
    for name in ("drop", "norm"):
        assert arguments_of(model, name).kwargs == {}


def test_arguments_by_position_get_their_names():
    x, h = keras3.Input((5, 4)), keras3.Input((3,))
    model = keras3.Model([x, h], L.SimpleRNN(3, name="rnn")(x, h))
    found = arguments_of(model, "rnn")
    assert found.args == (x,)
    assert found.kwargs == {"initial_state": h} or set(found.kwargs) == {"initial_state"}


def test_arguments_of_operations_are_left_alone():
    x = keras3.Input((5,))
    model = keras3.Model(x, ops.clip(x, -1.0, 2.0))
    node = nodes_of(model)[-1]
    found = without_own_masks(node)
    assert found.args == tuple(node.arguments.args)
    assert found.kwargs == dict(node.arguments.kwargs)
    assert found.args[0] is x


def test_the_masks_of_a_model_that_was_loaded(tmp_path):
    """They are computed twice there: once attached, once as an argument."""
    x, y = words()
    y = L.Bidirectional(L.GRU(3, return_sequences=True), name="both")(y)
    model = keras3.Model(x, L.GlobalAveragePooling1D(name="mean")(y))
    model.save(tmp_path / "m.keras")
    loaded = keras3.models.load_model(tmp_path / "m.keras")
    for name in ("both", "mean"):
        assert arguments_of(loaded, name).kwargs == {}
    twin = to_tf_keras(loaded, check=WORDS)
    np.testing.assert_allclose(twin(WORDS), model(WORDS), atol=1e-6)
