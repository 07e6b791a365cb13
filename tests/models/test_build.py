import json

import keras as keras3
import numpy as np
import pytest

from tfopt.bridge.provenance import conversion_of
from tfopt.config import schema
from tfopt.errors import InputError, ModelError
from tfopt.keras2.core import keras
from tfopt.models.build import build_model
from tfopt.models.load import save_model


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that makes a module of the user's and gives its dotted path."""
    monkeypatch.chdir(tmp_path)

    def make(body, function="build"):
        name = f"own_model_{len(list(tmp_path.iterdir()))}_{tmp_path.name.replace('-', '_')}"
        (tmp_path / f"{name}.py").write_text("import tf_keras as keras\n" + body)
        return f"{name}:{function}"

    return make


def build(builder, shape=(4,), classes=3, **settings):
    recipe = schema.Model(builder=builder, **settings)
    return build_model(recipe, input_shape=shape, classes=classes, seed=7)


SEQUENTIAL = "keras.Sequential([keras.Input(input_shape), keras.layers.Dense({width})])"


def test_named_builder():
    model = build("lenet300", (5, 5, 1), initializer="orthogonal")
    assert model.input_shape == (None, 5, 5, 1)
    kind = type(model.get_layer("dense1").kernel_initializer).__name__
    assert kind.startswith("Orthogonal")
    with pytest.raises(InputError, match="No model builder is named 'lenet'. Did you mean 'lenet"):
        build("lenet")


def test_equal_seeds_give_equal_weights():
    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        weights.append(build("resnet8", (8, 8, 1)).get_weights())
    assert all(map(np.array_equal, *weights))


def test_own_builder_gets_what_its_signature_takes(own):
    path = own(f"def build(input_shape):\n    return {SEQUENTIAL.format(width=2)}\n")
    assert build(path).output_shape == (None, 2)
    body = SEQUENTIAL.format(width="classes * width + seed")
    path = own(f"def build(input_shape, classes, *, seed, width=1):\n    return {body}\n")
    assert build(path, arguments={"width": 5}).output_shape == (None, 22)
    path = own("def build(**options):\n    raise ValueError(sorted(options))\n")
    with pytest.raises(ModelError, match=r"\['width'\]"):
        build(path, arguments={"width": 5})
    path = own(
        "class Build:\n"
        "    def __call__(self, input_shape, initializer):\n"
        "        layer = keras.layers.Dense(2, kernel_initializer=initializer)\n"
        "        return keras.Sequential([keras.Input(input_shape), layer])\n"
        "build = Build()\n"
    )
    model = build(path, initializer="he_normal")
    assert type(model.layers[0].kernel_initializer).__name__ == "HeNormal"


OWN_FAILURES = {
    "unknown argument": (
        "def build(input_shape, width=1):\n    return None\n",
        {"arguments": {"widht": 2}},
        "does not take model.arguments.widht. Did you mean 'width'.* accepts: input_shape, width",
    ),
    "initializer": (
        "def build(input_shape):\n    return None\n",
        {"initializer": "he_normal"},
        "does not take model.initializer",
    ),
    "missing argument": (
        "def build(depth):\n    return None\n",
        {},
        "missing a required argument: 'depth'.* set the rest in model.arguments",
    ),
    "not a function": ("build = 3\n", {}, "is not a function. Received: int"),
    "raises": ("def build():\n    1 / 0\n", {}, "failed: ZeroDivisionError: division by zero"),
    "none": ("def build():\n    return None\n", {}, "must be a tf_keras.Model. .*NoneType"),
    "keras 3 layer": (
        "def build():\n    import keras\n    return keras.layers.Dense(2)\n",
        {},
        "is a Keras 3 Dense, not a model",
    ),
    "keras 3 unbuilt": (
        "def build():\n    import keras\n    return keras.Sequential([keras.layers.Dense(2)])\n",
        {},
        "has no input shape. Put keras.Input",
    ),
    "unbuilt": (
        "def build():\n    return keras.Sequential([keras.layers.Dense(2)])\n",
        {},
        "without an input shape",
    ),
    "subclassed": (
        "class Own(keras.Model):\n    pass\ndef build():\n    return Own()\n",
        {},
        "is a subclassed model",
    ),
    "import fails": ("import not_there\n", {}, "cannot be imported: No module named 'not_there'"),
}


@pytest.mark.parametrize("name", OWN_FAILURES)
def test_failures_of_an_own_builder_are_named(own, name):
    body, settings, message = OWN_FAILURES[name]
    with pytest.raises(InputError, match=message) as caught:
        build(own(body), **settings)
    assert "\n" not in str(caught.value)


