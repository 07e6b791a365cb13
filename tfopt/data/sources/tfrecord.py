"""Encoded images and labels from TFRecord files."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.config.schema import Data
from tfopt.data.checks import Array
from tfopt.data.source import SourceData
from tfopt.data.sources.image_decoding import decode_picture
from tfopt.data.sources.paths import existing
from tfopt.data.stream import StreamSplit
from tfopt.errors import DataError
from tfopt.registry import did_you_mean

_SUFFIXES = ("*.tfrecord", "*.tfrecords", "*.tfrecord-*", "*.record")


# A record is its length (8 bytes), a checksum of that (4), its content, and a checksum (4):
# https://www.tensorflow.org/tutorials/load_data/tfrecord
_HEADER_BYTES, _FOOTER_BYTES = 12, 4


@dataclass(frozen=True, slots=True)
class _Record:
    """Where a record is, and its label."""

    file: str
    number: int
    start: int
    length: int
    label: int | float

    @property
    def what(self) -> str:
        """Return how messages name it."""
        return f"{self.file!r}, record {self.number}"


def load_tfrecord(settings: Data) -> SourceData:
    """Return the examples of TFRecord files, images as float32 in ``[0, 1]``.

    Every record is a ``tf.train.Example`` with an encoded image (PNG, JPEG, BMP or GIF)
    under ``data.image_feature`` and one int64 (a class) or float (a number to predict)
    under ``data.label``. All records are read once before training, to count and check
    them. From then on each is read by itself, so that rows come in any order, and several
    processes read their own ones only.

    Args:
        settings: ``path`` is a file, a folder, or a pattern such as ``data/*.tfrecord``.

    Returns:
        All records; the source has no evaluation rows of its own.

    Raises:
        DataError: If there are no files, a record is damaged or lacks a feature; the
            file and the record are named.
    """
    files = _files(settings.path)
    records = [record for file in files for record in _records(file, settings)]
    labels = np.array([record.label for record in records])
    if labels.size == 0:
        raise DataError(f"The TFRecord files hold no records: {', '.join(files[:3])}.")
    if len({type(record.label) for record in records}) > 1:
        raise DataError(f"The label {settings.label!r} is int64 in some records, float in others.")
    numbers = labels.astype(np.int64 if labels.dtype.kind == "i" else np.float32)
    return SourceData(
        train=_stream(records, numbers, settings),
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


def _records(file: str, settings: Data) -> list[_Record]:
    """Return the records of a file, having checked their features."""
    found: list[_Record] = []
    start = 0
    contents = tf.data.TFRecordDataset(file).as_numpy_iterator()
    while True:
        try:
            content = next(contents)
        except StopIteration:
            return found
        except tf.errors.OpError as error:
            raise DataError(
                f"The TFRecord file {file!r} is damaged after {len(found)} records: "
                f"{str(error.message).splitlines()[0]}. Copy or write it again."
            ) from error
        label = _label(content, f"{file!r}, record {len(found)}", settings)
        found.append(_Record(file, len(found), start, len(content), label))
        start += _HEADER_BYTES + len(content) + _FOOTER_BYTES


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


def _stream(records: Sequence[_Record], labels: Array, settings: Data) -> StreamSplit:
    if settings.image_size is None:
        raise DataError("Source 'tfrecord' needs data.image_size: [height, width].")
    height, width = settings.image_size
    shape = (height, width, settings.channels)
    known = tf.constant(labels)

    def read(number: int) -> Any:
        record = records[number]
        features = tf.train.Example.FromString(_content(record)).features.feature
        return decode_picture(
            _feature(features, settings.image_feature, record.what).bytes_list.value[0],
            size=(height, width),
            channels=settings.channels,
            what=f"{record.what}: the image",
        )

    def decode(number: Any) -> Any:
        pixels = tf.numpy_function(read, [number], tf.float32)
        return tf.ensure_shape(pixels, shape), tf.gather(known, number)

    return StreamSplit(
        elements=tf.data.Dataset.range(len(records)),
        examples=len(records),
        what=f"TFRecord data {str(settings.path)!r}",
        spec=(tf.TensorSpec(shape, tf.float32), tf.TensorSpec((), known.dtype)),
        decode=decode,
        class_numbers=labels,
        shuffle_buffer=len(records),  # of numbers
    )


def _content(record: _Record) -> bytes:
    """Return what a record holds.

    Raises:
        DataError: If it is not there any more.
    """
    try:
        with open(record.file, "rb") as file:
            file.seek(record.start)
            header = file.read(_HEADER_BYTES)
            content = file.read(record.length)
    except OSError as error:
        raise DataError(f"{record.what} cannot be read: {error}") from error
    if header[:8] != record.length.to_bytes(8, "little") or len(content) != record.length:
        raise DataError(
            f"{record.what} is no longer where it was: the file was changed during the run. Start "
            "again, and leave the data as it is meanwhile."
        )
    return content
