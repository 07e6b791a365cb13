"""Images from folders: one folder for each class."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.config.schema import Data
from tfopt.data.source import SourceData
from tfopt.data.sources.image_decoding import SUFFIXES, decode_picture
from tfopt.data.sources.paths import existing
from tfopt.data.split import Split
from tfopt.data.stream import StreamSplit
from tfopt.errors import DataError
from tfopt.registry import did_you_mean

_TRAIN = ("train", "training")
_TEST = ("test", "testing", "evaluation", "eval")
_VALIDATION = ("val", "valid", "validation")
_CHECK_THREADS = 4


def load_images(settings: Data) -> SourceData:
    """Return the images of ``path/CLASS/*`` or ``path/train/CLASS/*``, float32 in [0, 1].

    With a ``train`` folder, ``test`` evaluates and ``val`` validates; with ``val`` alone,
    it evaluates. Classes are numbered in the order of their sorted names. Files that
    are no PNG, JPEG, BMP or GIF by their name are passed over.

    Args:
        settings: The recipe's data section: path, image_size, channels.

    Returns:
        Streams of the images; ``data.cache`` decides later what is kept in memory.

    Raises:
        DataError: If there are no class folders or images, a class is only in the
            evaluation folder, or a file cannot be read; the file is named.
    """
    root = existing(settings.path, what="data.path of source 'images'")
    if not root.is_dir():
        raise DataError(f"data.path of source 'images': {str(root)!r} is a file. Give a folder.")
    train = _subfolder(root, _TRAIN) or root
    names = tuple(folder.name for folder in _folders(train))
    if not names:
        raise DataError(
            f"{str(train)!r} has no folders. Put the images of each class in a folder of its own: "
            f"{train / 'cat' / '1.png'}."
        )
    test = validation = None
    if train is not root:
        test, validation = _subfolder(root, _TEST), _subfolder(root, _VALIDATION)
        if test is None:
            test, validation = validation, None
    return SourceData(
        train=_split(train, names, settings),
        evaluation=None if test is None else _split(test, names, settings),
        validation=None if validation is None else _split(validation, names, settings),
        classes=len(names),
        class_names=names,
        description=f"Images of {len(names)} classes in {root.name}",
    )


def _folders(folder: Path) -> list[Path]:
    return sorted(
        entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )


def _subfolder(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _split(folder: Path, names: tuple[str, ...], settings: Data) -> Split:
    files: list[str] = []
    labels: list[int] = []
    for class_folder in _folders(folder):
        if class_folder.name not in names:
            raise DataError(
                f"{str(class_folder)!r} is a class that the training folder lacks."
                f"{did_you_mean(class_folder.name, names)} Classes: {', '.join(names)}."
            )
        found = sorted(str(path) for path in class_folder.rglob("*") if _is_image(path))
        if not found:
            raise DataError(f"{str(class_folder)!r} has no images ({', '.join(sorted(SUFFIXES))}).")
        files += found
        labels += [names.index(class_folder.name)] * len(found)
    if not files:
        raise DataError(f"{str(folder)!r} has no class folders with images.")
    if settings.image_size is None:
        raise DataError("Source 'images' needs data.image_size: [height, width].")
    _check_headers(files)
    return _stream(files, np.array(labels, np.int64), folder, settings)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _check_headers(files: Sequence[str]) -> None:
    """Raise, before any training, for the first file that is not an image by its bytes."""
    from PIL import Image

    def problem(file: str) -> str | None:
        try:
            with Image.open(file):
                return None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            empty = Path(file).stat().st_size == 0
            return f"{file!r} is {'empty' if empty else f'not a readable image: {error}'}."

    with ThreadPoolExecutor(_CHECK_THREADS) as pool:
        problems = [text for text in pool.map(problem, files) if text]
    if problems:
        more = f" {len(problems) - 1} more files are broken too." if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more} Remove or replace them.")


def _stream(files: Sequence[str], labels: Any, folder: Path, settings: Data) -> StreamSplit:
    height, width = settings.image_size or (1, 1)
    shape = (height, width, settings.channels)

    def read(path: bytes) -> Any:
        name = path.decode()
        return decode_picture(
            Path(name), size=(height, width), channels=settings.channels, what=repr(name)
        )

    def decode(path: Any, label: Any) -> Any:
        pixels = tf.numpy_function(read, [path], tf.float32)
        return tf.ensure_shape(pixels, shape), label

    return StreamSplit(
        elements=tf.data.Dataset.from_tensor_slices((list(files), labels)),
        examples=len(files),
        what=f"images in {str(folder)!r}",
        spec=(tf.TensorSpec(shape, tf.float32), tf.TensorSpec((), tf.int64)),
        decode=decode,
        class_numbers=labels,
        shuffle_buffer=len(files),  # of file names
    )
