"""A quantized model keeps its ranges in Keras 3: one layer runs it."""

import subprocess
import sys
from pathlib import Path

import keras as keras3
import numpy as np
import pytest

import tfopt
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.compression.keras3 import SAVED_OBJECTS, EmulatedModel, as_keras3, like_source
from tfopt.compression.layers.quantized import RangeLayer
from tfopt.errors import InputError, ModelError
from tfopt.keras2.core import keras as keras2
from tfopt.runtimes import open_litert

# Keras 3.15 hands its variables to NumPy 2 in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")
L = keras3.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 8, 8, 1)).astype("float32")
Y = RNG.integers(0, 3, 96)


def picture_model():
    keras3.utils.set_random_seed(1)
    layers = [
        L.Conv2D(4, 3, name="conv"),
        L.BatchNormalization(name="norm"),
        L.ReLU(name="relu"),
        L.Flatten(name="flat"),
        L.Dense(3, "softmax", name="head"),
    ]
    return keras3.Sequential([keras3.Input((8, 8, 1), name="image"), *layers], name="net")


@pytest.fixture(scope="module")
def model():
    return picture_model()


@pytest.fixture(scope="module")
def ready(model):
    return tfopt.quantize(model, (X, Y), epochs=1)


@pytest.fixture(scope="module")
def twin(model):
    return tfopt.quantize(to_tf_keras(model), (X, Y), epochs=1)


def test_the_result_is_a_keras_3_model_with_ranges(ready, twin):
    assert type(ready).__module__.startswith("keras.src")
    assert [type(layer).__name__ for layer in ready.layers] == ["InputLayer", "EmulatedModel"]
    inside = ready.layers[1].tf_keras_model
    assert any(isinstance(layer, RangeLayer) for layer in inside._flatten_layers())
    assert ready.count_params() == twin.count_params()
    assert len(ready.trainable_weights) == len(twin.trainable_weights)
    np.testing.assert_allclose(ready.predict(X, verbose=0), twin.predict(X, verbose=0), atol=1e-6)


def test_its_weights_are_those_of_the_model_inside(ready):
    layer = ready.layers[1]
    values = [one.value for one in layer.weights]
    assert {id(one) for one in values} == {id(one) for one in layer.tf_keras_model.weights}


def test_it_is_exported_like_its_twin(ready, twin, tmp_path):
    mine, other = (
        tfopt.export_litert(kind, tmp_path / f"{number}.tflite", evaluation=(X, Y))
        for number, kind in enumerate((ready, twin))
    )
    assert mine.int8_op_fraction == other.int8_op_fraction == 1.0
    outputs = []
    for number in range(2):
        outputs.append(open_litert(tmp_path / f"{number}.tflite").predict(X[:16]))
    np.testing.assert_array_equal(*outputs)


def test_it_is_saved_and_loaded_by_both(ready, tmp_path):
    expected = ready.predict(X, verbose=0)
    tfopt.save(ready, tmp_path / "q.keras")
    back = tfopt.load(tmp_path / "q.keras")
    assert isinstance(back, keras2.Model)
    assert any(isinstance(layer, RangeLayer) for layer in back._flatten_layers())
    np.testing.assert_array_equal(back.predict(X, verbose=0), expected)
    theirs = keras3.models.load_model(
        tmp_path / "q.keras", custom_objects={"EmulatedModel": EmulatedModel}
    )
    np.testing.assert_array_equal(theirs.predict(X, verbose=0), expected)
    assert SAVED_OBJECTS["EmulatedModel"] is EmulatedModel


