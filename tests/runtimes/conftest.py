"""Small ``.tflite`` files, converted once in this process."""

import warnings

import numpy as np
import pytest
import tensorflow as tf

from tfopt.export.litert.signature import save_signature, trace
from tfopt.export.litert.worker import Job, convert
from tfopt.keras2.core import keras

layers = keras.layers


def _dense():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [keras.Input((6,), name="x"), layers.Dense(32, "relu"), layers.Dense(4, name="y")]
    )


def _convolution():
    keras.utils.set_random_seed(2)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(4, 3, name="conv"),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(3, name="y"),
        ]
    )


def _several():
    keras.utils.set_random_seed(3)
    zeta, alpha = keras.Input((4,), name="zeta"), keras.Input((3,), name="alpha-1")
    joined = layers.Concatenate()([zeta, alpha])
    outputs = [layers.Dense(2, name="second")(joined), layers.Dense(5, name="first")(joined)]
    return keras.Model([zeta, alpha], outputs)


def _recurrent():
    keras.utils.set_random_seed(4)
    return keras.Sequential(
        [keras.Input((5, 4), name="x"), layers.LSTM(6), layers.Dense(2, name="y")]
    )


def _image_bytes():
    keras.utils.set_random_seed(5)
    image = keras.Input((4, 4, 1), dtype="uint8", name="image")
    scaled = layers.Rescaling(1 / 255)(image)
    return keras.Model(image, layers.Dense(2, name="y")(layers.Flatten()(scaled)))


def _erf():
    x = keras.Input((4,), name="x")
    return keras.Model(x, layers.Dense(2, name="y")(tf.math.erf(x)))


_RNG = np.random.default_rng(0)
_CALIBRATION = {
    "dense": _RNG.normal(size=(32, 6)).astype("float32"),
    "convolution": _RNG.normal(size=(32, 8, 8, 1)).astype("float32"),
}
_BUILDERS = {
    "dense": _dense,
    "convolution": _convolution,
    "several": _several,
    "recurrent": _recurrent,
    "image_bytes": _image_bytes,
    "erf": _erf,
}


@pytest.fixture(scope="session")
def source_models():
    """The Keras models behind the files, by name."""
    return {name: build() for name, build in _BUILDERS.items()}


@pytest.fixture(scope="session")
def file_of(source_models, tmp_path_factory):
    """Return a function: model name and precision to a converted file, made once."""
    made = {}

    def get(name, precision="float32", *, batch=None):
        key = (name, precision, batch)
        if key not in made:
            made[key] = _convert(source_models[name], name, precision, batch, tmp_path_factory)
        return made[key]

    return get


def _convert(model, name, precision, batch, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"{name}-{precision}")
    signature = trace(model, batch=1 if name == "recurrent" else batch)
    save_signature(signature, folder / "saved", model)
    rows = None
    if precision.startswith("int"):
        rows = folder / "rows.npz"
        np.savez(rows, input_0=_CALIBRATION[name])
    path = folder / f"{name}.tflite"
    job = Job(
        saved_model=str(folder / "saved"),
        result=str(path),
        calibration=str(rows) if rows else None,
        inputs=signature.inputs,
        outputs=signature.outputs,
        precision=precision,
        has_trained_ranges=False,
        select_tf_ops=name == "erf",
        allow_float=False,
        time_limit_seconds=60,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter announces tf.lite's deprecation
        path.write_bytes(convert(job))
    return path


@pytest.fixture(scope="session")
def calibration():
    return _CALIBRATION
