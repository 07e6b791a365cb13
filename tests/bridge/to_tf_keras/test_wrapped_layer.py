"""A Keras 3 layer run inside tf_keras: its numbers, its state, its weights, its file."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import ops

from tfopt.bridge.serialization import to_config
from tfopt.bridge.to_tf_keras.twin import Names, Twin
from tfopt.bridge.to_tf_keras.wrapped_layer import OBJECTS, Keras3Layer, fallback
from tfopt.errors import ModelError
from tfopt.keras2.core import keras as keras2

_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(8, 6)).astype("float32")
STEPS = _RNG.normal(size=(4, 5, 3)).astype("float32")
_registered = keras3.saving.register_keras_serializable("tfopt_test_fallback")


@_registered
class Block(keras3.Layer):
    """Sublayers built lazily, a regularizer, add_loss, dropout and a moving average."""

    def __init__(self, units: int, rate: float = 0.0, **settings: Any) -> None:
        super().__init__(**settings)
        self.units, self.rate = units, rate
        self.first = keras3.layers.Dense(units, kernel_regularizer="l2", activation="hard_silu")
        self.second = keras3.layers.Dense(units, use_bias=False, name="second")
        self.dropout = keras3.layers.Dropout(rate, seed=3)

    def build(self, shape: Any) -> None:
        self.first.build(shape)
        self.second.build((*shape[:-1], self.units))
        self.mean = self.add_weight(name="mean", shape=(self.units,), trainable=False)
        self.scale = self.add_weight(
            name="scale", shape=(), initializer="ones", constraint=keras3.constraints.NonNeg()
        )

    def call(self, x: Any, training: bool = False) -> Any:
        hidden = self.dropout(self.first(x))
        if training:
            self.mean.assign(0.9 * self.mean + 0.1 * ops.mean(hidden, axis=0))
        self.add_loss(0.01 * ops.mean(ops.square(hidden)))
        return self.scale * (self.second(hidden) - self.mean)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "rate": self.rate}


@_registered
class MaskedMean(keras3.Layer):
    """Uses a mask, and ends it."""

    def call(self, x: Any, mask: Any = None) -> Any:
        weights = ops.cast(ops.ones_like(x[..., 0]) if mask is None else mask, x.dtype)[..., None]
        return ops.sum(x * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1)


@_registered
class PassesMask(keras3.Layer):
    """Drops the first step of the tensor and of its mask."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.supports_masking = True

    def call(self, x: Any) -> Any:
        return x[:, 1:]

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return None if previous_mask is None else previous_mask[:, 1:]


