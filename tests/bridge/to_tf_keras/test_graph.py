"""Odd Keras 3 graphs: converted with nothing changed, or refused in one line."""

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf

from tfopt.bridge.provenance import conversion_of
from tfopt.bridge.to_keras3.convert import to_keras3
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.bridge.to_tf_keras.graph import walk
from tfopt.bridge.to_tf_keras.keras3_graph import nodes_of, users_of_layers
from tfopt.errors import ModelError, TfoptError
from tfopt.keras2.core import keras as keras2

L, ops, Input, Model = keras3.layers, keras3.ops, keras3.Input, keras3.Model
register = keras3.saving.register_keras_serializable("tests_walk")
MODELS = {}


def model(function):
    MODELS[function.__name__] = function
    return function


@register
class Scaled(L.Layer):
    """A layer without weights, with an argument that shows."""

    def __init__(self, factor=2.0, **settings):
        super().__init__(**settings)
        self.factor = factor

    def call(self, inputs, shift=0.0):
        return {"scaled": inputs * self.factor, "both": [inputs + shift, inputs]}

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@register
class Unnamed(L.Layer):
    """Its weight has no name, so Keras 3 numbers it."""

    def build(self, input_shape):
        self.table = self.add_weight(shape=(input_shape[-1], 3))

    def call(self, inputs):
        return inputs @ self.table


@register
class Optional(L.Layer):
    def call(self, inputs, extra=None):
        return inputs if extra is None else inputs + extra


@register
class TwiceCalled(Model):
    """A Functional model whose ``call`` does more than its graph says."""

    def call(self, inputs):
        return super().call(inputs) * 2.0


@register
class Subclassed(Model):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.dense = L.Dense(3, name="dense")

    def call(self, inputs):
        return self.dense(inputs)


def line(*layers, name=None, shape=(4,)):
    return keras3.Sequential([Input(shape), *layers], name=name)


@model
def no_layer():
    x = Input((4,))
    return Model(x, x)


@model
def input_is_an_output():
    x = Input((4,))
    return Model(x, [x, L.Dense(3)(x)])


@model
def output_twice():
    x = Input((4,))
    y = L.Dense(3)(x)
    return Model(x, {"a": y, "b": y})


@model
def scalar_output():
    x = Input((4,))
    return Model(x, ops.sum(L.Dense(3)(x)))


@model
def scalar_input():
    x = Input(())
    return Model(x, L.Dense(2)(ops.expand_dims(x, -1)))


@model
def open_sides():
    x = Input((None, None, 3))
    return Model(x, L.GlobalAveragePooling2D()(L.Conv2D(4, 3, padding="same")(x)))


@model
def open_steps():
    x = Input((None, 5))
    return Model(x, L.LSTM(3)(L.Conv1D(4, 3, padding="causal")(x)))


@model
def fixed_batch():
    x = Input(batch_shape=(3, 4))
    return Model(x, L.Dense(2)(x))


@model
def fixed_row():
    x = Input(batch_shape=(1, 8, 8, 3))
    return Model(x, L.Flatten()(L.BatchNormalization()(L.Conv2D(4, 3)(x))))


@model
def whole_numbers_out():
    x = Input((4,))
    return Model(x, ops.argmax(L.Dense(5)(x), axis=-1))


@model
def truth_values_out():
    x = Input((4,))
    return Model(x, L.Dense(5)(x) > 0.0)


@model
def words_in():
    x = Input((1,), dtype="string")
    return Model(x, L.Embedding(4, 3)(L.StringLookup(vocabulary=["a", "b"])(x)))


@model
def equal_names_at_other_depths():
    x = y = Input((4,), name="in")
    for name in ("a", "b"):
        inner = Input((4,), name="in")
        y = Model(inner, L.Dense(4, name="dense")(inner), name=name)(y)
    return Model(x, L.Dense(2, name="dense")(y), name="a")


@model
def inner_model_called_twice():
    inner, x = line(L.Dense(4, "relu"), L.BatchNormalization()), Input((4,))
    return Model(x, inner(inner(x)))


@model
def eleven_models_deep():
    found = line(L.Dense(4, name="d"), name="m")
    for _ in range(10):
        x = Input((4,))
        found = Model(x, L.Dense(4, name="d")(found(x)), name="m")
    return found


