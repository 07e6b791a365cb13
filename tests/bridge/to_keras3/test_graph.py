"""tf_keras models rebuilt in Keras 3 predict the same, and their files need no tfopt."""

import subprocess
import sys
import textwrap

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras2

from tfopt.bridge.to_keras3.graph import rebuild_as_keras3
from tfopt.bridge.to_tf_keras.operations import operation
from tfopt.bridge.to_tf_keras.twin import Names
from tfopt.bridge.to_tf_keras.wrapped_layer import fallback
from tfopt.errors import ModelError

# keras/src/backend/tensorflow/core.py (3.15.1) reads each weight that way when it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")

L = keras2.layers
RNG = np.random.default_rng(7)


def floats(*shape):
    return RNG.normal(size=shape).astype("float32")


def residual():
    x = keras2.Input((8, 8, 3), name="pixels")
    y = L.Conv2D(4, 3, padding="same")(x)
    y = L.BatchNormalization(name="norm")(y)
    z = L.Conv2D(4, 1, name="a_b")(x)
    return keras2.Model(x, L.Dense(3, name="head")(L.GlobalMaxPooling2D()(L.Add()([y, z]) + 0.5)))


def test_functional_model_keeps_names_and_structure(check):
    rebuilt = check(residual(), floats(2, 8, 8, 3))
    assert rebuilt.model.inputs[0].name == "pixels"
    assert {"norm", "a_b", "head"} <= {layer.name for layer in rebuilt.model.layers}


def test_sequential_stays_sequential_and_dtypes_stay(check):
    model = keras2.Sequential(
        [
            L.InputLayer((6,), dtype="uint8", name="bytes"),
            L.Rescaling(1 / 255),
            L.Dense(4, dtype="mixed_float16"),
            L.Dense(2, dtype="float32"),
        ],
        name="line",
    )
    rebuilt = check(model, np.arange(12, dtype="uint8").reshape(2, 6), limit=1e-3)
    assert type(rebuilt.model) is keras3.Sequential
    assert rebuilt.model.name == "line"
    assert rebuilt.model.inputs[0].dtype == "uint8"
    assert rebuilt.model.layers[1].compute_dtype == "float16"


def test_nested_frozen_base(check):
    base = residual()
    base.trainable = False
    base.get_layer("head").trainable = True
    x = keras2.Input((8, 8, 3))
    outer = keras2.Model(x, L.Dense(2)(base(x, training=False)))
    rebuilt = check(outer, floats(2, 8, 8, 3))
    assert rebuilt.model.get_layer(base.name).trainable is False
    assert rebuilt.model.get_layer(base.name).get_layer("head").trainable is False


def test_frozen_parts(check):
    x = keras2.Input((6, 4))
    recurrent = L.Bidirectional(L.LSTM(3))
    model = keras2.Model(x, L.Dense(2)(recurrent(x)))
    recurrent.forward_layer.trainable = False
    check(model, floats(2, 6, 4))


def test_siamese_shares_one_nested_model(check):
    tower = keras2.Sequential([L.Input((5,)), L.Dense(4, "relu"), L.Dense(3)])
    a, b = keras2.Input((5,)), keras2.Input((5,))
    model = keras2.Model([a, b], L.Dot(1)([tower(a), tower(b)]))
    rebuilt = check(model, [floats(2, 5), floats(2, 5)])
    assert len(rebuilt.pairs) == len(rebuilt.model.weights) == 4


def test_layer_shared_between_models_is_refused():
    shared = L.Dense(5, name="both")
    x, y = keras2.Input((5,)), keras2.Input((5,))
    inner = keras2.Model(x, shared(x))
    with pytest.raises(ModelError, match="'both'.*cannot load"):
        rebuild_as_keras3(keras2.Model(y, inner(shared(y))))


def test_layers_that_run_keras3_become_keras3_layers_again(check):
    names = Names()
    first = fallback(built(keras3.layers.RMSNormalization(name="rms"), (None, 4)), names)
    x3 = keras3.Input((4,))
    node = keras3.ops.logaddexp(x3, 1.0)._keras_history.operation
    x = keras2.Input((4,))
    y = first.call(x)
    y = operation(node, names).call(y, 1.0)
    rebuilt = check(keras2.Model(x, L.Dense(2)(y)), floats(3, 4))
    assert type(rebuilt.model.get_layer("rms")) is keras3.layers.RMSNormalization
    assert len(rebuilt.pairs) == 3


def built(layer, shape):
    layer.build(shape)
    return layer


def test_dictionaries_and_lists(check):
    a, b = keras2.Input((3,), name="a"), keras2.Input((3,), name="b")
    model = keras2.Model(
        {"b": b, "a": a}, {"sum": L.Add()([a, b]), "all": [L.Dense(2)(a), L.Dense(1)(b)]}
    )
    data = {"a": floats(2, 3), "b": floats(2, 3)}
    rebuilt = check(model, data)
    assert set(rebuilt.model(data)) == {"sum", "all"}


def test_dictionary_whose_keys_are_not_the_input_names(check):
    a, b = keras2.Input((3,), name="left"), keras2.Input((3,), name="right")
    model = keras2.Model({"x": a, "y": b}, L.Subtract()([L.Dense(2)(a), L.Dense(2)(b)]))
    check(model, {"x": floats(2, 3), "y": floats(2, 3)})


