import warnings

import numpy as np
import tensorflow as tf

from tfopt.keras2.core import keras
from tfopt.runtimes import open_litert
from tfopt.runtimes.litert.compact import share_equal_lists


def _written_by_converter():
    """Return a file as the converter writes it; the worker's own are compact already."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 4)), *[keras.layers.Conv2D(64, 1, name=f"c{i}") for i in range(3)]]
    )
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    rows = np.random.default_rng(0).normal(size=(8, 1, 8, 8, 4)).astype("float32")
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row] for row in rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter announces tf.lite's deprecation
        return converter.convert()


def test_the_same_model_in_fewer_bytes(tmp_path):
    before = _written_by_converter()
    after = share_equal_lists(before)
    # Six lists of 64 zero points are one now: at least five times 512 bytes are saved.
    assert len(after) < len(before) - 5 * 512
    paths = [tmp_path / "before.tflite", tmp_path / "after.tflite"]
    for path, content in zip(paths, (before, after), strict=True):
        path.write_bytes(content)
    first, second = (open_litert(path) for path in paths)
    rows = np.random.default_rng(1).normal(size=(3, 8, 8, 4)).astype("float32")
    np.testing.assert_array_equal(first.predict(rows), second.predict(rows))
    assert first.operators() == second.operators()
    assert (first.inputs, first.outputs) == (second.inputs, second.outputs)
    assert share_equal_lists(after) == after