@model
def two_hundred_layers_deep():
    x = y = Input((4,))
    for _ in range(200):
        y = L.Dense(4, "tanh")(y)
    return Model(x, y)


@model
def dict_of_lists():
    a, b, c = (Input((4,), name=name) for name in "abc")
    return Model({"x": [a, b], "y": {"z": c}}, {"o": [L.Add()([a, b]), L.Dense(2)(c)]})


@model
def list_of_dicts():
    a, b = Input((4,), name="a"), Input((4,), name="b")
    return Model([{"x": a}, b], [{"p": L.Dense(2)(a)}, (L.Dense(2)(b),)])


@model
def inner_model_called_on_a_dict():
    a, b = Input((4,), name="p"), Input((4,), name="q")
    inner = Model({"p": a, "q": b}, {"s": L.Add()([a, b]), "r": L.Dense(2)(a)})
    x = Input((4,))
    found = inner({"q": x, "p": L.Dense(4)(x)})
    return Model(x, [found["r"], found["s"]])


@model
def one_tensor_as_two_inputs():
    a, b, x = Input((4,)), Input((4,)), Input((4,))
    return Model(x, Model([a, b], L.Concatenate()([a, b]))([x, x]))


@model
def unused_input():
    a, b = Input((4,), name="a"), Input((4,), name="b")
    return Model([a, b], L.Dense(2)(a))


@model
def unused_outputs():
    x = Input((6, 4))
    _, state, _ = L.LSTM(3, return_state=True)(x)
    first, _ = ops.split(x, 2, axis=1)
    return Model(x, [state, L.Dense(2)(first)])


@model
def unused_output_of_an_inner_model():
    a, x = Input((4,)), Input((4,))
    return Model(x, Model(a, [L.Dense(2)(a), L.Dense(3)(a)])(x)[0])


@model
def optional_input():
    a, b = Input((4,), name="a"), Input((4,), name="b", optional=True)
    return Model([a, b], Optional()(a, b))


@model
def sparse_input():
    x = Input((6,), sparse=True)
    return Model(x, L.Dense(3)(x))


@model
def penalties():
    x = Input((4,))
    y = L.Dense(4, activity_regularizer="l2", kernel_regularizer="l1")(x)
    return Model(x, L.ActivityRegularization(l1=0.1)(y))


@model
def stateful():
    x = Input(batch_shape=(2, 5, 4))
    y = L.LSTM(3, stateful=True, return_sequences=True)(x)
    return Model(x, L.Bidirectional(L.GRU(3, stateful=True))(y))


@model
def wrappers_of_wrappers():
    x = Input((3, 5, 4))
    y = L.TimeDistributed(L.Bidirectional(L.LSTM(3, return_sequences=True)))(x)
    y = L.TimeDistributed(L.TimeDistributed(L.Dense(3)))(y)
    return Model(x, L.TimeDistributed(line(L.Flatten(), L.Dense(2), shape=(5, 3)))(y))


@model
def spectral_norm_before_batch_norm():
    x = Input((8, 8, 3))
    return Model(x, L.BatchNormalization()(L.SpectralNormalization(L.Conv2D(4, 3))(x)))


@model
def policy_map():
    policies = keras3.dtype_policies.DTypePolicyMap(default_policy="float32")
    return line(L.Dense(3, name="d", dtype=policies), L.Dense(2, dtype="mixed_float16"))


@model
def double_precision():
    x = Input((4,), dtype="float64")
    return Model(x, L.Dense(3, dtype="float64")(x))


@model
def layers_of_another_model():
    dense, x, y = L.Dense(4), Input((4,)), Input((4,))
    Model(x, dense(x))
    return Model(y, L.Dense(2)(dense(y)))


@model
def from_the_middle_of_another_model():
    x = Input((4,))
    hidden = L.Dense(4)(x)
    later = L.Dense(4)(hidden)
    Model(x, L.Dense(2)(later))
    return Model(hidden, later)


@model
def features_of_a_sequential_model():
    inner = line(L.Dense(3, name="q"), L.Dense(2))
    return Model(inner.inputs, [inner.get_layer("q").output, inner.outputs[0]])


