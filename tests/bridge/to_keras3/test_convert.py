"""tf_keras models go back into the Keras 3 architecture that they came from."""

import gc
import subprocess
import sys
import weakref

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf

import tfopt.bridge.to_keras3.convert as back
from tfopt.bridge.provenance import carry, conversion_of
from tfopt.bridge.to_keras3.convert import to_keras3
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.errors import InputError, ModelError, VerificationError
from tfopt.keras2.core import keras as keras2

# keras/src/backend/tensorflow/core.py (3.15.1) reads each weight that way when it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")
L = keras3.layers
X = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")


def randomized(model):
    for number, weight in enumerate(model.weights):
        values = np.random.default_rng(number).uniform(0.2, 1.0, weight.shape)
        weight.assign(values * (1 if "variance" in weight.path else 0.5))
    return model


def sequential():
    layers = [L.Dense(5, "relu", name="a"), L.BatchNormalization(name="b"), L.Dense(2, name="c")]
    return keras3.Sequential([keras3.Input((4,)), *layers], name="line")


def functional():
    x = keras3.Input((4,), name="x")
    y = L.Dense(5, "gelu", name="a")(x)
    return keras3.Model(x, {"sum": L.Dense(2, name="c")(y) + 1.0, "hidden": y}, name="graph")


def nested():
    """Inner layers that are called as those of another model are."""
    x = y = keras3.Input((4,))
    for name in ("left", "right"):
        inner = [keras3.Input((4,)), L.Dense(6, name="dense"), L.Dense(4, name="other")]
        y = keras3.Sequential(inner, name=name)(y)
    return keras3.Model(x, L.Dense(2, name="dense")(y), name="nested")


def shared():
    x = keras3.Input((4,))
    inner = keras3.Sequential([keras3.Input((4,)), L.Dense(4, "tanh")], name="inner")
    return keras3.Model(x, inner(inner(x)), name="shared")


@keras3.saving.register_keras_serializable("tests_back")
class Wide(keras3.Model):
    """A Functional model with a constructor and a training step of its own."""

    def __init__(self, width=3, **settings):
        x = keras3.Input((4,), name="wide_input")
        super().__init__(inputs=x, outputs=L.Dense(width, name="dense")(x), **settings)
        self.width = width

    def train_step(self, *arguments):
        return super().train_step(*arguments)

    def get_config(self):
        return {"width": self.width, "name": self.name}


MODELS = {
    "sequential": sequential,
    "functional": functional,
    "nested": nested,
    "shared": shared,
    "own class": lambda: Wide(7, name="wide"),
}


def same_outputs(one, other):
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_the_original_architecture_comes_back(name):
    model = randomized(MODELS[name]())
    twin = to_tf_keras(model)
    found = to_keras3(twin)
    assert found is not model
    assert type(found) is type(model)
    assert found.name == model.name
    assert [layer.name for layer in found.layers] == [layer.name for layer in model.layers]
    assert [type(one) for one in found.layers] == [type(one) for one in model.layers]
    # Keras 3 puts the names of outer models in front, or not, as a model was made.
    ends = [[one.path.split("/")[-2:] for one in made.weights] for made in (found, model)]
    assert ends[0] == ends[1]
    for one, other in zip(found.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one.value, other.value)
    assert not {id(one) for one in found.weights} & {id(one) for one in model.weights}
    same_outputs(found(X), model(X))
    evidence = conversion_of(found)
    assert (evidence.to, evidence.notices) == ("keras3", ())
    assert evidence.weights == len(model.weights)
    assert evidence.parameters == model.count_params()
    assert evidence.relative_error <= 1e-6


def test_trained_weights_go_back_by_name():
    model = nested()
    twin = to_tf_keras(model)
    twin.compile("sgd", "mse")
    twin.fit(X, np.ones((3, 2)), epochs=2, verbose=0)
    found = to_keras3(twin, check=X)
    for layer in ("left", "right"):
        kernel = found.get_layer(layer).get_layer("dense").kernel
        assert np.abs(kernel - model.get_layer(layer).get_layer("dense").kernel).max() > 0
    np.testing.assert_allclose(found.predict(X, verbose=0), twin.predict(X, verbose=0), atol=1e-6)
    assert conversion_of(found).notices == (
        "the optimizer and its state were left behind; compile the model again",
    )
    assert conversion_of(found).parity[-1].on_user_data
    assert not found.compiled


def test_what_was_frozen_meanwhile_stays_frozen():
    twin = to_tf_keras(sequential())
    twin.get_layer("a").trainable = False
    found = to_keras3(twin)
    assert [one.path for one in found.trainable_weights] == [
        "b/gamma",
        "b/beta",
        "c/kernel",
        "c/bias",
    ]
    model = sequential()
    model.layers[2].trainable = False
    assert [one.trainable for one in to_keras3(to_tf_keras(model)).weights] == [
        one.trainable for one in model.weights
    ]


