import numpy as np
import pytest

from tfopt.errors import ModelError
from tfopt.keras2.core import keras
from tfopt.models.zoo.mobilenet import mobilenet_v2


def test_mobilenet_weights_from_a_file(tmp_path):
    shape = (32, 32, 3)
    source = mobilenet_v2(shape, 4, alpha=0.35)
    path = str(tmp_path / "whole.weights.h5")
    source.save_weights(path)
    loaded = mobilenet_v2(shape, 4, alpha=0.35, weights_path=path)
    x = np.random.default_rng(0).random((2, *shape), np.float32)
    assert np.array_equal(source(x), loaded(x))
    path = str(tmp_path / "no_top.h5")
    keras.Model(source.input, source.get_layer("out_relu").output).save_weights(path)
    other_head = mobilenet_v2(shape, 7, alpha=0.35, weights_path=path)
    kernels = [model.get_layer("Conv1").kernel.numpy() for model in (source, other_head)]
    assert np.array_equal(*kernels)
    last = [model.get_layer("Conv_1").kernel.numpy() for model in (source, other_head)]
    assert np.array_equal(*last)
    with pytest.raises(ModelError, match="do not fit: .* Check alpha"):
        mobilenet_v2(shape, 4, alpha=0.5, weights_path=path)
    with pytest.raises(ModelError, match="no file of weights 'missing.h5'"):
        mobilenet_v2(shape, 4, weights_path="missing.h5")
    with pytest.raises(ModelError, match="alpha > 0"):
        mobilenet_v2(shape, 4, alpha=0)
