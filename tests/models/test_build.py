import numpy as np
import pytest

from tfopt.config import schema
from tfopt.errors import InputError, ModelError
from tfopt.legacy_keras import keras
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
    "keras 3": (
        "def build():\n    import keras\n"
        "    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])\n",
        {},
        "is a Keras 3 object",
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