@model
def layer_inside_and_outside():
    dense, x = L.Dense(4), Input((4,))
    return Model(x, dense(line(dense)(x)))


@model
def subclassed_inside():
    x = Input((4,))
    return Model(x, L.Dense(2)(Subclassed()(x)))


@model
def own_call_inside():
    x, y = Input((4,)), Input((4,))
    return Model(y, L.Dense(2)(TwiceCalled(x, L.Dense(3)(x))(y)))


@model
def own_layer_with_structure():
    x = Input((4,))
    found = Scaled(factor=3.0)(x, shift=1.0)
    return Model(x, [found["scaled"], found["both"][0]])


@model
def weight_without_a_name():
    return line(Unnamed())


@model
def names_that_tensorflow_refuses():
    x = Input((4,), name="é")
    return Model(x, L.Dense(3, name="a b")(L.Dense(3, name="Schicht_ü")(x)), name="modèle")


@model
def frozen_inside():
    inner = line(L.Dense(3, name="f"), L.BatchNormalization(), L.Dense(2))
    inner.layers[0].trainable = False
    x = Input((4,))
    return Model(x, inner(x))


@model
def compiled():
    found = line(L.Dense(3))
    found.compile("adam", "mse")
    return found


@model
def constants():
    x = Input((4,))
    return Model(x, x + ops.ones((4,)) * 3 + np.arange(4.0, dtype="float32"))


@model
def sliced():
    x = Input((4, 5))
    return Model(x, x[:, 0, ::2] + x[..., 1:4][:, 1])


def state_of(one):
    return (
        [np.asarray(variable.value).tobytes() for variable in one.variables],
        [variable.trainable for variable in one.variables],
        [len(layer._inbound_nodes) for layer in one._flatten_layers()],
        repr(one.get_config()),
    )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_odd_models_go_over_and_come_back(name):
    original = MODELS[name]()
    before = state_of(original)
    twin = to_tf_keras(original)
    assert state_of(original) == before
    if all(one.how == "native" for one in conversion_of(twin).layers):
        assert isinstance(twin, keras2.Sequential) == isinstance(original, keras3.Sequential)
    assert conversion_of(twin).relative_error <= (2e-3 if name == "policy_map" else 1e-6)
    names = [layer.name for layer in twin._flatten_layers(include_self=False, recursive=False)]
    assert len(names) == len(set(names))
    if not isinstance(original, keras3.Sequential):
        tf.nest.assert_same_structure(
            twin._nested_outputs, original._outputs_struct, check_types=False
        )
    back = to_keras3(twin)
    assert type(back) is type(original) or "built anew" in conversion_of(back).notices[0]
    assert len(back.weights) == len(original.weights)
    for one, other in zip(back.weights, original.weights, strict=True):
        np.testing.assert_array_equal(one.value, other.value)


@register
class Raising(L.Layer):
    """Fails with any error at all once it meets numbers."""

    def call(self, inputs):
        if not isinstance(inputs, keras3.KerasTensor):
            raise KeyError("boom\nboom")
        return inputs

    def compute_output_spec(self, inputs):
        return keras3.KerasTensor(inputs.shape, inputs.dtype)


class Unregistered(L.Layer):
    def call(self, inputs):
        return inputs


def tied_to_an_operation():
    x = Input((3,), dtype="int32")
    table = L.Embedding(10, 4, name="table")
    y = table(x)

    class Project(L.Layer):
        def call(self, inputs, kernel):
            return inputs @ ops.transpose(kernel)

    return Model(x, Project()(y, table.embeddings.value))


def partly_thawed():
    found = line(L.Dense(3, name="a"), L.Dense(2, name="b"))
    found.trainable = False
    found.layers[1].trainable = True
    return found


def shared_inside_wrappers():
    dense, x = L.Dense(4), Input((3, 4))
    return Model(x, L.TimeDistributed(dense)(L.TimeDistributed(dense)(x)))


def loose_weight():
    found = line(L.Dense(3), name="net")
    found.extra = found.add_weight(shape=(2,), name="extra")
    return found


