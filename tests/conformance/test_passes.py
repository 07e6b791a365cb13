"""What every compression pass must do, on every kind of model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras as keras_3
import numpy as np
import pytest
import tensorflow as tf

from tfopt.compression.base import CompressionPass, StepContext
from tfopt.compression.clustering import Cluster
from tfopt.compression.pruning.magnitude import Prune
from tfopt.compression.quantization.qat import Quantize
from tfopt.compression.saved_objects import STEP_OBJECTS
from tfopt.config.schema import ClusterStep, PruneStep, QuantizeStep
from tfopt.errors import ModelError
from tfopt.keras2.core import Model, keras

L = keras.layers
ROWS, STEPS = 16, 4
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(ROWS, 8, 8, 4)).astype("float32")
WORDS = np.where(np.arange(3) < 2, RANDOM.integers(1, 10, (ROWS, 3)), 0).astype("float32")
LABELS = np.arange(ROWS) % 3

PASSES: dict[str, Callable[[], CompressionPass]] = {
    "prune": lambda: Prune(PruneStep(sparsity=0.6)),
    "prune 2:4": lambda: Prune(PruneStep(pattern="2:4")),
    "cluster": lambda: Cluster(ClusterStep(clusters=4)),
    "quantize": lambda: Quantize(QuantizeStep()),
}


class Scale(L.Layer):
    """A user's layer, found by its get_config."""

    def __init__(self, by: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.by = by

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight("kernel", shape=(input_shape[-1],), initializer="ones")

    def call(self, inputs: Any) -> Any:
        return inputs * self.kernel * self.by

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "by": self.by}


CUSTOM_OBJECTS = {**STEP_OBJECTS, "Scale": Scale}


def on_images(body: Callable[[Any], Any]) -> tuple[Model, Any]:
    inputs = keras.Input((8, 8, 4))
    return keras.Model(inputs, L.Dense(3, name="logits")(L.Flatten()(body(inputs)))), IMAGES


def on_words(body: Callable[[Any], Any]) -> tuple[Model, Any]:
    inputs = keras.Input((3,))
    hidden = body(L.Embedding(10, 4, mask_zero=True, name="words")(inputs))
    return keras.Model(inputs, L.Dense(3, name="logits")(hidden)), WORDS


def residual(x: Any) -> Any:
    first = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, padding="same", use_bias=False)(x)))
    second = L.SeparableConv2D(8, 3, padding="same", use_bias=False)(first)
    return L.ReLU()(L.Add()([first, L.BatchNormalization()(second)]))


def squeeze_excite(x: Any) -> Any:
    gate = L.Dense(4, activation="sigmoid")(L.GlobalAveragePooling2D()(x))
    return L.Multiply()([x, L.Reshape((1, 1, 4))(gate)])


def operators(x: Any) -> Any:
    return tf.reshape((L.Conv2D(4, 3)(x) + 1)[:, 0], (-1, 24))


def attention(x: Any) -> Any:
    return L.GlobalAveragePooling1D()(L.MultiHeadAttention(2, 4)(x, x))


def states(x: Any) -> Any:
    return L.Concatenate()(L.LSTM(4, return_state=True)(L.Dense(4)(x)))


def frozen(x: Any) -> Any:
    return L.Conv2D(8, 3, trainable=False)(x)


def sequential() -> tuple[Model, Any]:
    layers = [L.Conv2D(8, 3, activation="relu"), L.MaxPooling2D(), L.Flatten(), L.Dense(3)]
    return keras.Sequential([L.Input((8, 8, 4)), *layers]), IMAGES


def nested() -> tuple[Model, Any]:
    base = keras.Sequential([L.Input((8, 8, 4)), L.Conv2D(8, 3), L.BatchNormalization(), L.ReLU()])
    return on_images(lambda x: base(x, training=False))


def siamese() -> tuple[Model, Any]:
    tower = keras.Sequential(
        [L.Input((8, 8, 4)), L.Conv2D(4, 3), L.BatchNormalization(), L.Flatten(), L.Dense(4)]
    )
    left, right = keras.Input((8, 8, 4), name="left"), keras.Input((8, 8, 4), name="right")
    outputs = L.Dense(3)(L.Subtract()([tower(left), tower(right)]))
    return keras.Model({"left": left, "right": right}, outputs), {"left": IMAGES, "right": -IMAGES}


