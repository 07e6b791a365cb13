import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from tfopt.config.schema import Data
from tfopt.data.load import load_data
from tfopt.errors import BackendMissing, ExitCode


def test_tfds_missing_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(BackendMissing, match=r"pip install 'tfopt\[tfds\]'") as caught:
        load_data(Data(source="tfds", name="mnist"), seed=0)
    assert caught.value.exit_code == ExitCode.BACKEND_MISSING


def fake_tfds(monkeypatch, load):
    package = types.ModuleType("tensorflow_datasets")
    package.load = load
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", package)


def test_tfds_images(monkeypatch):
    images = np.full((12, 6, 5, 3), 51, np.uint8)
    parts = tf.data.Dataset.from_tensor_slices((images, np.arange(12) % 3))
    fake_tfds(monkeypatch, lambda name, as_supervised: {"train": parts, "test": parts.take(6)})
    data = load_data(Data(source="tfds", name="shapes", image_size=(4, 4)), seed=0)
    assert (data.train.examples, data.evaluation.examples, data.classes) == (12, 6, 3)
    assert data.input_shape == (4, 4, 3)
    assert np.allclose(data.train.inputs, 0.2)


def test_tfds_mistakes(monkeypatch, refused):
    def unknown(name, as_supervised):
        raise ValueError(f"no builder {name}\nmany more lines")

    fake_tfds(monkeypatch, unknown)
    refused(Data(source="tfds", name="shapes"), "cannot load 'shapes': ValueError: no builder")
    fake_tfds(monkeypatch, lambda name, as_supervised: {"all": None})
    refused(Data(source="tfds", name="shapes"), "no split 'train'. It has: all")
    ragged = tf.data.Dataset.from_generator(
        lambda: [(np.zeros((2, 2, 3)), 0)],
        output_signature=(
            tf.TensorSpec((None, None, 3), tf.uint8),
            tf.TensorSpec((), tf.int64),
        ),
    )
    fake_tfds(monkeypatch, lambda name, as_supervised: {"train": ragged})
    refused(Data(source="tfds", name="shapes"), "images differ in size. Set data.image_size")