REFUSED = {
    "raising": (lambda: line(Raising(name="bad")), "Raising 'bad' cannot be called like it.*boom"),
    "unregistered": (
        lambda: line(Unregistered(name="own")),
        "Layer 'own' .*Unregistered.*register_keras_serializable",
    ),
    "tied variable": (tied_to_an_operation, r"called on the weight .*\(tied weights\)"),
    "partly thawed": (partly_thawed, "b/kernel' is not trainable"),
    "shared by wrappers": (shared_inside_wrappers, r"used by two layers \(tied weights\)"),
    "loose weight": (loose_weight, "Without a place in tf_keras: net/extra"),
    "lambda activation": (
        lambda: line(L.Dense(2, activation=lambda x: x * 3, name="d")),
        "Layer 'd' .*Dense",
    ),
    "own call": (
        lambda: TwiceCalled(*[Input((4,), name="x")] * 2, name="t"),
        r"'t' is a subclassed Keras 3 model \(TwiceCalled\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_models_that_cannot_go_over_are_refused_in_one_line(name):
    make, message = REFUSED[name]
    with pytest.raises(TfoptError, match=message) as caught:
        to_tf_keras(make())
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 900


def test_each_layer_has_one_twin_however_often_it_is_called():
    dense, x = L.Dense(4, name="dense"), Input((4,))
    walked = walk(Model(x, dense(dense(x)) + dense(x)))
    assert len(walked.links) == len(walked.model.weights) == 2
    assert len(walked.model.get_layer("dense")._inbound_nodes) == 3
    assert [one.name for one in walked.layers].count("dense") == 1


def test_nodes_come_in_the_order_they_run():
    x = Input((4,))
    y = L.Dense(4, name="first")(x)
    found = nodes_of(Model(x, L.Dense(2, name="last")(L.Dense(3, name="middle")(y))))
    names = [node.operation.name for node in found if not node.is_input]
    assert names == ["first", "middle", "last"]


def test_users_of_layers():
    dense, x = L.Dense(4), Input((4,))
    inner = line(dense)
    outer = Model(x, dense(inner(x)))
    users = users_of_layers(outer)
    assert users[id(dense)] == {id(outer), id(inner)}
    assert users[id(inner)] == {id(outer)}


def test_masks_and_training_reach_the_twin():
    x = Input((5,), dtype="int32")
    y = L.Embedding(6, 4, mask_zero=True)(x)
    y = L.Dropout(0.5, name="drop")(y, training=True)  # fit and predict of Keras 3 override it
    found = Model(x, L.LSTM(3)(y))
    twin = to_tf_keras(found)
    data = np.array([[1, 2, 0, 0, 0], [3, 0, 0, 0, 0]])
    np.testing.assert_allclose(
        twin.predict(data, verbose=0), found.predict(data, verbose=0), atol=1e-6
    )


def test_one_step_of_training_gives_the_same_weights():
    layers = [L.Conv2D(3, 3, kernel_regularizer="l2"), L.BatchNormalization(), L.Flatten()]
    found = line(*layers, L.Dense(2, "softmax"), shape=(6, 6, 1))
    twin = to_tf_keras(found)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 6, 6, 1)), rng.integers(0, 2, 8)
    for kit, one in ((keras3, found), (keras2, twin)):
        one.compile(kit.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        one.fit(x, y, epochs=1, batch_size=8, verbose=0)
    for ours, theirs in zip(found.weights, twin.weights, strict=True):
        np.testing.assert_allclose(ours.value, theirs.numpy(), atol=1e-5)


def test_outputs_of_another_number_are_named(monkeypatch):
    from dataclasses import replace

    import tfopt.bridge.to_tf_keras.graph as walking

    original = walking.native

    def native(layer, names):
        twin = original(layer, names)
        return replace(twin, call=lambda *a, **k: [twin.call(*a, **k)] * 2)

    monkeypatch.setattr(walking, "native", native)
    monkeypatch.setattr(walking, "_require_arguments", lambda *given: None)
    x = Input((4,))
    with pytest.raises(ModelError, match="Dense 'd' has 1 outputs in Keras 3 and 2 in tf_keras"):
        walk(Model(x, L.Dense(2, name="d")(x)))