def mixed() -> tuple[Model, Any]:
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        inputs = keras.Input((8, 8, 4))
        hidden = L.BatchNormalization()(L.Conv2D(4, 3, padding="same")(inputs))
        hidden = L.Flatten()(hidden + L.Conv2D(4, 3, padding="same")(hidden))
        return keras.Model(inputs, L.Dense(3, dtype="float32")(hidden)), IMAGES
    finally:
        keras.mixed_precision.set_global_policy("float32")


MODELS: dict[str, Callable[[], tuple[Model, Any]]] = {
    "residual": lambda: on_images(residual),
    "sequential": sequential,
    "nested": nested,
    "siamese": siamese,
    "mixed": mixed,
    "bidirectional": lambda: on_words(L.Bidirectional(L.GRU(4, unroll=True))),
    "states": lambda: on_words(states),
    "attention": lambda: on_words(attention),
    "operators": lambda: on_images(operators),
    "lambda": lambda: on_images(lambda x: L.Lambda(lambda t: t * 2)(L.Conv2D(4, 3)(x))),
    "squeeze excite": lambda: on_images(squeeze_excite),
    "norm after activation": lambda: on_images(
        lambda x: L.BatchNormalization()(L.Conv2D(4, 3, activation="relu")(x))
    ),
    "transposed": lambda: on_images(L.Conv2DTranspose(4, 3, activation="relu")),
    "conv1d": lambda: on_images(
        lambda x: L.ReLU()(L.BatchNormalization()(L.Conv1D(4, 3)(L.Reshape((16, 16))(x))))
    ),
    "conv3d": lambda: on_images(lambda x: L.Conv3D(2, 3)(L.Reshape((8, 8, 4, 1))(x))),
    "own layer": lambda: on_images(lambda x: Scale(2.0)(L.Conv2D(4, 3)(x))),
    "time distributed": lambda: on_images(
        lambda x: L.TimeDistributed(L.Dense(4))(L.Reshape((16, 16))(x))
    ),
    "frozen": lambda: on_images(frozen),
    "regularized": lambda: on_images(
        L.Conv2D(4, 3, kernel_regularizer="l2", kernel_constraint="max_norm")
    ),
}


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session()


def context_of(inputs: Any) -> StepContext:
    return StepContext(STEPS, lambda: iter([inputs]))


def train(model: Model, inputs: Any, step: CompressionPass, *, eagerly: bool = False) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, run_eagerly=eagerly)
    # Two epochs of two steps, so that epoch ends are seen too.
    model.fit(
        inputs, LABELS, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=step.callbacks()
    )


def call(model: Model, inputs: Any) -> np.ndarray:
    return np.asarray(model(inputs, training=False))


def weights_of(model: Model) -> list[np.ndarray]:
    return [weight.numpy() for weight in model.weights]


def settings_of(layer: Any) -> str:
    """Return a layer's settings as a file holds them, where a tuple is a list."""
    return json.dumps(layer.get_config(), default=str, sort_keys=True)


def assert_equal(left: list[np.ndarray], right: list[np.ndarray]) -> None:
    for one, other in zip(left, right, strict=True):
        np.testing.assert_array_equal(one, other)


@dataclass
class Finished:
    """One pass gone through once on the residual net, with a file written half way."""

    step: CompressionPass
    original: Model
    wrapped: Model
    file: Path
    saved_weights: list[np.ndarray]
    saved_outputs: np.ndarray
    was_at_target: bool


