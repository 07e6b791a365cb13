"""Hashes that say whether two runs have the same model and the same data."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import tensorflow as tf

from tfopt.config.load import settings_sha256
from tfopt.config.schema import Recipe
from tfopt.data.load import DataBundle
from tfopt.data.split import Split
from tfopt.data.stream import read
from tfopt.keras2.core import Model, keras

_KEY_ROWS = 256
_READ_ROWS = 1024


def model_sha256(model: Model) -> str:
    """Return a hash of a model's layers and weights, as 64 hexadecimal digits.

    Names do not count: tf_keras numbers them through a whole process. Nor does code in a
    config, such as a Lambda's: its address or bytes differ from process to process.
    """
    digest = hashlib.sha256()
    for layer in model._flatten_layers(include_self=False):
        is_opaque = isinstance(layer, keras.Model | keras.layers.Lambda)
        config = {} if is_opaque else layer.get_config()
        config.pop("name", None)
        text = json.dumps([type(layer).__name__, config], default=lambda value: str(type(value)))
        digest.update(text.encode())
    for weight in model.weights:
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()


def data_key(recipe: Recipe, data: DataBundle) -> str:
    """Return a hash of the data section and of rows drawn from all over the data.

    Data can change behind an unchanged recipe: a file, a folder, the user's function.
    """
    digest = hashlib.sha256(settings_sha256(recipe.data.model_dump(mode="json")).encode())
    for split in (data.train, data.evaluation):
        digest.update(str(split.examples).encode())
        for array in tf.nest.flatten(split.sample_inputs(_KEY_ROWS, seed=0)):
            digest.update(np.ascontiguousarray(array).tobytes())
        if split.class_numbers is not None:
            digest.update(np.ascontiguousarray(split.class_numbers).tobytes())
    return digest.hexdigest()


def rows_sha256(split: Split) -> str:
    """Return a hash of all rows of a split, in order: inputs, labels and weights.

    Args:
        split: A split whose readings are alike.

    Raises:
        DataError: If the rows cannot be read.
    """
    digest = hashlib.sha256(str(split.examples).encode())
    for batch in read(split.batches(_READ_ROWS), "training data"):
        for array in tf.nest.flatten(batch):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