@_registered
class Lazy(keras3.Layer):
    """No build method: the layers inside are built by the call."""

    def __init__(self, units: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.units = units
        self.first, self.second = keras3.layers.Dense(units), keras3.layers.Dense(units)

    def call(self, x: Any, scale: Any = None, flip: bool = False) -> Any:
        y = self.second(ops.relu(self.first(x)))
        y = y if scale is None else y * scale
        return -y if flip else y

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@_registered
class Mixer(keras3.Layer):
    """A dict, a list and a keyword in; a dict out."""

    def call(self, pair: Any, others: Any = None, *, shift: float = 0.0) -> Any:
        total = pair["a"] * 2 - pair["b"] + shift
        return {"total": total, "others": ops.concatenate(others, axis=-1)}


def _convert(model: Any, custom: tuple[type, ...] = ()) -> tuple[Any, list[Twin]]:
    """Return the tf_keras graph of a Keras 3 model, every layer by the fallback."""
    names, twins = Names(), {}
    inputs = [
        keras2.Input(batch_shape=tuple(t.shape), dtype=t.dtype, name=names.take(t.name))
        for t in model.inputs
    ]
    table = {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}
    nodes = [
        n for d in sorted(model._nodes_by_depth, reverse=True) for n in model._nodes_by_depth[d]
    ]
    for node in nodes:
        op = node.operation
        if node.is_input or not isinstance(op, keras3.Layer):
            continue
        args, kwargs = keras3.tree.map_structure(
            lambda value: table.get(id(value), value), (node.arguments.args, node.arguments.kwargs)
        )
        kwargs = {key: value for key, value in kwargs.items() if key not in ("mask", "training")}
        if id(op) not in twins:
            twins[id(op)] = fallback(op, names)
        outputs = keras3.tree.flatten(twins[id(op)].call(*args, **kwargs))
        table.update((id(old), new) for old, new in zip(node.outputs, outputs, strict=True))
    twin = keras2.Model(inputs, [table[id(tensor)] for tensor in model.outputs])
    links = [link for one in twins.values() for link in one.links()]
    assert sorted(id(link.source) for link in links) == sorted(id(w) for w in model.weights)
    assert sorted(id(link.target) for link in links) == sorted(id(w) for w in twin.weights)
    for link in links:
        link.forward()
    return twin, list(twins.values())


def _loaded(model: Any, path: Path) -> Any:
    if path.suffix == ".h5":
        with pytest.warns(UserWarning, match="HDF5"):
            model.save(path)
    else:
        model.save(path)
    return keras2.models.load_model(path, custom_objects=dict(OBJECTS), compile=False)


def _same(twin: Any, source: Any, *arrays: np.ndarray, tolerance: float = 1e-6) -> None:
    ours = [np.asarray(one) for one in tf.nest.flatten(twin(list(arrays), training=False))]
    theirs = [np.asarray(one) for one in keras3.tree.flatten(source(list(arrays), training=False))]
    assert [one.dtype for one in ours] == [one.dtype for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(
            one.astype("float32"), other.astype("float32"), rtol=tolerance, atol=tolerance
        )


def _shake(model: Any) -> Any:
    """Give every weight another value, so that a weight that is not copied is seen."""
    for weight in model.weights:
        weight.assign(_RNG.uniform(0.1, 0.6, tuple(weight.shape)))
    return model


def _block_model(**settings: Any) -> Any:
    tensor = keras3.Input((6,))
    return _shake(keras3.Model([tensor], Block(4, name="block", **settings)(tensor)))


def _train(model: Any, keras: Any, steps: int = 1, *, eager: bool = False) -> list[float]:
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=eager, jit_compile=False)
    targets = np.zeros((8, 4), "float32")
    options = {"epochs": steps, "batch_size": 8, "shuffle": False, "verbose": 0}
    return list(model.fit([X], targets, **options).history["loss"])


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_same_numbers_before_and_after_a_file(tmp_path: Path, suffix: str) -> None:
    source = _block_model()
    twin, _ = _convert(source)
    _same(twin, source, X)
    again = _loaded(twin, tmp_path / f"model.{suffix}")
    _same(again, source, X)
    assert [w.trainable for w in again.weights] == [w.trainable for w in twin.weights]


def test_weights_keep_names_types_and_flags() -> None:
    twin, _ = _convert(_block_model())
    names = sorted(weight.name.split(":")[0].partition("/")[2] for weight in twin.weights)
    assert names[-3:] == ["mean", "scale", "second/kernel"]
    assert [one.endswith(("/bias", "/kernel")) for one in names[:2]] == [True, True]
    frozen = [weight.name for weight in twin.non_trainable_weights]
    assert frozen == ["block/mean:0"]


def test_there_is_one_copy_of_each_weight() -> None:
    twin, _ = _convert(_block_model())
    layer = twin.get_layer("block")
    assert {id(v.value) for v in layer.keras3_weights()} == {id(w) for w in layer.weights}
    layer.weights[0].assign(tf.zeros_like(layer.weights[0]))
    assert not layer.keras3_weights()[0].numpy().any()


def test_the_values_keras3_began_with_are_freed() -> None:
    layer = keras3.layers.Dense(4, name="dense")
    layer.build((None, 6))
    twin = Keras3Layer(to_config(layer, "dense"))
    inner = twin._held.layer
    inner.build((None, 6))
    began = weakref.ref(inner.kernel.value)
    tensors, _ = twin.add_call([keras2.Input((6,))], {})
    twin(tensors[0])
    gc.collect()
    assert began() is None


@pytest.mark.parametrize("eager", [True, False])
def test_training_gives_the_weights_of_keras3(eager: bool) -> None:
    source = _block_model(rate=0.5)
    source([X], training=True)  # so that its seeds are no longer those of its config
    twin, _ = _convert(source)
    losses = _train(source, keras3, 3, eager=eager), _train(twin, keras2, 3, eager=eager)
    # The loss holds mse, the regularizer and add_loss; dropout draws from the same seeds.
    np.testing.assert_allclose(*losses, rtol=1e-5)
    by_name = {v.path.partition("/")[2]: v for v in source.weights}
    for ours, inner in zip(twin.weights, twin.layers[-1].weights, strict=True):
        assert ours is inner
    for variable, theirs in zip(
        twin.get_layer("block").keras3_weights(), source.layers[-1].weights, strict=True
    ):
        np.testing.assert_allclose(variable.numpy(), theirs.numpy(), atol=1e-5)
    assert by_name["mean"].numpy().any()


def test_losses_are_those_of_keras3() -> None:
    source = _block_model()
    twin, _ = _convert(source)
    source([X])
    twin([X])
    assert float(sum(twin.losses)) == pytest.approx(float(sum(source.losses)), rel=1e-6)
    assert float(sum(twin.losses)) > 0


def test_a_shared_layer_penalizes_its_weights_once() -> None:
    tensor, other = keras3.Input((6,)), keras3.Input((6,))
    block = Block(4)
    source = _shake(keras3.Model([tensor, other], [block(tensor), block(other)]))
    twin, twins = _convert(source)
    assert len(twins) == 1
    _same(twin, source, X, X + 1)
    source([X, X + 1])
    twin([X, X + 1])
    assert float(sum(twin.losses)) == pytest.approx(float(sum(source.losses)), rel=1e-6)


def test_frozen_layers_stay_frozen_and_thaw(tmp_path: Path) -> None:
    source = _block_model()
    source.layers[-1].trainable = False
    twin, _ = _convert(source)
    assert twin.trainable_weights == []
    source([X])
    twin([X])
    assert float(sum(twin.losses)) == pytest.approx(float(sum(source.losses)), rel=1e-6)
    again = _loaded(twin, tmp_path / "model.keras")
    assert again.trainable_weights == []
    again.get_layer("block").trainable = True
    assert len(again.trainable_weights) == 4


def test_a_frozen_part_of_a_layer_stays_frozen(tmp_path: Path) -> None:
    source = _block_model()
    source.layers[-1].first.trainable = False
    twin, _ = _convert(source)
    again = _loaded(twin, tmp_path / "model.keras")
    for model in (twin, again):
        assert len(model.trainable_weights) == 2
        assert not model.get_layer("block")._held.layer.first.trainable
    before = again.get_layer("block")._held.layer.first.kernel.numpy()
    _train(again, keras2)
    np.testing.assert_array_equal(again.get_layer("block")._held.layer.first.kernel, before)


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
def test_dtype_policies_are_kept(tmp_path: Path, policy: str) -> None:
    source = _block_model(dtype=policy)
    twin, _ = _convert(source)
    _same(twin, source, X)
    types = [v.dtype for v in source.layers[-1].weights]
    assert [v.value.dtype.name for v in twin.get_layer("block").keras3_weights()] == types
    if policy != "bfloat16":  # tf_keras cannot write such weights, those of its own layers neither
        _same(_loaded(twin, tmp_path / "model.keras"), source, X)


def _masked(last: Callable[[Any], Any]) -> Any:
    ids = keras3.Input((5,), dtype="int32")
    embedded = keras3.layers.Embedding(7, 3, mask_zero=True)(ids)
    return keras3.Model([ids], last(embedded))


@pytest.mark.filterwarnings("ignore:.*does not support masking:UserWarning")  # as in Keras 3
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_masks_reach_the_layer_and_what_follows(tmp_path: Path, suffix: str) -> None:
    def last(x: Any) -> Any:
        shorter = PassesMask(name="shorter")(x)
        return [
            MaskedMean()(shorter),
            keras3.layers.GRU(2)(shorter),
            MaskedMean()(keras3.layers.LSTM(2, return_sequences=True, name="steps")(shorter)),
        ]

    ids = np.array([[1, 2, 3, 0, 0], [4, 0, 0, 0, 0], [1, 1, 1, 1, 1]], "int32")
    source = _shake(_masked(last))
    twin, _ = _convert(source)
    _same(twin, source, ids)
    _same(_loaded(twin, tmp_path / f"model.{suffix}"), source, ids)
    for shorter in twin.get_layer("shorter").output, twin.get_layer("steps").output:
        assert shorter._keras_mask.shape.as_list() == [None, 4]
    embedding = source.layers[1]
    zero = embedding(np.zeros((1, 1), "int32"))
    assert np.abs(zero).min() > 0.01, "the padding must matter, or the masks prove nothing"


def test_dicts_lists_and_keywords(tmp_path: Path) -> None:
    a, b = keras3.Input((3,)), keras3.Input((3,))
    out = Mixer()({"b": b, "a": a}, others=[a, b, a], shift=0.5)
    source = keras3.Model([a, b], [out["total"], out["others"]])
    twin, _ = _convert(source)
    arrays = X[:, :3], X[:, 3:]
    _same(twin, source, *arrays)
    _same(_loaded(twin, tmp_path / "model.keras"), source, *arrays)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_one_layer_called_in_several_ways(tmp_path: Path, suffix: str) -> None:
    x, scale = keras3.Input((6,)), keras3.Input((4,))
    layer = Lazy(4)
    outputs = [layer(x), layer(x, scale=scale), layer(x, flip=True), layer(x, np.float32(2))]
    source = _shake(keras3.Model([x, scale], outputs))
    twin, twins = _convert(source)
    assert len(twins) == 1
    _same(twin, source, X, X[:, :4])
    _same(_loaded(twin, tmp_path / f"model.{suffix}"), source, X, X[:, :4])
    copy = keras2.models.clone_model(twin)
    copy.set_weights(twin.get_weights())
    _same(copy, source, X, X[:, :4])


def test_an_initial_state_and_several_outputs(tmp_path: Path) -> None:
    x, h, c = keras3.Input((None, 3)), keras3.Input((4,)), keras3.Input((4,))
    out = keras3.layers.LSTM(4, return_state=True)(x, initial_state=[h, c])
    source = _shake(keras3.Model([x, h, c], out))
    twin, _ = _convert(source)
    state = X[:4, :4]
    _same(twin, source, STEPS, state, state + 1)
    _same(_loaded(twin, tmp_path / "model.keras"), source, STEPS, state, state + 1)


def test_attention_with_positional_tensors_and_an_explicit_mask() -> None:
    q, v = keras3.Input((5, 3)), keras3.Input((5, 3))
    mask = keras3.Input((5, 5), dtype="bool")
    layer = keras3.layers.MultiHeadAttention(2, 2)
    source = _shake(keras3.Model([q, v, mask], layer(q, v, attention_mask=mask)))
    twin, _ = _convert(source)
    _same(twin, source, STEPS, STEPS * 2, np.tril(np.ones((4, 5, 5))) > 0)


@pytest.mark.parametrize(
    "layer",
    [
        keras3.layers.BatchNormalization(),
        keras3.layers.GroupNormalization(3),
        keras3.layers.SpectralNormalization(keras3.layers.Dense(3)),
        keras3.layers.PReLU(),
        keras3.layers.EinsumDense("ab,bc->ac", output_shape=4),
        keras3.layers.RMSNormalization(),
        keras3.layers.GaussianNoise(0.5),
        keras3.layers.Dense(3, activity_regularizer="l2"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_of_keras3_itself(tmp_path: Path, layer: Any) -> None:
    tensor = keras3.Input((6,))
    source = _shake(keras3.Model([tensor], layer(tensor)))
    twin, _ = _convert(source)
    _same(twin, source, X)
    _same(_loaded(twin, tmp_path / "model.keras"), source, X)
    assert twin.output_shape == source.output_shape
    wrapped = next(one for one in twin.layers if isinstance(one, Keras3Layer))
    assert tuple(wrapped.compute_output_shape((None, 6))) == source.output_shape


def test_a_copy_from_the_config_is_complete() -> None:
    layer = _convert(_block_model())[0].get_layer("block")
    config = json.loads(json.dumps(layer.get_config()))
    again = type(layer).from_config(config)
    again(X)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(X), layer(X))
    assert again.get_config() == layer.get_config()


def test_random_layers_draw_anew_in_a_graph() -> None:
    tensor = keras3.Input((6,))
    twin, _ = _convert(keras3.Model([tensor], keras3.layers.Dropout(0.5)(tensor)))
    draw = tf.function(lambda x: twin([x], training=True))
    assert not np.array_equal(draw(X), draw(X))


def test_a_saved_model_holds_everything(tmp_path: Path) -> None:
    source = _block_model(rate=0.5)
    twin, _ = _convert(source)
    twin.save(tmp_path / "saved")
    served = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    got = next(iter(served(tf.constant(X)).values()))
    np.testing.assert_allclose(got, source([X]), rtol=1e-6, atol=1e-6)


def test_litert_runs_it() -> None:
    source = _block_model()
    twin, _ = _convert(source)
    interpreter = Interpreter(
        model_content=tf.lite.TFLiteConverter.from_keras_model(twin).convert()
    )
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, X.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, X)
    interpreter.invoke()
    got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(got, source([X]), rtol=1e-5, atol=1e-5)


def test_a_class_without_config_is_refused() -> None:
    @_registered
    class NoConfig(keras3.Layer):
        def __init__(self, function: Any, **settings: Any) -> None:
            super().__init__(**settings)
            self.function = function

        def call(self, x: Any) -> Any:
            return self.function(x)

    layer = NoConfig(object(), name="odd")
    with pytest.raises(ModelError, match=r"Layer 'odd' \(NoConfig\).*cannot be saved.*get_config"):
        fallback(layer, Names())


def test_a_local_class_is_refused() -> None:
    class Local(keras3.Layer):
        def call(self, x: Any) -> Any:
            return x

    with pytest.raises(ModelError, match=r"'mine'.*'Local'.*register_keras_serializable"):
        fallback(Local(name="mine"), Names())


def test_loading_without_the_class_names_it(tmp_path: Path) -> None:
    @_registered
    class Gone(keras3.Layer):
        def call(self, x: Any) -> Any:
            return x

    tensor = keras3.Input((6,))
    twin, _ = _convert(keras3.Model([tensor], Gone(name="mine")(tensor)))
    twin.save(tmp_path / "model.keras")
    registered = keras3.saving.get_custom_objects()
    kept = registered.pop("tfopt_test_fallback>Gone")
    try:
        with pytest.raises(ModelError, match=r"Layer 'mine' runs.*'Gone'.*import its module"):
            keras2.models.load_model(tmp_path / "model.keras", custom_objects=dict(OBJECTS))
    finally:
        registered["tfopt_test_fallback>Gone"] = kept


def test_a_class_whose_config_forgets_something_is_refused() -> None:
    @_registered
    class Forgetful(keras3.Layer):
        def __init__(self, units: int = 1, **settings: Any) -> None:
            super().__init__(**settings)
            self.units = units

        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(name="kernel", shape=(shape[-1], self.units))

        def call(self, x: Any) -> Any:
            return x @ self.kernel

        def get_config(self) -> dict[str, Any]:
            return super().get_config()

    tensor = keras3.Input((6,))
    source = keras3.Model([tensor], Forgetful(3, name="leaky")(tensor))
    with pytest.raises(ModelError, match=r"'leaky' \(Forgetful\).*\(6, 1\).*instead of.*\(6, 3\)"):
        _convert(source)


def test_python_lambdas_are_not_run_from_a_config() -> None:
    layer = keras3.layers.Lambda(lambda x: x * 2, name="doubled")
    with pytest.raises(ModelError, match=r"'doubled'.*lambda"):
        fallback(layer, Names())


def test_a_vocabulary_would_be_lost() -> None:
    layer = keras3.layers.StringLookup(name="words")
    layer.adapt(["a", "b"])
    with pytest.raises(ModelError, match=r"'words' \(StringLookup\).*vocabulary"):
        fallback(layer, Names())


def test_tied_weights_are_refused() -> None:
    dense = keras3.layers.Dense(6, name="encoder")
    dense.build((None, 6))
    twin = fallback(keras3.layers.Dot(axes=1, name="tied"), Names())
    with pytest.raises(ModelError, match=r"'tied'.*encoder/kernel.*tied weights"):
        twin.call([keras2.Input((6,)), dense.kernel])