def test_it_trains(ready, tmp_path):
    tfopt.save(ready, tmp_path / "q.keras")
    copied = keras3.models.load_model(
        tmp_path / "q.keras", custom_objects={"EmulatedModel": EmulatedModel}
    )
    before = [np.array(one.value) for one in copied.trainable_weights]
    copied.compile(keras3.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    losses = copied.fit(X, Y, epochs=3, verbose=0, shuffle=False).history["loss"]
    assert losses[-1] < losses[0]
    moved = [
        np.abs(a - b.value).max() for a, b in zip(before, copied.trainable_weights, strict=True)
    ]
    assert max(moved) > 1e-4
    inside = copied.layers[1].tf_keras_model
    np.testing.assert_allclose(
        copied.predict(X, verbose=0), inside.predict(X, verbose=0), atol=1e-6
    )


def test_steps_on_it_are_refused_by_name(ready):
    for step in (tfopt.prune, tfopt.cluster, tfopt.quantize):
        with pytest.raises(InputError, match="already emulates 8-bit arithmetic; start from the"):
            step(ready, (X, Y))


def test_stripping_it_gives_the_original_architecture(ready, model):
    plain = tfopt.strip(ready)
    assert type(plain) is keras3.Sequential
    assert [layer.name for layer in plain.layers] == [layer.name for layer in model.layers]
    assert plain.predict(X, verbose=0).shape == (96, 3)
    assert (
        np.mean(plain.predict(X, verbose=0).argmax(1) == ready.predict(X, verbose=0).argmax(1))
        > 0.9
    )


def test_dict_inputs_and_outputs_keep_their_structure():
    a, b = keras3.Input((4,), name="a"), keras3.Input((4,), name="b")
    y = L.Add(name="sum")([L.Dense(4, name="left")(a), b])
    theirs = keras3.Model({"a": a, "b": b}, {"out": L.Dense(2, name="head")(y)})
    inner = to_tf_keras(theirs)
    shell = as_keras3(inner)
    data = {"a": X[:5, 0, :4, 0], "b": X[:5, 1, :4, 0]}
    np.testing.assert_allclose(shell(data)["out"], theirs(data)["out"], atol=1e-6)
    assert shell.layers[-1].tf_keras_model is not inner
    assert to_tf_keras(shell) is shell.layers[-1].tf_keras_model


def test_without_ranges_the_plain_architecture_comes_back(model):
    twin = to_tf_keras(model)
    found = like_source(twin, twin)
    assert type(found) is keras3.Sequential
    np.testing.assert_allclose(found(X), model(X), atol=1e-6)


def test_frozen_weights_stay_frozen():
    model = picture_model()
    model.get_layer("conv").trainable = False
    twin = to_tf_keras(model)
    shell = as_keras3(twin)
    names = [one.name for one in shell.trainable_weights]
    assert len(names) == len(model.trainable_weights) == 4
    assert not any("conv" in name for name in names)


def test_code_inside_is_refused_like_code_outside(tmp_path):
    x = keras2.Input((4,), name="x")
    trap = tmp_path / "ran"
    path = str(trap)
    layer = keras2.layers.Lambda(lambda y: (open(path, "w").close(), y)[1], name="trap")
    as_keras3(keras2.Model(x, layer(x))).save(tmp_path / "m.keras")
    trap.unlink(missing_ok=True)
    with pytest.raises(ModelError, match="Lambda|code") as caught:
        tfopt.load(tmp_path / "m.keras")
    assert "\n" not in str(caught.value)
    assert not trap.exists()


FRESH = """
import sys
import tensorflow as tf
first = tf.keras.Model.__module__
import tfopt
import numpy as np
model = tfopt.load(sys.argv[1])
assert tf.keras.Model.__module__ == first
np.save(sys.argv[2], model.predict(np.load(sys.argv[3]), verbose=0))
"""


def test_a_fresh_process_loads_it(ready, tmp_path):
    tfopt.save(ready, tmp_path / "q.keras")
    np.save(tmp_path / "x.npy", X)
    done = subprocess.run(
        [
            *(sys.executable, "-c", FRESH),
            *(str(tmp_path / name) for name in ("q.keras", "y.npy", "x.npy")),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
        env={"PATH": "/usr/bin", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), ready.predict(X, verbose=0), atol=1e-6)
