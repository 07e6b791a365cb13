"""Keras 3 models become tf_keras models, and what the evidence says about it is measured."""

import gc
import weakref
from dataclasses import FrozenInstanceError, replace

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf

import tfopt.bridge.to_tf_keras.graph as walking
from tfopt.bridge.provenance import conversion_of
from tfopt.bridge.report import Conversion
from tfopt.bridge.to_tf_keras import twin as rules
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.errors import InputError, ModelError, VerificationError
from tfopt.keras2.core import keras as keras2

L = keras3.layers
RNG = np.random.default_rng(0)


def randomized(model):
    for number, weight in enumerate(model.weights):
        values = np.random.default_rng(number).uniform(0.2, 1.0, weight.shape)
        weight.assign(values * (1 if "variance" in weight.path else 0.5))
    return model


def small(**settings):
    layers = [
        keras3.Input((6,)),
        L.Dense(5, "tanh", name="first"),
        L.BatchNormalization(name="norm"),
        L.Dropout(0.5, name="drop", seed=3),
        L.Dense(4, "relu", name="second"),
        L.Dense(4, name="third"),
    ]
    return randomized(keras3.Sequential(layers, name="small", **settings))


def snapshot(model):
    """Everything about a Keras 3 model that a conversion could change."""
    return {
        "values": [np.asarray(variable.value).tobytes() for variable in model.variables],
        "flags": [variable.trainable for variable in model.variables],
        "layers": [layer.trainable for layer in model._flatten_layers()],
        "nodes": [len(layer._inbound_nodes) for layer in model._flatten_layers()],
        "losses": len(model.losses),
        "compiled": model.compiled,
        "optimizer": id(getattr(model, "optimizer", None)),
        "config": repr(model.get_config()),
    }


def altered_rule(monkeypatch, class_name, change):
    """Let the twin of one class of layer be changed once it stands: ``change(links)``."""
    original = walking.native

    def native(layer, names):
        twin = original(layer, names)
        if type(layer).__name__ != class_name and layer.name != class_name:
            return twin
        return replace(twin, links=lambda: change(list(twin.links())))

    monkeypatch.setattr(walking, "native", native)


def test_the_evidence_is_measured_and_frozen():
    model = small()
    twin = to_tf_keras(model, check=RNG.normal(size=(7, 6)).astype("float32"))
    found = conversion_of(twin)
    assert isinstance(twin, keras2.Sequential)
    assert isinstance(found, Conversion)
    assert found.to == "tf_keras"
    assert found.weights == len(model.weights) == len(twin.weights) == 10
    assert found.parameters == model.count_params() == twin.count_params()
    kinds = [(layer.name, layer.class_name, layer.how) for layer in found.layers]
    assert kinds == [(layer.name, type(layer).__name__, "native") for layer in model.layers]
    random, given = found.parity
    assert (random.rows, random.calibrated, random.on_user_data) == (8, True, False)
    assert (given.rows, given.calibrated, given.on_user_data) == (7, False, True)
    assert found.relative_error == max(random.relative_error, given.relative_error) <= 1e-6
    assert random.sensitivity > 0.01
    assert random.finite_fraction == given.finite_fraction == 1.0
    assert "10 weights, 99 parameters; 5 native; outputs differ by 0" in str(found)
    for thing, name in ((found, "weights"), (random, "rows"), (found.layers[0], "how")):
        with pytest.raises(FrozenInstanceError):
            setattr(thing, name, 3)


def test_the_error_of_the_evidence_is_that_of_the_outputs(monkeypatch):
    """A difference below the tolerance is written down as it is."""

    def shifted(links):
        return [
            replace(link, read=lambda one=link.source: np.asarray(one.value) * (1 + 2e-6))
            for link in links
        ]

    altered_rule(monkeypatch, "third", shifted)
    model = small()
    twin = to_tf_keras(model)
    found = conversion_of(twin).parity[0]
    assert 5e-7 < found.relative_error < 4e-6
    assert 0 < found.max_abs_error
    with pytest.raises(VerificationError, match=r"allowed is 1e-07\) on 8 random rows"):
        to_tf_keras(model, tolerance=1e-7)