@pytest.fixture(scope="module", params=list(PASSES))
def finished(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Finished:
    keras.utils.set_random_seed(0)
    step = PASSES[request.param]()
    original, inputs = MODELS["residual"]()
    wrapped = step.wrap(original, context_of(inputs))
    was_at_target = step.at_target(wrapped)
    train(wrapped, inputs, step)
    file = tmp_path_factory.mktemp("conformance") / "wrapped.keras"
    wrapped.save(file)
    saved = weights_of(wrapped), call(wrapped, inputs)
    return Finished(step, original, wrapped, file, *saved, was_at_target)


def test_a_pass_says_when_it_is_at_target(finished: Finished) -> None:
    assert finished.was_at_target is (finished.step.name != "prune")
    assert finished.step.at_target(finished.wrapped)


def test_a_wrapped_model_survives_a_file_bit_for_bit(finished: Finished) -> None:
    loaded = keras.models.load_model(finished.file, custom_objects=CUSTOM_OBJECTS, compile=False)
    assert_equal(weights_of(loaded), finished.saved_weights)
    np.testing.assert_array_equal(call(loaded, IMAGES), finished.saved_outputs)
    for one, other in zip(loaded.layers, finished.wrapped.layers, strict=True):
        assert settings_of(one) == settings_of(other)
    assert finished.step.at_target(loaded)


def test_training_after_a_load_keeps_the_constraint(finished: Finished) -> None:
    step = finished.step
    loaded = keras.models.load_model(finished.file, custom_objects=CUSTOM_OBJECTS, compile=False)
    train(loaded, IMAGES, step)
    assert any(
        np.any(one != other)
        for one, other in zip(weights_of(loaded), finished.saved_weights, strict=True)
    )
    step.measure(finished.original, step.unwrap(loaded), context_of(IMAGES))


def test_unwrapping_changes_neither_function_nor_signature(finished: Finished) -> None:
    after = finished.step.unwrap(finished.wrapped)
    np.testing.assert_array_equal(call(after, IMAGES), call(finished.wrapped, IMAGES))
    for name in ("inputs", "outputs"):
        old, new = getattr(finished.original, name), getattr(after, name)
        assert [(t.shape, t.dtype) for t in old] == [(t.shape, t.dtype) for t in new]
    assert after.input_names == finished.original.input_names
    assert after.output_names == finished.original.output_names
    if finished.step.name != "quantize":
        kinds = [type(layer) for layer in after.layers]
        assert kinds == [type(layer) for layer in finished.original.layers]
        names = [layer.name for layer in after.layers]
        assert names == [layer.name for layer in finished.original.layers]


def test_measure_reports_every_layer_with_weights(finished: Finished) -> None:
    step = finished.step
    found = step.measure(finished.original, step.unwrap(finished.wrapped), context_of(IMAGES))
    assert [entry.layer for entry in found.layers] == [
        entry.layer for entry in step.decide(finished.original)
    ]
    assert all(entry.reason for entry in found.layers)
    assert found.evidence


def test_the_input_model_is_untouched(finished: Finished) -> None:
    model, inputs = MODELS["nested"]()
    optimizer, loss = keras.optimizers.Adam(), keras.losses.MeanSquaredError()
    model.compile(optimizer, loss)
    weights, names = weights_of(model), [layer.name for layer in model._flatten_layers()]
    config = model.get_config()
    wrapped = finished.step.wrap(model, context_of(inputs))
    train(wrapped, inputs, finished.step, eagerly=True)
    finished.step.unwrap(wrapped)
    assert_equal(weights_of(model), weights)
    assert [layer.name for layer in model._flatten_layers()] == names
    assert model.get_config() == config
    assert model.optimizer is optimizer
    assert model.loss is loss
    assert int(optimizer.iterations) == 0


def test_one_pass_serves_two_models(finished: Finished) -> None:
    made = [MODELS[name]() for name in ("sequential", "squeeze excite")]
    wrapped = [finished.step.wrap(model, context_of(inputs)) for model, inputs in made]
    for (model, inputs), each in zip(made, wrapped, strict=True):
        train(each, inputs, finished.step, eagerly=True)
        finished.step.measure(model, finished.step.unwrap(each), context_of(inputs))


@pytest.mark.parametrize("name", ["prune", "cluster", "quantize"])
@pytest.mark.parametrize("kind", list(MODELS))
def test_every_kind_of_model(kind: str, name: str) -> None:
    step = PASSES[name]()
    model, inputs = MODELS[kind]()
    before = weights_of(model)
    wrapped = step.wrap(model, context_of(inputs))
    if name != "cluster":
        limit = 0.0 if name == "prune" else 0.1
        expected = call(model, inputs)
        error = np.linalg.norm(call(wrapped, inputs) - expected)
        assert error <= limit * np.linalg.norm(expected)
    train(wrapped, inputs, step, eagerly=True)
    after = step.unwrap(wrapped)
    np.testing.assert_array_equal(call(after, inputs), call(wrapped, inputs))
    step.measure(model, after, context_of(inputs))
    assert_equal(weights_of(model), before)


@pytest.mark.parametrize("name", ["prune", "cluster", "quantize"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: keras_3.Sequential([keras_3.Input((4,)), keras_3.layers.Dense(2)]), "Keras 3"),
        (lambda: keras.Sequential([L.Dense(2)]), "without an input shape"),
        (lambda: type("Own", (keras.Model,), {})(), r"subclassed model \(Own\)"),
        (lambda: "model.keras", "must be a tf_keras.Model. Received: builtins.str"),
    ],
    ids=["keras 3", "unbuilt", "subclassed", "no model"],
)
def test_other_objects_are_refused(make: Callable[[], Any], message: str, name: str) -> None:
    step = PASSES[name]()
    with pytest.raises(ModelError, match=message):
        step.decide(make())
    with pytest.raises(ModelError, match=message):
        step.wrap(make(), context_of(IMAGES))
