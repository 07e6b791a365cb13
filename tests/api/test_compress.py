from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf

import tfopt
from tfopt.compression.weight_statistics import model_kernels, unique_values, zero_fraction
from tfopt.errors import (
    DataError,
    InputError,
    ModelError,
    RecipeError,
)
from tfopt.keras2.core import Model, keras, require_model

Rows = tuple[np.ndarray, np.ndarray]


def batched(rows: Rows) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(rows).batch(50)


def test_steps_compose_and_leave_their_input_alone(
    model: Model, train: Rows, test: Rows, tmp_path: Path
) -> None:
    before = [weight.copy() for weight in model.get_weights()]
    pruned = tfopt.prune(model, train, sparsity=0.75, layers={"conv": 0.5}, epochs=1)
    assert zero_fraction(model_kernels(pruned)) == pytest.approx(0.75, abs=0.01)
    clustered = tfopt.cluster(pruned, batched(train), clusters=8)
    for name, kernel in model_kernels(clustered).items():
        assert unique_values(kernel) <= 8
        zeros = model_kernels(pruned)[name] == 0
        assert np.array_equal(kernel == 0, zeros)
    ready = tfopt.quantize(clustered, train, epochs=1)
    artifact = tfopt.export_litert(ready, tmp_path / "m.tflite", evaluation=test)
    assert artifact.int8_op_fraction == 1.0
    assert artifact.precision == "int8"
    plain = tfopt.export_litert(model, tmp_path / "f.tflite", precision="float32")
    assert artifact.gzip_bytes < plain.gzip_bytes / 6
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert model.optimizer is None
    for made in (pruned, clustered):
        assert {type(layer).__module__.split(".")[0] for layer in made.layers} == {"tf_keras"}


def test_the_same_seed_gives_the_same_model(model: Model, train: Rows) -> None:
    first, second, other = (tfopt.prune(model, train, epochs=1, seed=seed) for seed in (1, 1, 2))
    same = [
        np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True)
    ]
    assert all(same)
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])


def test_labels_of_many_kinds(model: Model, train: Rows) -> None:
    images, labels = train
    kinds = [labels.astype(np.float32), labels[:, None], np.eye(10)[labels], labels.astype("uint8")]
    made = [tfopt.cluster(model, (images, kind)).get_weights() for kind in (labels, *kinds)]
    for weights in made[1:]:
        assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(made[0], weights, strict=True))


def test_a_regression_on_whole_numbers() -> None:
    inputs = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    amounts = np.round(inputs[:, 0] * 10).astype(np.int64) + 40
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8), keras.layers.Dense(1)])
    assert tfopt.prune(model, (inputs, amounts), sparsity=0.5, epochs=1).output_shape == (None, 1)


