"""What the tests of the rebuilding share: rebuild, save, load and compare.

The table of layers in benchmarks/ is shared too: test_native.py runs a part of it.
"""

import sys
from pathlib import Path

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras2

from tfopt.bridge.to_keras3.graph import rebuild_as_keras3

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

L = keras2.layers
HELD = (L.Normalization, L.Discretization, L.StringLookup, L.IntegerLookup, L.TextVectorization)


def randomize(model, rng):
    """Give every weight a value of its own, so that a weight in the wrong place shows."""
    for layer in model.layers:
        if isinstance(layer, keras2.Model):
            randomize(layer, rng)
        elif not isinstance(layer, HELD):
            for weight in layer.weights:
                low = 0.5 if "variance" in weight.name else -0.6
                weight.assign(rng.uniform(low, low + 1.2, size=weight.shape))


def relative_error(one, other):
    """Return the largest difference of two output structures, over the largest value."""
    worst = 0.0
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape
        # Keras 3 counts in other integers: int32 for Discretization, int64 for a multi-hot.
        assert a.dtype == b.dtype or "i" in (a.dtype.kind, b.dtype.kind)
        if a.dtype.kind not in "fiub":
            np.testing.assert_array_equal(a, b)
        else:
            scale = max(np.abs(a.astype(float)).max(), 1e-9)
            worst = max(worst, np.abs(a.astype(float) - b.astype(float)).max() / scale)
    return worst


def _check(model, data, path, *, limit=1e-6, safe=True):
    """Rebuild, save, load, and compare; return what ``rebuild_as_keras3`` returned."""
    randomize(model, np.random.default_rng(7))
    expected = model(data, training=False)
    rebuilt = rebuild_as_keras3(model)
    assert type(rebuilt.model).__module__.startswith("keras.src.")
    assert relative_error(expected, rebuilt.model(data, training=False)) <= limit
    rebuilt.model.save(path)
    loaded = keras3.models.load_model(path, safe_mode=safe)
    assert relative_error(expected, loaded(data, training=False)) <= limit
    assert [pair.source.shape for pair in rebuilt.pairs] == [
        pair.target.shape for pair in rebuilt.pairs
    ]
    trainable = {id(weight) for weight in model.trainable_weights}
    kept = {id(weight) for weight in rebuilt.model.trainable_weights}
    assert all((id(p.source) in trainable) == (id(p.target) in kept) for p in rebuilt.pairs)
    return rebuilt


@pytest.fixture
def check(tmp_path):
    """Return a function that rebuilds a model and compares it, saved and loaded too."""

    def run(model, data, *, limit=1e-6, safe=True):
        return _check(model, data, tmp_path / "model.keras", limit=limit, safe=safe)

    return run
