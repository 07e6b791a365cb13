import numpy as np

from tfopt.models.zoo.lenet import lenet5


def test_lenet5_layers():
    names = [layer.name for layer in lenet5((28, 28, 1), 10).layers[1:]]
    assert names == ["conv1", "pool1", "conv2", "pool2", "flatten", "dense", "output"]


def test_the_smallest_lenet5_works():
    assert lenet5((16, 16, 1), 3)(np.zeros((1, 16, 16, 1))).shape == (1, 3)