MISTAKES: dict[str, tuple[Any, type[Exception], str]] = {
    "no labels": (lambda m, x, y: tfopt.prune(m, x), DataError, "no labels. Give a tuple"),
    "list": (lambda m, x, y: tfopt.prune(m, [x, y]), DataError, r"Write a tuple \(x, y\)"),
    "not batched": (
        lambda m, x, y: tfopt.prune(m, tf.data.Dataset.from_tensor_slices((x, y))),
        DataError,
        r"the dataset is not batched.*Call .batch\(n\)",
    ),
    "empty": (lambda m, x, y: tfopt.cluster(m, (x[:0], y[:0])), DataError, "no examples"),
    "rows differ": (lambda m, x, y: tfopt.cluster(m, (x, y[:-1])), DataError, "300.*299"),
    "nan": (lambda m, x, y: tfopt.cluster(m, (x * np.nan, y)), DataError, "NaN, infinite or too"),
    "shape": (lambda m, x, y: tfopt.cluster(m, (x[:, 1:], y)), DataError, r"\(7, 8, 1\), but"),
    "classes": (lambda m, x, y: tfopt.cluster(m, (x, y + 3)), DataError, "10 outputs.* 13 classes"),
    "sparsity": (
        lambda m, x, y: tfopt.prune(m, (x, y), sparsity=2, epochs=0),
        RecipeError,
        "tfopt.prune: 2 problems\n  - epochs: must .*\n  - sparsity: must be less than 1",
    ),
    "pattern": (
        lambda m, x, y: tfopt.prune(m, (x, y), pattern="3:4"), RecipeError, "Did you mean '2:4'",
    ),
    "rate": (
        lambda m, x, y: tfopt.quantize(m, (x, y), learning_rate=0), RecipeError, "peak: must be gr",
    ),
    "optimizer": (
        lambda m, x, y: tfopt.prune(m, (x, y), optimizer="sdg"), RecipeError, "Did you mean 'sgd'",
    ),
    "temperature alone": (
        lambda m, x, y: tfopt.prune(m, (x, y), temperature=2), InputError, "temperature: only a t",
    ),
    "no epoch to teach": (
        lambda m, x, y: tfopt.cluster(m, (x, y), teacher=m, epochs=0), InputError, "epochs is 0",
    ),
    "alpha": (
        lambda m, x, y: tfopt.quantize(m, (x, y), teacher=m, alpha=2), RecipeError, "alpha: must",
    ),
    "teacher": (lambda m, x, y: tfopt.prune(m, (x, y), teacher=7), InputError, "Received: int"),
    "strategy": (
        lambda m, x, y: tfopt.prune(m, (x, y), strategy="horovd"), InputError, "mean 'horovod'",
    ),
    "no layer": (
        lambda m, x, y: tfopt.prune(m, (x, y), layers={"zz": 0.5}), InputError, "matches no layer",
    ),
    "text for patterns": (
        lambda m, x, y: tfopt.quantize(m, (x, y), skip="conv"), RecipeError, "skip: must be a list",
    ),
    "batch": (lambda m, x, y: tfopt.cluster(m, (x, y), batch_size=0), DataError, "at least 1"),
    "seed": (lambda m, x, y: tfopt.cluster(m, (x, y), seed=-1), InputError, "seed must be from 0"),
    "no model": (lambda m, x, y: tfopt.prune(None, (x, y)), ModelError, "Received: builtins.None"),
    "quantized twice": (
        lambda m, x, y: tfopt.prune(tfopt.quantize(m, (x, y), epochs=0), (x, y)),
        InputError,
        "already emulates 8-bit arithmetic; start from the model",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name: str, model: Model, train: Rows) -> None:
    mistake, kind, message = MISTAKES[name]
    with pytest.raises(kind, match=message):
        mistake(model, *train)


KERAS3 = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
L3 = keras3.layers


def functional3() -> Any:
    x = keras3.Input((8, 8, 1), name="image")
    y = L3.Conv2D(4, 3, strides=2, activation="relu", name="conv")(x)
    y = L3.Add(name="add")([y, L3.Conv2D(4, 1, name="skip")(y)])
    y = L3.Dense(10, name="head")(L3.Flatten(name="flat")(y))
    return keras3.Model(x, L3.Softmax(name="soft")(y), name="functional")


def nested3() -> Any:
    inner = [keras3.Input((8, 8, 1)), L3.Conv2D(4, 3, activation="relu", name="conv"), L3.Flatten()]
    x = keras3.Input((8, 8, 1), name="image")
    y = keras3.Sequential(inner, name="base")(x)
    return keras3.Model(x, L3.Dense(10, "softmax", name="head")(y), name="nested")


def several3() -> Any:
    image, bonus = keras3.Input((8, 8, 1), name="image"), keras3.Input((3,), name="bonus")
    y = L3.Flatten(name="flat")(L3.Conv2D(4, 3, activation="relu", name="conv")(image))
    y = L3.Concatenate(name="both")([y, L3.Dense(4, name="side")(bonus)])
    y = L3.Dense(10, "softmax", name="head")(y)
    return keras3.Model({"image": image, "bonus": bonus}, y, name="several")


def rows_for(model: Any, rows: Rows) -> Any:
    images, labels = rows
    if model.name != "several":
        return images, labels
    return {"image": images, "bonus": images[:, 0, :3, 0]}, labels


@KERAS3
@pytest.mark.parametrize("make", [nested3, several3])
def test_keras_3_models_go_through_every_step(
    make: Any, train: Rows, test: Rows, tmp_path: Path
) -> None:
    keras3.utils.set_random_seed(4)
    model = make()
    before = [np.array(weight.value) for weight in model.weights]
    given = rows_for(model, (train[0][:128], train[1][:128]))
    pruned = tfopt.prune(model, given, sparsity=0.5, epochs=1)
    small = tfopt.cluster(pruned, given, clusters=8, epochs=1)
    ready = tfopt.quantize(small, given, epochs=1)
    stripped = tfopt.strip(ready)
    for made in (pruned, small, stripped):
        assert type(made) is type(model)
        assert [layer.name for layer in made.layers] == [layer.name for layer in model.layers]
    for made in (small, stripped):
        kernels = [np.array(one.value) for one in made.weights if "kernel" in one.name]
        for kernel in kernels:
            assert np.mean(kernel == 0) == pytest.approx(0.5, abs=0.1)
            assert kernel.size < 32 or unique_values(kernel) <= 8
    tfopt.save(small, tmp_path / "small.keras")
    again = tfopt.load(tmp_path / "small.keras")
    inputs = given[0]
    np.testing.assert_allclose(
        again.predict(inputs, verbose=0), small.predict(inputs, verbose=0), atol=1e-6
    )
    artifact = tfopt.export_litert(ready, tmp_path / "m.tflite", evaluation=rows_for(model, test))
    assert artifact.int8_op_fraction == 1.0
    assert all(np.array_equal(a, b.value) for a, b in zip(before, model.weights, strict=True))
    assert not model.compiled


@KERAS3
def test_both_kinds_give_the_same_results(train: Rows, test: Rows, tmp_path: Path) -> None:
    keras3.utils.set_random_seed(5)
    theirs = functional3()
    ours = tfopt.to_tf_keras(theirs)
    few = train[0][:96], train[1][:96]
    for step in (tfopt.prune, tfopt.cluster):
        one, two = (step(kind, few, epochs=1) for kind in (theirs, ours))
        np.testing.assert_allclose(
            one.predict(test[0], verbose=0), two.predict(test[0], verbose=0), atol=1e-5
        )
        for kind in (one, two):
            assert type(kind).__module__.startswith("keras." if kind is one else "tf_keras.")
    files = [tmp_path / f"{number}.tflite" for number in range(2)]
    for kind, file in zip((theirs, ours), files, strict=True):
        tfopt.export_litert(kind, file, precision="float32")
    assert files[0].read_bytes() == files[1].read_bytes()


def test_results_come_back_in_the_kind_that_went_in() -> None:
    model = functional3()
    twin = tfopt.to_tf_keras(model)
    assert tfopt.to_tf_keras(twin) is twin
    assert tfopt.to_keras3(model) is model
    assert tfopt.conversion_of(twin).to == "tf_keras"
    with pytest.raises(ModelError, match="not converted by tfopt in this process"):
        tfopt.conversion_of(model)


OBJECTS: dict[str, tuple[Any, str]] = {
    "layer": (lambda: L3.Dense(2), "is a Keras 3 Dense, not a model. Put it into one"),
    "optimizer": (lambda: keras3.optimizers.Adam(), "is a Keras 3 Adam, not a model"),
    "variable": (lambda: keras3.Variable(1.0), "is a Keras 3 Variable, not a model"),
    "symbolic": (lambda: keras3.Input((2,)), "is a Keras 3 KerasTensor, not a model"),
    "unbuilt": (lambda: keras3.Sequential([L3.Dense(2)]), "has no input shape"),
    "class": (lambda: keras3.Sequential, "Received: builtins.type"),
    "tf_keras layer": (lambda: keras.layers.Dense(2), "Received: tf_keras.src.layers"),
    "tf_keras optimizer": (lambda: keras.optimizers.Adam(), "Received: tf_keras.src.optimizers"),
    "path": (lambda: "model.keras", "Received: builtins.str"),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_that_are_no_model_are_refused_by_module(
    name: str, train: Rows, tmp_path: Path
) -> None:
    make, message = OBJECTS[name]
    for use in (
        lambda one: tfopt.prune(one, train),
        lambda one: tfopt.cluster(one, train),
        lambda one: tfopt.quantize(one, train),
        lambda one: tfopt.export_litert(one, tmp_path / "m.tflite", precision="float32"),
        tfopt.strip,
        tfopt.to_tf_keras,
    ):
        with pytest.raises(ModelError, match=message) as caught:
            use(make())
        assert "\n" not in str(caught.value)


def test_a_keras_3_layer_in_a_tf_keras_model_is_refused(train: Rows) -> None:
    with pytest.raises((ModelError, TypeError, ValueError)):
        tfopt.prune(keras.Sequential([keras.Input((8, 8, 1)), L3.Flatten()]), train)


def test_internals_refuse_keras_3_by_module() -> None:
    with pytest.raises(
        ModelError, match=r"Keras 3 object \(keras.src.models.functional.Functional\) where a tf_k"
    ):
        require_model(functional3())


SWITCH = """
import os, sys
legacy = sys.argv[1] == "legacy"
before = os.environ.get("TF_USE_LEGACY_KERAS")
import tensorflow as tf
first = tf.keras.Model.__module__
assert first.startswith("tf_keras" if legacy else "keras.src"), first
import keras
import numpy as np
import tfopt
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
done = tfopt.prune(model, (np.ones((8, 4), "float32"), np.arange(8) % 2), epochs=1)
assert isinstance(done, keras.Sequential)
assert tfopt.to_keras3(tfopt.to_tf_keras(model)).name == model.name
print(tf.keras.Model.__module__ == first, os.environ.get("TF_USE_LEGACY_KERAS") == before)
"""


@pytest.mark.parametrize("kind", ["keras 3", "legacy"])
def test_a_conversion_never_switches_the_keras_of_the_caller(kind: str) -> None:
    environment = {"PATH": "/usr/bin", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if kind == "legacy":
        environment["TF_USE_LEGACY_KERAS"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", SWITCH, kind],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.stdout.split() == ["True", "True"], done.stderr


BACKEND = """
import numpy as np
import tf_keras
import tfopt
from tfopt.errors import TfoptError
model = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(2)])
try:
    tfopt.to_keras3(model)
except TfoptError as error:
    print(error)
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_backend_that_is_not_installed_is_named(backend: str) -> None:
    if importlib.util.find_spec(backend):
        pytest.skip(f"{backend} is installed here")
    done = subprocess.run(
        [sys.executable, "-c", BACKEND],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin", "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": backend},
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.stdout.count("\n") == 1, done.stderr
    assert "Set KERAS_BACKEND=tensorflow before starting" in done.stdout


def test_progress_is_shown_only_if_asked_for(
    model: Model, train: Rows, capfd: pytest.CaptureFixture[str]
) -> None:
    tfopt.cluster(model, train)
    assert capfd.readouterr() == ("", "")
    tfopt.cluster(model, train, verbose=True)
    assert "cluster: epoch 1/1" in capfd.readouterr().err


def test_an_optimizer_with_settings(model: Model, train: Rows) -> None:
    few = train[0][:64], train[1][:64]
    options: dict[str, Any] = {"epochs": 1, "learning_rate": 0.05, "batch_size": 16}
    plain = tfopt.prune(model, few, optimizer="sgd", **options)
    moved = tfopt.prune(model, few, optimizer={"name": "sgd", "momentum": 0.9}, **options)
    assert not np.array_equal(plain.get_weights()[0], moved.get_weights()[0])


def test_a_teacher_that_has_no_say_changes_nothing(model: Model, train: Rows) -> None:
    few = train[0][:64], train[1][:64]
    options: dict[str, Any] = {"epochs": 1, "optimizer": "sgd", "learning_rate": 0.05}
    alone = tfopt.prune(model, few, **options)
    silent = tfopt.prune(model, few, teacher=functional3(), alpha=1.0, **options)
    taught = tfopt.prune(model, few, teacher=functional3(), **options)
    for one, other in zip(alone.get_weights(), silent.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert np.abs(alone.get_weights()[0] - taught.get_weights()[0]).max() > 1e-4
