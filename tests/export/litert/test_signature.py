import numpy as np
import pytest
import tensorflow as tf

from tfopt.errors import ExportError, ModelError, StorageError
from tfopt.export.litert import signature
from tfopt.export.litert.calibration import InputSpec
from tfopt.export.litert.signature import (
    has_recurrent_layers,
    has_trained_ranges,
    input_specs,
    open_sizes,
    own_batch,
    save_signature,
    trace,
)
from tfopt.keras2.core import keras

layers = keras.layers


def test_inputs_are_described_in_the_models_order(models):
    assert input_specs(models["two_ended"]) == [
        InputSpec("zeta", (8,), "float32"),
        InputSpec("alpha/1", (3,), "float32"),
    ]
    assert input_specs(models["words"])[0].dtype == "int32"


def test_inputs_of_text_or_ragged_shape_are_refused():
    text = keras.Input((1,), dtype="string", name="text")
    with pytest.raises(ExportError, match="dense inputs of numbers.*'text'"):
        input_specs(keras.Model(text, tf.strings.length(text)))
    ragged = keras.Input((None,), ragged=True, name="steps")
    with pytest.raises(ExportError, match="'steps'"):
        input_specs(
            keras.Model(ragged, layers.LSTM(2)(layers.Reshape((-1, 1))(ragged.to_tensor())))
        )


def test_subclassed_models_are_refused():
    class Hidden(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ModelError, match="subclassed"):
        input_specs(Hidden())


def test_recurrent_layers_are_found_at_any_depth(models):
    assert not has_recurrent_layers(models["convolution"])
    inner = keras.Sequential([layers.Bidirectional(layers.GRU(2))])
    x = keras.Input((5, 4))
    assert has_recurrent_layers(keras.Model(x, inner(x)))


def test_own_batch():
    assert own_batch(keras.Sequential([keras.Input((2,)), layers.Dense(1)])) is None
    fixed = keras.Sequential([keras.Input((2,), batch_size=4), layers.Dense(1)])
    assert own_batch(fixed) == 4


def test_fake_quantization_is_found_wherever_it_stands(models):
    assert not has_trained_ranges(models["convolution"])
    x = keras.Input((4,))
    y = tf.quantization.fake_quant_with_min_max_args(x)
    assert has_trained_ranges(keras.Model(x, y))


def test_inference_does_not_change_the_model():
    model = keras.Sequential([keras.Input((4,)), layers.BatchNormalization(), layers.Dropout(0.5)])
    before = [weight.copy() for weight in model.get_weights()]
    traced = trace(model, batch=None)
    rows = tf.random.normal((8, 4))
    result = traced.function(**{traced.inputs[0]: rows})[traced.outputs[0]]
    np.testing.assert_allclose(result, model(rows, training=False), atol=1e-6)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_names_that_clash_are_made_different():
    first, second = keras.Input((2,), name="a/b"), keras.Input((2,), name="a_b")
    model = keras.Model([first, second], [first, second])
    traced = trace(model, batch=None)
    assert traced.inputs == ("a_b", "a_b_1")
    assert len(set(traced.outputs)) == 2


def test_a_graph_that_cannot_be_built_names_the_model():
    def one_row_only(x):
        if x.shape[0] is None:
            raise ValueError("the batch must be known")
        return x

    x = keras.Input((2,), batch_size=1)
    model = keras.Model(x, layers.Lambda(one_row_only)(x), name="picky")
    with pytest.raises(ExportError, match="'picky' cannot be built for .* any batch size: .*known"):
        trace(model, batch=None)
    assert trace(model, batch=1).inputs


def test_lookup_tables_are_saved_with_the_model(tmp_path):
    ids = keras.Input((3,), dtype="int64", name="ids")
    lookup = layers.IntegerLookup(vocabulary=[10, 20, 30])
    model = keras.Model(ids, lookup(ids))
    save_signature(trace(model, batch=None), tmp_path / "saved", model)
    assert (tmp_path / "saved" / "saved_model.pb").exists()


def test_a_full_disk_while_saving(models, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(signature.tf.saved_model, "save", full)
    traced = trace(models["convolution"], batch=None)
    with pytest.raises(StorageError, match="No space left on device"):
        save_signature(traced, tmp_path / "saved", models["convolution"])

    def exhausted(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "disk is full\nmore")

    monkeypatch.setattr(signature.tf.saved_model, "save", exhausted)
    with pytest.raises(StorageError, match="ENOSPC: disk is full"):
        save_signature(traced, tmp_path / "saved", models["convolution"])


def _open_model():
    ids = keras.Input((None,), dtype="int32", name="ids")
    pair = keras.Input((2,), name="pair")
    words = layers.GlobalAveragePooling1D()(layers.Embedding(9, 4)(ids))
    return keras.Model([ids, pair], layers.Dense(2)(layers.Concatenate()([words, pair])))


def test_open_sizes_are_those_of_the_given_rows():
    model = _open_model()
    rows = {"ids": np.zeros((3, 7), np.int32), "pair": np.zeros((3, 2))}
    assert (
        open_sizes(model, rows) == open_sizes(model, (rows["ids"], rows["pair"])) == {"ids": (7,)}
    )
    assert [spec.shape for spec in input_specs(model)] == [(None,), (2,)]
    assert [spec.shape for spec in input_specs(model, sizes={"ids": (7,)})] == [(7,), (2,)]
    traced = trace(model, batch=None, sizes={"ids": (7,)})
    shapes = [tensor.shape.as_list() for tensor in traced.function.inputs[:2]]
    assert sorted(shapes) == [[None, 2], [None, 7]]
