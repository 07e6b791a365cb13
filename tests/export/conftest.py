"""Small models, and a converter that runs in this process to spare the start of children."""

import os
import signal
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfopt.config.schema import LitertExport
from tfopt.export import litert
from tfopt.export.litert_worker import main
from tfopt.keras2.core import keras

layers = keras.layers


def _convolution():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1), name="image"),
            layers.Conv2D(8, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Flatten(name="flat"),
            layers.Dense(10, name="logits"),
        ],
        name="convolution",
    )
    model(np.random.default_rng(0).normal(size=(64, 12, 12, 1)), training=True)
    return model


def _two_ended():
    keras.utils.set_random_seed(2)
    zeta, alpha = keras.Input((8,), name="zeta"), keras.Input((3,), name="alpha/1")
    joined = layers.Concatenate(name="join")([zeta, alpha])
    outputs = [layers.Dense(40, name="y_out")(joined), layers.Dense(5, name="b_out")(joined)]
    return keras.Model([zeta, alpha], outputs, name="two_ended")


def _erf():
    keras.utils.set_random_seed(3)
    x = keras.Input((16,), name="x")
    hidden = tf.math.erf(layers.Dense(16, name="first")(x) * 2.0)
    return keras.Model(x, layers.Dense(3, name="y")(hidden), name="erf")


def _lgamma():
    keras.utils.set_random_seed(4)
    x = keras.Input((16,), name="x")
    hidden = tf.math.lgamma(tf.abs(layers.Dense(16)(x)) + 1.0)
    return keras.Model(x, layers.Dense(3, name="y")(hidden), name="lgamma")


def _sine():
    keras.utils.set_random_seed(5)
    x = keras.Input((16,), name="x")
    hidden = tf.math.sin(layers.Dense(80, name="first")(x))
    return keras.Model(x, layers.Dense(3, name="y")(hidden), name="sine")


def _recurrent():
    keras.utils.set_random_seed(6)
    return keras.Sequential(
        [keras.Input((5, 4), name="x"), layers.LSTM(6), layers.Dense(2, name="y")],
        name="recurrent",
    )


def _words():
    keras.utils.set_random_seed(7)
    ids = keras.Input((8,), dtype="int32", name="ids")
    hidden = layers.GlobalAveragePooling1D()(layers.Embedding(50, 32)(ids))
    return keras.Model(ids, layers.Dense(3, name="y")(hidden), name="words")


def _picture():
    keras.utils.set_random_seed(8)
    image = keras.Input((8, 8, 3), dtype="uint8", name="image")
    hidden = layers.Conv2D(8, 3)(layers.Rescaling(1 / 255)(image))
    return keras.Model(image, layers.Dense(3, name="y")(layers.Flatten()(hidden)), name="picture")


_BUILDERS = {
    "convolution": _convolution,
    "two_ended": _two_ended,
    "erf": _erf,
    "lgamma": _lgamma,
    "sine": _sine,
    "recurrent": _recurrent,
    "words": _words,
    "picture": _picture,
}


@pytest.fixture(scope="session")
def models():
    """Every small model, by name."""
    return {name: build() for name, build in _BUILDERS.items()}


@pytest.fixture(scope="session")
def inputs():
    """Forty rows of input for every small model, by name."""
    generator = np.random.default_rng(9)
    shapes = {"convolution": (12, 12, 1), "erf": (16,), "lgamma": (16,), "sine": (16,)}
    rows = {
        name: generator.normal(size=(40, *shape)).astype("float32")
        for name, shape in {**shapes, "recurrent": (5, 4)}.items()
    }
    rows["two_ended"] = tuple(
        generator.normal(size=(40, size)).astype("float32") for size in (8, 3)
    )
    rows["words"] = generator.integers(0, 50, (40, 8)).astype("int32")
    rows["picture"] = generator.integers(0, 256, (40, 8, 8, 3)).astype("uint8")
    return rows


def _convert_here(command, *, time_limit_seconds):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter announces tf.lite's deprecation
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # what main sets is undone again
            main(command[-1])
    signal.alarm(0)  # main sets one, against orphans
    assert time_limit_seconds > 0
    return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def convert_here(monkeypatch):
    """Let ``convert_litert`` run its worker in this process."""
    monkeypatch.setattr(litert, "run_child", _convert_here)


@pytest.fixture(scope="session")
def exported(models, inputs, tmp_path_factory):
    """Return a function: model name and precision to its conversion, made once."""
    made = {}

    def get(name, precision, **settings):
        key = (name, precision, *settings.items())
        if key not in made:
            path: Path = tmp_path_factory.mktemp("exported") / f"{name}_{precision}.tflite"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(litert, "run_child", _convert_here)
                made[key] = litert.convert_litert(
                    models[name],
                    path,
                    settings=LitertExport(precision=precision, **settings),
                    calibration=inputs[name],
                )
        return made[key]

    return get


@pytest.fixture(scope="session")
def trained_ranges():
    """A quantization-aware-trained model with layers left out, and rows for it."""
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports distutils
        import tensorflow_model_optimization as tfmot

    if before is None:
        os.environ.pop("TF_USE_LEGACY_KERAS", None)
    else:
        os.environ["TF_USE_LEGACY_KERAS"] = before
    quantization = tfmot.quantization.keras
    keras.utils.set_random_seed(10)
    x = keras.Input((12, 12, 1), name="x")
    hidden = layers.Conv2D(8, 3, activation="relu", name="conv")(x)
    hidden = layers.Flatten(name="flat")(hidden)
    hidden = layers.Dense(32, name="before")(hidden)
    hidden = layers.LayerNormalization(name="norm")(hidden)
    hidden = layers.Dense(40, name="left_out")(hidden)
    model = keras.Model(x, layers.Dense(10, name="logits")(hidden), name="trained")
    chosen = {"conv", "before", "logits"}
    annotated = keras.models.clone_model(
        model,
        clone_function=lambda layer: (
            quantization.quantize_annotate_layer(layer) if layer.name in chosen else layer
        ),
    )
    aware = quantization.quantize_apply(annotated)
    aware.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(256, 12, 12, 1)).astype("float32")
    aware.fit(rows, generator.integers(0, 10, 256), epochs=4, verbose=0)
    return aware, rows