def test_single_weights_that_are_frozen_stay_so():
    model = sequential()
    model.get_layer("c").kernel.trainable = False
    found = to_keras3(to_tf_keras(model))
    assert [one.trainable for one in found.weights] == [one.trainable for one in model.weights]
    assert found.get_layer("c").trainable


def test_batch_normalization_frozen_meanwhile_is_frozen_in_the_file_too(tmp_path):
    twin = to_tf_keras(randomized(sequential()))
    twin.get_layer("b").trainable = False
    found = to_keras3(twin)
    assert [layer.trainable for layer in found.layers] == [True, False, True]
    found.save(tmp_path / "m.keras")
    loaded = keras3.models.load_model(tmp_path / "m.keras")
    for one in (found, loaded):
        same_outputs(one(X, training=True), twin(X, training=False))


def test_a_model_from_a_file_goes_back_with_like(tmp_path):
    model = randomized(nested())
    to_tf_keras(model).save(tmp_path / "m.keras")
    twin = keras2.models.load_model(tmp_path / "m.keras")
    before = [np.array(one.value) for one in model.weights]
    for weight in twin.weights:
        weight.assign(weight * 0.5)
    found = to_keras3(twin, like=model)
    assert [layer.name for layer in found.layers] == [layer.name for layer in model.layers]
    same_outputs(found(X), twin(X))
    assert all(map(np.array_equal, before, [one.value for one in model.weights]))
    assert conversion_of(found).notices == ()


def test_without_its_origin_a_model_is_built_anew(tmp_path):
    to_tf_keras(randomized(sequential())).save(tmp_path / "m.keras")
    twin = keras2.models.load_model(tmp_path / "m.keras")
    found = to_keras3(twin)
    same_outputs(found(X), twin(X))
    assert conversion_of(found).notices == (
        "the architecture was built anew: the model does not remember a Keras 3 origin",
    )


def other_width():
    return keras3.Sequential([keras3.Input((4,)), L.Dense(6, name="a"), L.Dense(2, name="c")])


def other_name():
    return keras3.Sequential([keras3.Input((4,)), L.Dense(5, name="z"), L.Dense(2, name="c")])


def fewer():
    layers = [L.Dense(5, name="a"), L.BatchNormalization(name="b")]
    return keras3.Sequential([keras3.Input((4,)), *layers])


def no_bias():
    layers = [L.Dense(5, name="a"), L.BatchNormalization(name="b", scale=False)]
    return keras3.Sequential([keras3.Input((4,)), *layers, L.Dense(2, name="c")])


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (other_width, r"of `like`: a weight of layer 'a' has 20 entries. Leave `like` out"),
        (other_name, "it has no layer 'z' any more"),
        (fewer, "it has other layers with weights"),
        (no_bias, "it has other layers with weights"),
        (lambda: keras3.Sequential([L.Dense(2)], name="s"), "'s' has no input shape"),
        (lambda: L.Dense(2), "is a Keras 3 Dense, not a model"),
        (lambda: keras2.Sequential([keras2.layers.Dense(2)]), "`like` must be .*: tf_keras.src"),
        (lambda: "model.keras", "`like` must be the Keras 3 model .*: builtins.str"),
    ],
)
def test_a_like_that_does_not_fit(like, message):
    with pytest.raises(ModelError, match=message) as caught:
        to_keras3(to_tf_keras(sequential()), like=like())
    assert "\n" not in str(caught.value)


def test_another_activation_than_that_of_like_is_seen():
    twin = to_tf_keras(randomized(sequential()))
    like = sequential()
    like.get_layer("a").activation = keras3.activations.tanh
    with pytest.raises(VerificationError, match="computes something else: outputs differ"):
        to_keras3(twin, like=like)


def test_a_model_whose_layers_changed_is_built_anew():
    model = randomized(sequential())
    twin = to_tf_keras(model)
    layers = [keras2.layers.Dense(5, "relu", name="a"), keras2.layers.Dense(2, name="c")]
    other = carry(twin, keras2.Sequential([keras2.Input((4,)), *layers]))
    found = to_keras3(other)
    same_outputs(found(X), other(X))
    assert conversion_of(found).notices == (
        "the architecture was built anew: it has no layer 'b' any more",
    )


def test_sharing_that_keras_3_cannot_save_is_kept():
    """A layer of a nested model that is called outside of it too."""
    dense, x = L.Dense(4, "tanh"), keras3.Input((4,))
    inner = keras3.Sequential([keras3.Input((4,)), dense])
    model = randomized(keras3.Model(x, dense(inner(x))))
    found = to_keras3(to_tf_keras(model))
    assert len(found.weights) == 2
    same_outputs(found(X), model(X))
    assert (
        "cannot serialize its sharing of layers (2 weights become 4)"
        in (conversion_of(found).notices[0])
    )


