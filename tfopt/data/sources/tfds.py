"""Image data sets of tensorflow-datasets, if that package is installed."""

from __future__ import annotations

import importlib
from typing import Any

import tensorflow as tf

from tfopt.config.schema import Data
from tfopt.data.source import SourceData
from tfopt.data.split import Split, split_from
from tfopt.errors import BackendMissing, DataError

_READ_BATCH = 256


def load_tfds(settings: Data) -> SourceData:
    """Return a data set by its name in tensorflow-datasets.

    Byte images become float32 in ``[0, 1]`` and are resized to ``data.image_size`` if
    that is set. The split ``train`` trains; ``test``, or else ``validation``, evaluates.

    Args:
        settings: The recipe's data section: name, image_size.

    Returns:
        The data set's splits.

    Raises:
        BackendMissing: If tensorflow-datasets is not installed.
        DataError: If it does not know or cannot load the data set, or it has no
            ``train`` split.
    """
    try:
        package = importlib.import_module("tensorflow_datasets")
    except ImportError as error:
        raise BackendMissing(
            f"Data source 'tfds' needs tensorflow-datasets: {error}. Run: pip install 'tfopt[tfds]'"
        ) from error
    name = settings.name or ""
    try:
        loaded = package.load(name, as_supervised=True)
    except Exception as error:
        first_line = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"tensorflow-datasets cannot load {name!r}: {type(error).__name__}: {first_line}"
        ) from error
    if "train" not in loaded:
        raise DataError(f"{name!r} has no split 'train'. It has: {', '.join(sorted(loaded))}.")
    evaluation = loaded.get("test", loaded.get("validation"))
    return SourceData(
        train=_split(loaded["train"], settings, f"{name} train"),
        evaluation=None if evaluation is None else _split(evaluation, settings, f"{name} test"),
        description=f"{name} of tensorflow-datasets",
    )


def _split(dataset: Any, settings: Data, what: str) -> Split:
    spec = dataset.element_spec[0]
    is_image = spec.dtype == tf.uint8 and spec.shape.rank == 3
    if is_image and settings.image_size is None and None in spec.shape.as_list()[:2]:
        raise DataError(f"{what}: the images differ in size. Set data.image_size: [height, width].")

    def prepare(inputs: Any, label: Any) -> Any:
        pixels = tf.cast(inputs, tf.float32) / 255.0
        if settings.image_size is not None:
            pixels = tf.image.resize(pixels, settings.image_size, antialias=True)
        return pixels, label

    if is_image:
        dataset = dataset.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return split_from(dataset.batch(_READ_BATCH), what=what)