def test_a_wrong_weight_names_the_first_layer(monkeypatch):
    altered_rule(
        monkeypatch,
        "first",
        lambda links: [replace(links[0], read=lambda: np.ones((6, 5), "float32")), links[1]],
    )
    with pytest.raises(VerificationError, match=r"first layer that differs is 'first' \(Dense\)"):
        to_tf_keras(small())


def test_swapped_weights_of_equal_shape_are_seen(monkeypatch):
    def swapped(links):
        by_name = {link.source.name: link for link in links}
        gamma, beta = by_name["gamma"], by_name["beta"]
        rest = [link for name, link in by_name.items() if name not in ("gamma", "beta")]
        return [
            rules.Link(gamma.source, beta.target),
            rules.Link(beta.source, gamma.target),
            *rest,
        ]

    altered_rule(monkeypatch, "norm", swapped)
    with pytest.raises(VerificationError, match=r"first layer that differs is 'norm' \(BatchNor"):
        to_tf_keras(small())


def test_another_epsilon_is_seen(monkeypatch):
    original = walking.native

    def native(layer, names):
        twin = original(layer, names)
        if layer.name == "norm":
            twin.call.epsilon = 0.5
        return twin

    monkeypatch.setattr(walking, "native", native)
    model = small()
    before = snapshot(model)
    with pytest.raises(VerificationError, match="first layer that differs is 'norm'") as caught:
        to_tf_keras(model)
    assert "\n" not in str(caught.value)
    assert snapshot(model) == before


def test_a_lost_weight_is_named(monkeypatch):
    altered_rule(monkeypatch, "second", lambda links: links[:1])
    with pytest.raises(
        ModelError, match="Without a place in tf_keras: .*second/bias. Without a value: second/bias"
    ):
        to_tf_keras(small())


def test_a_weight_of_another_size_is_named(monkeypatch):
    altered_rule(
        monkeypatch,
        "second",
        lambda links: [
            rules.Link(links[0].source, links[1].target),
            rules.Link(links[1].source, links[0].target),
        ],
    )
    with pytest.raises(ModelError, match=r"'small/second/kernel' .* shape \(5, 4\), and its twin"):
        to_tf_keras(small())


def test_a_changed_trainable_flag_is_named(monkeypatch):
    original = walking.native

    def native(layer, names):
        twin = original(layer, names)
        if layer.name == "second":
            twin.call.trainable = False
        return twin

    monkeypatch.setattr(walking, "native", native)
    with pytest.raises(ModelError, match=r"Weight 'small/second/kernel' is trainable, and its"):
        to_tf_keras(small())


def test_one_frozen_weight_of_a_layer_stays_frozen_alone():
    model = small()
    model.get_layer("second").kernel.trainable = False
    twin = to_tf_keras(model)
    report = {layer.name: layer for layer in conversion_of(twin).layers}["second"]
    assert (report.how, report.note) == ("fallback", "single weights of it are frozen")
    frozen = [weight.name for weight in twin.non_trainable_weights]
    assert [name for name in frozen if "second" in name] == ["second/kernel:0"]


def test_tied_weights_are_refused():
    cell, x = L.LSTMCell(4), keras3.Input((5, 4))
    model = keras3.Model(x, L.RNN(cell)(L.RNN(cell, return_sequences=True)(x)))
    with pytest.raises(ModelError, match=r"kernel' is used by two layers \(tied weights\)"):
        to_tf_keras(model)


def test_dead_outputs_are_compared_layer_by_layer(monkeypatch):
    """Outputs that do not depend on the inputs are equal whatever the layers compute."""

    def dead():
        x = keras3.Input((4,))
        y = L.Dense(4, name="live")(x)
        constant = keras3.initializers.Constant(-1e3)
        y = L.Dense(4, "relu", bias_initializer=constant, name="dead")(y)
        return keras3.Model(x, L.Dense(2, name="head")(y))

    found = conversion_of(to_tf_keras(dead())).parity[0]
    assert found.sensitivity < 1e-3
    altered_rule(
        monkeypatch,
        "live",
        lambda links: [replace(links[0], read=lambda: np.ones((4, 4), "float32")), links[1]],
    )
    with pytest.raises(VerificationError, match=r"first layer that differs is 'live' \(Dense\)"):
        to_tf_keras(dead())


