"""What every builder keeps: logits, published sizes, stable names, clear refusals."""

import numpy as np
import pytest

from tfopt.errors import ModelError
from tfopt.keras2.core import keras, require_model
from tfopt.models.zoo.lenet import lenet5, lenet300
from tfopt.models.zoo.mlperf_tiny import dscnn, resnet8
from tfopt.models.zoo.mobilenet import mobilenet_v2

SHAPES = {
    "lenet5": (lenet5, (28, 28, 1), 10, 431_080),
    "lenet300": (lenet300, (28, 28, 1), 10, 266_610),
    "resnet8": (resnet8, (32, 32, 3), 10, 78_666),
    "resnet8 on digits": (resnet8, (8, 8, 1), 10, 78_378),
    "dscnn": (dscnn, (49, 10, 1), 12, 24_908),
    "dscnn on digits": (dscnn, (8, 8, 1), 10, None),
    "mobilenet_v2": (mobilenet_v2, (32, 32, 3), 2, None),
}


@pytest.mark.parametrize("name", SHAPES)
def test_builders_give_logits_of_the_published_size(name):
    builder, shape, classes, parameters = SHAPES[name]
    model = require_model(builder(shape, classes))
    if parameters is not None:
        assert model.count_params() == parameters
    outputs = model(np.random.default_rng(0).random((3, *shape), np.float32) * 20).numpy()
    assert outputs.shape == (3, classes)
    assert model.get_layer("output").activation is keras.activations.linear
    assert builder(shape, None).output_shape == (None, 1)


@pytest.mark.parametrize("name", SHAPES)
def test_layer_names_are_the_same_in_every_process(name):
    builder, shape, classes, _ = SHAPES[name]
    first, second = builder(shape, classes), builder(shape, classes)
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]


@pytest.mark.parametrize("name", SHAPES)
def test_initializer_reaches_every_kernel(name):
    builder, shape, classes, _ = SHAPES[name]
    model = builder(shape, classes, initializer="he_uniform")
    kinds = {
        type(getattr(layer, key)).__name__
        for layer in model.layers
        for key in ("kernel_initializer", "depthwise_initializer")
        if getattr(layer, key, None) is not None
        and not (key == "kernel_initializer" and isinstance(layer, keras.layers.DepthwiseConv2D))
    }
    assert kinds == {"HeUniform"}


TOO_SMALL = {
    "digits": (lenet5, (8, 8, 1), r"lenet5 takes images of at least 16 x 16.*\(8, 8, 1\)"),
    "vector": (lenet5, (10,), r"takes images \(height, width, channels\).*\(10,\)"),
    "no channels": (resnet8, (28, 28), "takes images"),
    "spectrogram": (dscnn, (49, 10), r"Add a channel axis: x\[..., None\]"),
    "unknown": (lenet300, (None, 3), "known shape"),
    "scalar": (lenet300, (), "at least one axis"),
    "several": (lenet300, {"a": (3,)}, "has a single input"),
    "pair": (lenet300, ((3,), (4,)), "has a single input"),
    "mobile": (mobilenet_v2, (28, 28, 3), "at least 32 x 32"),
    "tiny": (resnet8, (2, 2, 1), "at least 4 x 4"),
}


@pytest.mark.parametrize("name", TOO_SMALL)
def test_shapes_that_do_not_fit_are_named(name):
    builder, shape, message = TOO_SMALL[name]
    with pytest.raises(ModelError, match=message):
        builder(shape, 10)


def test_no_classes():
    with pytest.raises(ModelError, match="at least 1 class. Received: 0"):
        lenet5((28, 28, 1), 0)