def test_an_adapter_comes_back_merged():
    model = randomized(sequential())
    model.get_layer("a").enable_lora(2)
    model.get_layer("a").lora_kernel_b.assign(np.full((2, 5), 0.3))
    twin = to_tf_keras(model)
    assert conversion_of(twin).notices == ("Dense 'a': LoRA adapter merged into the weights",)
    found = to_keras3(twin)
    layer = found.get_layer("a")
    assert layer.lora_enabled
    assert not np.any(layer.lora_kernel_b.value)
    same_outputs(found(X), model(X))
    assert np.abs(layer._kernel - model.get_layer("a")._kernel).max() > 0.1


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize`")
def test_integers_come_back_as_floats():
    model = randomized(
        keras3.Sequential([keras3.Input((4,)), L.Dense(16, "relu"), L.Dense(2)], name="m")
    )
    model.quantize("int8")
    twin = to_tf_keras(model)
    assert all("int8 weights turned into floats" in one for one in conversion_of(twin).notices)
    found = to_keras3(twin)
    assert {str(one.dtype) for one in found.weights} == {"float32"}
    assert "the architecture was built anew" in conversion_of(found).notices[0]
    same_outputs(found(X), twin(X))
    np.testing.assert_allclose(found(X), model(X), rtol=0.1, atol=0.1)


def test_a_keras_3_model_is_returned_as_it_is():
    model = sequential()
    assert to_keras3(model) is model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (None, "must be a tf_keras.Model. Received: builtins.NoneType"),
        (keras2.layers.Dense(2), "must be a tf_keras.Model"),
        (
            keras2.Sequential([keras2.layers.Dense(2)], name="s"),
            "'s' is a Sequential model without",
        ),
    ],
)
def test_what_is_no_model_is_named(model, message):
    with pytest.raises(ModelError, match=message):
        to_keras3(model)


def test_data_that_does_not_fit():
    with pytest.raises(InputError, match=r"takes the shape \(None, 4\).* has \(2, 5\)"):
        to_keras3(to_tf_keras(sequential()), check=np.ones((2, 5)))


def test_a_planted_wrong_weight_is_seen(monkeypatch):
    twin = to_tf_keras(randomized(sequential()))
    original = back._value

    def value(place, held):
        return original(place, held) * (1.01 if place.path.endswith("c/kernel") else 1)

    monkeypatch.setattr(back, "_value", value)
    with pytest.raises(VerificationError, match="computes something else: outputs differ by"):
        to_keras3(twin)


def test_swapped_weights_of_equal_shape_are_seen(monkeypatch):
    twin = to_tf_keras(randomized(sequential()))
    original = back._value

    def value(place, held):
        others = {"gamma": "beta", "beta": "gamma"}
        name = place.path.rpartition("/")[2]
        if name in others:
            found = [one for one in held["b"] if others[name] in one.name]
            return found[0].numpy()
        return original(place, held)

    monkeypatch.setattr(back, "_value", value)
    with pytest.raises(VerificationError, match="outputs differ by"):
        to_keras3(twin)


def test_no_copy_of_the_weights_stays():
    twin = to_tf_keras(keras3.Sequential([keras3.Input((37,)), L.Dense(59)]))

    def living():
        gc.collect()
        return sum(
            isinstance(one, tf.Variable | tf.Tensor | np.ndarray) and one.shape == (37, 59)
            for one in gc.get_objects()
        )

    assert living() == 1
    found = to_keras3(twin)
    assert living() == 2
    gone = weakref.ref(twin)
    del twin
    assert living() == 1
    assert gone() is None
    assert found.count_params() == 38 * 59


FRESH = """
import sys
import numpy as np
sys.modules["tfopt"] = None  # as if it was not installed
import keras
model = keras.models.load_model(sys.argv[1])
assert "tf_keras" not in sys.modules
np.save(sys.argv[2], model.predict(np.load(sys.argv[3]), verbose=0))
"""


def test_a_saved_model_needs_nothing_of_tfopt(tmp_path):
    twin = to_tf_keras(randomized(sequential()))
    twin.compile("sgd", "mse")
    twin.fit(X, np.ones((3, 2)), verbose=0)
    to_keras3(twin).save(tmp_path / "m.keras")
    np.save(tmp_path / "x.npy", X)
    done = subprocess.run(
        [
            *(sys.executable, "-c", FRESH),
            *(str(tmp_path / name) for name in ("m.keras", "y.npy", "x.npy")),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": "/usr/bin", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr
    same_outputs(np.load(tmp_path / "y.npy"), twin.predict(X, verbose=0))
