"""Encoded images and labels from TFRecord files."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.config.schema import Data
from tfopt.data.checks import Array
from tfopt.data.paths import existing
from tfopt.data.pictures import decode_picture
from tfopt.data.source import SourceData
from tfopt.data.stream import StreamSplit, shuffle_buffer
from tfopt.errors import DataError
from tfopt.registry import did_you_mean

_SUFFIXES = ("*.tfrecord", "*.tfrecords", "*.tfrecord-*", "*.record")


def load_tfrecord(settings: Data) -> SourceData:
    """Return the examples of TFRecord files, images as float32 in ``[0, 1]``.

    Every record is a ``tf.train.Example`` with an encoded image (PNG, JPEG, BMP or GIF)
    under ``data.image_feature`` and one int64 (a class) or float (a number to predict)
    under ``data.label``. All records are read once before training, to count and check
    them.

    Args:
        settings: ``path`` is a file, a folder, or a pattern such as ``data/*.tfrecord``.

    Returns:
        All records; the source has no evaluation rows of its own.

    Raises:
        DataError: If there are no files, a record is damaged or lacks a feature; the
            file and the record are named.
    """
    files = _files(settings.path)
    found = [_labels(file, settings) for file in files]
    labels = np.array([label for of_file in found for label in of_file])
    if labels.size == 0:
        raise DataError(f"The TFRecord files hold no records: {', '.join(files[:3])}.")
    if len({type(label) for of_file in found for label in of_file}) > 1:
        raise DataError(f"The label {settings.label!r} is int64 in some records, float in others.")
    numbers = labels.astype(np.int64 if labels.dtype.kind == "i" else np.float32)
    ends = np.cumsum([len(of_file) for of_file in found])
    return SourceData(
        train=_stream(files, ends, numbers, settings),
        description=f"{len(files)} TFRecord file(s), {labels.size} records",
    )


def _files(path: Path | None) -> list[str]:
    if path is not None and any(mark in str(path) for mark in "*?["):
        files = sorted(name for name in glob.glob(str(path)) if Path(name).is_file())
        if not files:
            raise DataError(f"data.path: no file matches {str(path)!r}.")
        return files
    found = existing(path, what="data.path of source 'tfrecord'")
    if found.is_file():
        return [str(found)]
    files = sorted({str(file) for pattern in _SUFFIXES for file in found.glob(pattern)})
    if not files:
        raise DataError(
            f"data.path: the folder {str(found)!r} has no TFRecord files ({', '.join(_SUFFIXES)})."
        )
    return files


def _labels(file: str, settings: Data) -> list[int | float]:
    """Return the label of each record of a file, having checked the features."""
    labels: list[int | float] = []
    records = tf.data.TFRecordDataset(file).as_numpy_iterator()
    while True:
        try:
            record = next(records)
        except StopIteration:
            return labels
        except tf.errors.OpError as error:
            raise DataError(
                f"The TFRecord file {file!r} is damaged after {len(labels)} records: "
                f"{str(error.message).splitlines()[0]}. Copy or write it again."
            ) from error
        labels.append(_label(record, f"{file!r}, record {len(labels)}", settings))


def _label(record: bytes, what: str, settings: Data) -> int | float:
    try:
        features = tf.train.Example.FromString(record).features.feature
    except Exception as error:  # protobuf's DecodeError has no stable place to import from
        raise DataError(f"{what} is not a tf.train.Example: {error}") from error
    image = _feature(features, settings.image_feature, what)
    if len(image.bytes_list.value) != 1:
        raise DataError(
            f"{what}: the feature {settings.image_feature!r} must be one encoded image (bytes). "
            f"Received: {_kind(image)}."
        )
    label = _feature(features, settings.label or "", what)
    values: Sequence[int | float] = label.int64_list.value or label.float_list.value
    if len(values) != 1:
        raise DataError(
            f"{what}: the label {settings.label!r} must be one int64 or float. Received: "
            f"{_kind(label)}."
        )
    return values[0]


def _feature(features: Any, name: str, what: str) -> Any:
    if name not in features:
        known = sorted(features)
        raise DataError(
            f"{what} has no feature {name!r}.{did_you_mean(name, known)} It has: "
            f"{', '.join(known) or 'none'}."
        )
    return features[name]


def _kind(feature: Any) -> str:
    kind = feature.WhichOneof("kind")
    return "nothing" if kind is None else f"{len(getattr(feature, kind).value)} in {kind}"


def _stream(files: Sequence[str], ends: Array, labels: Array, settings: Data) -> StreamSplit:
    if settings.image_size is None:
        raise DataError("Source 'tfrecord' needs data.image_size: [height, width].")
    height, width = settings.image_size
    shape = (height, width, settings.channels)
    file_bytes = sum(Path(file).stat().st_size for file in files)
    label_type = tf.as_dtype(labels.dtype)
    parsing = {
        settings.image_feature: tf.io.FixedLenFeature((), tf.string),
        settings.label: tf.io.FixedLenFeature((), label_type),
    }

    def read(encoded: bytes, number: int) -> Any:
        place = int(np.searchsorted(ends, number, side="right"))
        record = int(number) - (int(ends[place - 1]) if place else 0)
        what = f"{files[place]!r}, record {record}: the image"
        return decode_picture(encoded, size=(height, width), channels=settings.channels, what=what)

    def decode(number: Any, record: Any) -> Any:
        features = tf.io.parse_single_example(record, parsing)
        pixels = tf.numpy_function(read, [features[settings.image_feature], number], tf.float32)
        return tf.ensure_shape(pixels, shape), features[settings.label]

    return StreamSplit(
        elements=tf.data.TFRecordDataset(list(files)).enumerate(),
        examples=len(labels),
        what=f"TFRecord data {str(settings.path)!r}",
        spec=(tf.TensorSpec(shape, tf.float32), tf.TensorSpec((), label_type)),
        decode=decode,
        class_numbers=labels,
        shuffle_buffer=shuffle_buffer(file_bytes // len(labels)),
    )