def test_a_keras_3_model_of_an_own_builder_is_converted(own):
    path = own(
        "def build(input_shape, classes):\n    import keras\n    layers = keras.layers\n"
        "    x = keras.Input(input_shape)\n"
        "    y = layers.BatchNormalization()(layers.Conv2D(3, 2)(x))\n"
        "    y = keras.ops.mean(keras.ops.relu6(y), axis=(1, 2))\n"
        "    return keras.Model(x, layers.Dense(classes, name='head')(y), name='theirs')\n"
    )
    settings = {"preprocess": schema.Preprocess(resize=(6, 6), scale=1 / 255)}
    model = build(path, (8, 8, 3), classes=5, **settings)
    assert isinstance(model, keras.Model)
    assert (model.input_shape, model.output_shape) == ((None, 8, 8, 3), (None, 5))
    inner = build(path, (8, 8, 3), classes=5)
    assert inner.name == "theirs"
    assert conversion_of(inner).relative_error <= 1e-6


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_a_model_from_a_keras_3_file(tmp_path):
    theirs = keras3.Sequential([keras3.Input((4,)), keras3.layers.Dense(3)], name="theirs")
    save_model(theirs, tmp_path / "m.keras")
    options = {"input_shape": (4,), "classes": 3, "seed": 0}
    model = build_model(schema.Model(path=tmp_path / "m.keras"), **options)
    x = np.ones((2, 4), np.float32)
    assert np.allclose(model(x), theirs(x), atol=1e-6)
    layer = keras3.layers.Lambda(lambda x: x, output_shape=(4,))
    theirs = keras3.Sequential([keras3.Input((4,)), layer, keras3.layers.Dense(3)])
    save_model(theirs, tmp_path / "l.keras")
    with pytest.raises(ModelError, match="holds Python code"):
        build_model(schema.Model(path=tmp_path / "l.keras"), **options)
    trusted = schema.Model(path=tmp_path / "l.keras", trust=True)
    assert np.allclose(build_model(trusted, **options)(x), theirs(x), atol=1e-6)


RECIPE = """
name: three
seed: 3
data: {source: digits, batch_size: 64, limit: 256}
model: %s
train: {epochs: 1, optimizer: adam, learning_rate: 1.0e-2}
steps:
  - prune: {sparsity: 0.5, epochs: 1}
export:
  - litert: {precision: float32}
"""


@pytest.mark.parametrize("kind", ["builder", "path"])
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_a_recipe_starts_from_a_keras_3_model(own, tmp_path, tfopt, kind):
    if kind == "builder":
        path = own(
            "def build(input_shape, classes):\n    import keras\n"
            "    inner = [keras.Input(input_shape), keras.layers.Flatten()]\n"
            "    inner = keras.Sequential(inner, name='flat')\n"
            "    x = keras.Input(input_shape)\n"
            "    y = keras.ops.relu(keras.layers.Dense(16, name='hidden')(inner(x)))\n"
            "    return keras.Model(x, keras.layers.Dense(classes, name='head')(y))\n"
        )
    else:
        layers = [keras3.layers.Flatten(), keras3.layers.Dense(10, "softmax", name="head")]
        save_model(keras3.Sequential([keras3.Input((8, 8, 1)), *layers]), tmp_path / "k3.keras")
        path = str(tmp_path / "k3.keras")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE % f"{{{kind}: '{path}'}}")
    done = tfopt("run", recipe, "--output", tmp_path / "run", "--quiet")
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert found["status"] == "ok"
    assert [stage["name"] for stage in found["stages"]] == ["train", "prune"]
    # In the kind that went in; Keras 3 alone can read it.
    model = keras3.models.load_model(tmp_path / "run" / "model.keras")
    kernel = np.asarray(model.get_layer("head").kernel.value)
    assert np.mean(kernel == 0) == pytest.approx(0.5, abs=0.02)


def test_a_model_from_a_file_takes_no_builder_settings(tmp_path):
    path = tmp_path / "m.keras"
    save_model(build("lenet300"), path)
    options = {"input_shape": (4,), "classes": 3, "seed": 0}
    assert build_model(schema.Model(path=path), **options).name == "lenet300"
    with pytest.raises(InputError, match="model.initializer is for model.builder"):
        build_model(schema.Model(path=path, initializer="he_normal"), **options)
    with pytest.raises(InputError, match="model.arguments is for model.builder"):
        build_model(schema.Model(path=path, arguments={"a": 1}), **options)


def test_preprocessing_comes_before_a_built_model():
    settings = {"grey": True, "resize": (20, 20), "scale": 1 / 255}
    model = build("lenet5", (32, 24, 3), preprocess=schema.Preprocess(**settings))
    assert model.input_shape == (None, 32, 24, 3)
    assert model.get_layer("conv1").input_shape == (None, 20, 20, 1)