def test_one_fixed_row_is_compared_layer_by_layer(monkeypatch):
    def one_row():
        x = keras3.Input(batch_shape=(1, 4))
        y = L.Dense(3, name="live")(x)
        return keras3.Model(x, L.Dense(2, "relu", kernel_initializer="zeros")(y))

    assert conversion_of(to_tf_keras(one_row())).parity[0].sensitivity == 0.0
    altered_rule(
        monkeypatch,
        "live",
        lambda links: [replace(links[0], read=lambda: np.ones((4, 3), "float32")), links[1]],
    )
    with pytest.raises(VerificationError, match="first layer that differs is 'live'"):
        to_tf_keras(one_row())


def test_the_keras_3_model_is_not_changed():
    model = small()
    model.get_layer("second").trainable = False
    model.compile("adam", "mse")
    model.fit(np.ones((4, 6)), np.ones((4, 4)), verbose=0)
    before = snapshot(model)
    twin = to_tf_keras(model)
    assert snapshot(model) == before
    assert twin.optimizer is None
    assert conversion_of(twin).notices == (
        "the optimizer and its state were left behind; compile the model again",
    )
    twin.compile("sgd", "mse")
    twin.fit(np.ones((4, 6)), np.ones((4, 4)), verbose=0)
    assert snapshot(model) == before


def test_frozen_parts_stay_frozen():
    base = keras3.Sequential([keras3.Input((4,)), L.Dense(4), L.BatchNormalization()], name="base")
    base.trainable = False
    x = keras3.Input((4,))
    model = randomized(keras3.Model(x, L.Dense(2, name="head")(base(x, training=False))))
    twin = to_tf_keras(model)
    assert [weight.name for weight in twin.trainable_weights] == ["head/kernel:0", "head/bias:0"]
    assert conversion_of(twin).parity[0].calibrated is False


class Own(keras3.Model):
    def call(self, inputs):
        return super().call(inputs) * 2


class OwnStep(keras3.Model):
    def train_step(self, *arguments):
        return super().train_step(*arguments)


def with_class(kind):
    x = keras3.Input((4,))
    return kind(x, L.Dense(3)(x), name="own")


def test_models_that_cannot_be_seen_into():
    for model, message in (
        (with_class(Own), r"'own' is a subclassed Keras 3 model \(Own\)"),
        (keras3.Sequential([L.Dense(3)], name="s"), "'s' has no input shape. Put keras.Input"),
        (keras3.Sequential([], name="s"), "'s' has no layers"),
        (keras3.Sequential([keras3.Input((3,))], name="s"), "'s' has no layers"),
        (L.Dense(3), "is a Keras 3 Dense, not a model. Put it into one"),
        (keras3.optimizers.Adam(), "is a Keras 3 Adam, not a model"),
        (keras3.Variable(1.0), "is a Keras 3 Variable, not a model"),
        (3, "must be a tf_keras.Model. Received: builtins.int"),
        (keras2.layers.Dense(2), "must be a tf_keras.Model. Received: tf_keras.src.layers"),
    ):
        with pytest.raises(ModelError, match=message):
            to_tf_keras(model)


def test_an_own_train_step_is_left_behind_with_a_notice():
    found = conversion_of(to_tf_keras(with_class(OwnStep)))
    assert found.notices == ("the train_step() of OwnStep was left behind",)


def test_a_tf_keras_model_is_returned_as_it_is():
    model = keras2.Sequential([keras2.Input((3,)), keras2.layers.Dense(2)])
    assert to_tf_keras(model) is model


def two_inputs(structure):
    a, b = keras3.Input((4,), name="a"), keras3.Input((2,), name="b")
    y = L.Dense(3, name="dense")(L.Concatenate()([a, b]))
    return keras3.Model({"a": a, "b": b} if structure == "dict" else [a, b], y)


A, B = RNG.normal(size=(3, 4)).astype("float32"), RNG.normal(size=(3, 2)).astype("float32")