def test_nested_model_with_two_inputs(check):
    a, b = keras2.Input((3,), name="a"), keras2.Input((3,), name="b")
    inner = keras2.Model({"a": a, "b": b}, [L.Dense(2)(a), L.Dense(2)(b)])
    x = keras2.Input((3,))
    one, two = inner({"a": x, "b": x * 2.0})
    check(keras2.Model(x, L.Concatenate()([one, two])), floats(2, 3))


@pytest.mark.parametrize("wrap", [lambda layer: layer, L.Bidirectional])
def test_states_are_handed_over(wrap, check):
    x, y = keras2.Input((5, 4)), keras2.Input((6, 4))
    _, *states = wrap(L.LSTM(3, return_state=True))(x)
    out = wrap(L.LSTM(3, return_sequences=True))(y, initial_state=states)
    check(keras2.Model([x, y], out), [floats(2, 5, 4), floats(2, 6, 4)])


def test_lambda_needs_trust_to_load(check):
    x = keras2.Input((4,))
    check(keras2.Model(x, L.Lambda(lambda t: t * 2.0)(x)), floats(2, 4), safe=False)


def test_application(check):
    model = keras2.applications.MobileNetV3Small(
        input_shape=(64, 64, 3), weights=None, classes=5, minimalistic=True
    )
    # The fused normalization of tf_keras rounds otherwise, 35 times.
    check(model, floats(1, 64, 64, 3) * 50, limit=5e-5)


def test_file_loads_and_predicts_without_tfopt(tmp_path, check):
    x = keras2.Input((6, 4))
    y = L.LSTM(3, recurrent_activation="hard_sigmoid", return_sequences=True)(x)
    y = L.BatchNormalization()(y)[:, 1:] * 2.0
    model = keras2.Model(x, L.Dense(2, "hard_sigmoid")(y))
    data = floats(2, 6, 4)
    check(model, data)
    np.save(tmp_path / "x.npy", data)
    np.save(tmp_path / "y.npy", model(data, training=False))
    program = """
        import sys, keras, numpy as np
        model = keras.models.load_model("model.keras")
        found = model.predict(np.load("x.npy"), verbose=0)
        np.testing.assert_allclose(found, np.load("y.npy"), rtol=1e-5, atol=1e-6)
        assert not any(name.split(".")[0] in ("tfopt", "tf_keras") for name in sys.modules)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, check=True, timeout=300
    )


def test_the_original_is_not_changed():
    model = residual()
    before = [np.array(weight) for weight in model.weights]
    rebuilt = rebuild_as_keras3(model)
    for weight in rebuilt.model.weights:
        weight.assign(weight + 1.0)
    for one, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(one, weight)


class Own(L.Dense):
    pass


def call_on(x, layer):
    return layer(x)


class Subclassed(keras2.Model):
    def call(self, inputs):
        return inputs


def own_loss(x):
    y = L.Dense(2, name="out")(x)
    model = keras2.Model(x, y)
    model.add_loss(tf.reduce_mean(y))
    return model


REFUSED = {
    "own class": (lambda x: Own(2, name="mine")(x), "'mine'.*Own is not one of tf_keras' own"),
    "no equal": (lambda x: L.LocallyConnected1D(2, 2, name="local")(x), "'local'.*no equal"),
    "unknown operator": (lambda x: tf.linalg.band_part(x, 1, 0), "tf.linalg.band_part.*Replace"),
    "unknown argument": (
        lambda x: tf.gather(x, [[0], [1]], axis=1, batch_dims=1),
        "batch_dims=1.*Leave",
    ),
    "shape of a tensor": (
        lambda x: tf.reshape(x, [tf.shape(x)[0], 24]),
        "tf.*shape.*(-1|Replace)",
    ),
    "training on": (lambda x: L.Dropout(0.5, name="drop")(x, training=True), "'drop'.*training="),
    "subclassed inside": (lambda x: Subclassed(name="inner")(x), "subclassed model 'inner'"),
    "weights in activation": (
        lambda x: L.Dense(2, activation=L.PReLU(name="slope"), name="d")(x),
        "'d'.*'slope'.*behind",
    ),
    "constraint": (
        lambda x: L.Conv1D(2, 2, kernel_constraint=keras2.constraints.RadialConstraint(), name="c")(
            x
        ),
        "'c'.*RadialConstraint",
    ),
    "crop": (lambda x: L.RandomCrop(2, 2, name="crop")(x[..., None]), "'crop'.*no equal"),
    "added loss": (own_loss, "add_loss.*compile"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    make, message = REFUSED[name]
    x = keras2.Input((4, 6))
    made = make(x)
    model = made if isinstance(made, keras2.Model) else keras2.Model(x, made)
    with pytest.raises(ModelError, match=message):
        rebuild_as_keras3(model)


def test_tied_weights_are_refused():
    embed = L.Embedding(7, 4)
    x = keras2.Input((3,), dtype="int32")
    y = tf.matmul(embed(x), embed.embeddings, transpose_b=True)
    with pytest.raises(ModelError, match="tied weights"):
        rebuild_as_keras3(keras2.Model(x, y))


def test_a_keras3_model_is_refused():
    with pytest.raises(ModelError, match="Keras 3"):
        rebuild_as_keras3(keras3.Sequential([keras3.Input((2,)), keras3.layers.Dense(1)]))
