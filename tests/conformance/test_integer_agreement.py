"""What emulates 8-bit arithmetic must be what the exported file computes, rule by rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfopt.bridge.to_tf_keras.blocks.base import ApproximateGelu
from tfopt.bridge.to_tf_keras.layer_config import OBJECTS
from tfopt.compression.base import StepContext
from tfopt.compression.quantization.qat import Quantize
from tfopt.config.schema import LitertExport, QuantizeStep
from tfopt.export.litert.convert import convert_litert
from tfopt.keras2.core import Model, keras
from tfopt.runtimes import LitertModel, open_litert

L = keras.layers
ROWS = 24
IMAGES = np.random.default_rng(0).normal(size=(ROWS, 8, 8, 4)).astype("float32")
MOST_STEPS = 2.5
"""One step for the rounding of the output, and one and a half for what comes before."""

Body = Callable[[Any], Any]


def conv(channels: int = 4, **settings: Any) -> Any:
    return L.Conv2D(channels, 3, padding="same", **settings)


def quantized(bodies: Mapping[str, Body]) -> Model:
    """Return a model with one output for each body, post-training quantized.

    One model for all, because each export starts a process.
    """
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 4))
    outputs = {name: body(inputs) for name, body in bodies.items()}
    model = keras.Model(inputs, outputs)
    random = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization) and layer.name != "dead":
            layer.set_weights([random.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
        elif getattr(layer, "bias", None) is not None:
            # The converter drops a bias of zeros, and with it some reasons to stay float.
            layer.bias.assign(random.uniform(-0.5, 0.5, layer.bias.shape))
    if "a dead channel" in bodies:
        rows = [[1, 0, 1e-9, 0], [0, 1, 1, 0], [0] * 4, [1] * 4]
        model.get_layer("dead").set_weights([np.array(row, "float32") for row in rows])
    step = Quantize(QuantizeStep(epochs=0))
    return step.unwrap(step.wrap(model, StepContext(0, lambda: iter([IMAGES]))))


def exported(model: Model, tmp_path: Path) -> LitertModel:
    path = tmp_path / "model.tflite"
    convert_litert(model, path, settings=LitertExport(precision="int8"))
    return open_litert(path)


def float_operators(file: LitertModel) -> list[str]:
    return [
        f"{op.name} {op.output}" for op in file.operators() if op.is_compute and not op.is_integer
    ]


def steps_apart(model: Model, file: LitertModel) -> dict[str, float]:
    """Return the largest difference of each output, in steps of its 8 bits."""
    wanted = {name: np.asarray(output) for name, output in model(IMAGES).items()}
    found = file.predict(IMAGES)
    found = dict(zip(sorted(wanted), found if isinstance(found, tuple) else [found], strict=True))
    apart = {}
    for name, output in wanted.items():
        step = (max(output.max(), 0) - min(output.min(), 0)) / 255
        assert output.std(axis=0).mean() > 10 * step, f"{name} hardly depends on the input"
        apart[name] = float(np.abs(output - found[name]).max() / step)
    return apart


def gate(x: Any, squash: Body) -> Any:
    squeezed = L.GlobalAveragePooling2D(keepdims=True)(x)
    return L.Multiply()([x, squash(L.Conv2D(4, 1)(L.Conv2D(2, 1, activation="relu")(squeezed)))])


def hard_sigmoid(x: Any) -> Any:
    return L.Rescaling(1 / 6)(L.ReLU(6.0)(L.Rescaling(1.0, 3.0)(x)))


INTEGER: dict[str, Body] = {
    "normalization before activation": lambda x: conv()(
        L.ReLU()(L.BatchNormalization()(L.Concatenate()([conv()(x), x])))
    ),
    "normalization behind what others read": lambda x: (
        lambda hidden: L.Add()([hidden, conv()(L.BatchNormalization()(hidden))])
    )(conv()(x)),
    "normalization behind a transposed convolution": lambda x: L.BatchNormalization()(
        L.Conv2DTranspose(3, 2, strides=2)(x)
    ),
    "normalization behind a dense layer on pictures": lambda x: L.BatchNormalization()(
        L.Dense(5)(x)
    ),
    "normalization of the input": lambda x: conv()(L.BatchNormalization()(x)),
    "rescaling": lambda x: conv()(L.Rescaling(0.5, -1.0)(x)),
    "rescaling by channel": lambda x: conv()(L.Rescaling([0.5, 1.0, 2.0, -3.0])(x)),
    "Normalization": lambda x: conv()(
        L.Normalization(mean=[0.1, 0.2, 0.3, 1.0], variance=[1.0, 2.0, 3.0, 4.0])(x)
    ),
    "Normalization inverted": lambda x: conv()(
        L.Normalization(axis=None, mean=0.5, variance=4.0, invert=True)(x)
    ),
    "three scales in a row": lambda x: conv()(
        L.Rescaling(2.0)(L.Normalization(axis=None, mean=0.5, variance=4.0)(L.Rescaling(0.5)(x)))
    ),
    "squeeze and excite, sigmoid": lambda x: gate(conv()(x), L.Activation("sigmoid")),
    "squeeze and excite, hard sigmoid": lambda x: gate(conv()(x), hard_sigmoid),
    "hard swish": lambda x: conv()(L.Activation(OBJECTS["keras3_hard_silu"])(conv()(x))),
    "swish": lambda x: conv()(L.Activation("swish")(conv()(x))),
    "gelu": lambda x: conv()(L.Activation("gelu")(conv()(x))),
    "a dense layer on pictures": lambda x: L.BatchNormalization()(L.Dense(5)(L.Dense(6)(x))),
    "a dense layer on sequences": lambda x: L.BatchNormalization()(
        L.Dense(5, activation="relu")(L.Dense(6, activation="gelu")(L.Reshape((16, 16))(x)))
    ),
    "a dead channel": lambda x: conv()(L.BatchNormalization(name="dead")(L.ReLU()(x))),
    "approximate gelu": lambda x: conv()(ApproximateGelu()(conv()(x))),
    "layer scale": lambda x: L.Add()(
        [x, L.DepthwiseConv2D(1, use_bias=False, depthwise_initializer="uniform")(conv()(x))]
    ),
    "grouped convolution": lambda x: L.Conv2D(8, 3, groups=2)(x),
    "a convolution of every channel by itself": lambda x: L.Conv2D(4, 3, groups=4)(x),
}


FLOAT: dict[str, Body] = {
    "LayerNormalization": lambda x: conv()(L.LayerNormalization()(conv()(x))),
    "normalization of rows": lambda x: L.Dense(5)(
        L.BatchNormalization()(L.LayerNormalization()(L.Reshape((16, 16))(x)))
    ),
    "a scale between float layers": lambda x: conv()(
        L.LayerNormalization()(L.Rescaling(0.5)(L.LayerNormalization()(x)))
    ),
}


@pytest.fixture(scope="module")
def on_integers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, LitertModel]:
    model = quantized(INTEGER)
    return model, exported(model, tmp_path_factory.mktemp("integers"))


def test_the_file_works_on_integers(on_integers: tuple[Model, LitertModel]) -> None:
    assert not float_operators(on_integers[1])


@pytest.mark.parametrize("name", INTEGER)
def test_the_file_computes_what_is_emulated(
    name: str, on_integers: tuple[Model, LitertModel]
) -> None:
    assert steps_apart(*on_integers)[name] <= MOST_STEPS


def test_what_stays_float_agrees_too(tmp_path: Path) -> None:
    model = quantized(FLOAT)
    file = exported(model, tmp_path)
    assert float_operators(file)
    assert max(steps_apart(model, file).values()) <= MOST_STEPS


def test_other_ranges_would_be_noticed(on_integers: tuple[Model, LitertModel]) -> None:
    model, file = on_integers
    before = model.get_weights()
    try:
        for layer in model.layers:
            if layer.name.endswith("_range"):
                layer.set_weights([0.5 * np.asarray(value) for value in layer.get_weights()])
        assert min(steps_apart(model, file).values()) > MOST_STEPS
    finally:
        model.set_weights(before)