@pytest.mark.parametrize("structure", ["dict", "list"])
def test_given_inputs_of_many_kinds(structure):
    model = two_inputs(structure)
    kinds = [{"a": A, "b": B}, [A, B], (A, B)] if structure == "list" else [{"b": B, "a": A}]
    data = {"a": A, "b": B}
    kinds.append(tf.data.Dataset.from_tensor_slices(data).batch(3))
    kinds.append(tf.data.Dataset.from_tensor_slices((data, np.zeros(3))).batch(3))
    for given in kinds:
        last = conversion_of(to_tf_keras(model, check=given)).parity[-1]
        assert (last.rows, last.on_user_data) == (3, True)
        assert last.relative_error <= 1e-6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": A, "c": B}, r"no entry 'b'. The model's inputs are \['a', 'b'\]; .*\['a', 'c'\]"),
        ([A], "has 2 inputs; the data to check with has 1"),
        (A, "has 2 inputs; the data to check with has 1"),
        ([A, A], r"input 'b' takes the shape \(None, 2\); the data .* has \(3, 4\)"),
        ([A[:0], B[:0]], r"has \(0, 4\)"),
        (tf.data.Dataset.from_tensor_slices({"a": A, "b": B}).take(0), "an empty dataset"),
        (tf.data.Dataset.from_tensor_slices({"a": A, "b": B}), r"takes the shape \(None, 4\)"),
    ],
)
def test_given_inputs_that_do_not_fit(given, message):
    with pytest.raises(InputError, match=message) as caught:
        to_tf_keras(two_inputs("list"), check=given)
    assert "\n" not in str(caught.value)


def test_a_model_that_fails_to_run_is_told_from_a_bad_conversion():
    x = keras3.Input((None,))
    model = keras3.Model(x, keras3.ops.reshape(x, (-1, 7)))
    with pytest.raises(
        ModelError, match=r"Keras 3 model fails on random inputs of the shapes \[\(8, 16\)\]"
    ) as caught:
        to_tf_keras(model)
    assert "\n" not in str(caught.value)


def test_outputs_that_are_not_finite():
    x = keras3.Input((4,))
    some = to_tf_keras(keras3.Model(x, keras3.ops.log(x)))
    assert 0 < conversion_of(some).parity[0].finite_fraction < 1
    none = keras3.Model(x, keras3.ops.log(x - 100.0))
    with pytest.raises(VerificationError, match="All outputs of the model are NaN or infinite"):
        to_tf_keras(none)
    with pytest.raises(VerificationError, match="NaN or infinite on given inputs"):
        to_tf_keras(none, check=np.ones((2, 4), "float32"))
    found = conversion_of(to_tf_keras(none, check=np.full((2, 4), 102.0, "float32")))
    assert [one.on_user_data for one in found.parity] == [True]


def variables_of_shape(shape):
    gc.collect()
    return sum(isinstance(one, tf.Variable) and one.shape == shape for one in gc.get_objects())


def test_no_copy_of_the_weights_stays():
    model = keras3.Sequential([keras3.Input((37,)), L.Dense(41), L.BatchNormalization()])
    assert variables_of_shape((37, 41)) == 1
    twin = to_tf_keras(model)
    assert variables_of_shape((37, 41)) == 2
    arrays = [
        one
        for one in gc.get_objects()
        if isinstance(one, np.ndarray | tf.Tensor) and one.shape == (37, 41)
    ]
    assert arrays == []
    gone = weakref.ref(model), weakref.ref(model.layers[0])
    del model
    assert variables_of_shape((37, 41)) == 1
    assert [one() for one in gone] == [None, None]
    assert twin.count_params() == 37 * 41 + 41 * 5


def test_no_copy_of_the_weights_of_a_fallback_layer_stays():
    x = keras3.Input((5, 43))
    layer = L.GroupQueryAttention(head_dim=3, num_query_heads=2, num_key_value_heads=1)
    model = keras3.Model(x, layer(x, x))
    del x, layer
    twin = to_tf_keras(model)
    assert {one.how for one in conversion_of(twin).layers} == {"fallback"}
    assert variables_of_shape((43, 2, 3)) == 2
    gone = weakref.ref(model)
    del model
    assert variables_of_shape((43, 2, 3)) == 1
    assert gone() is None
    assert len(twin.weights) == 8


def test_a_conversion_that_fails_leaves_nothing_behind(monkeypatch):
    altered_rule(
        monkeypatch,
        "second",
        lambda links: [replace(links[0], read=lambda: np.ones((47, 4), "float32")), links[1]],
    )
    model = keras3.Sequential(
        [keras3.Input((6,)), L.Dense(47, name="first"), L.Dense(4, name="second")]
    )
    with pytest.raises(VerificationError, match="'second'"):
        to_tf_keras(model)
    assert variables_of_shape((6, 47)) == 1
