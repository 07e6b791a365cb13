"""Arrays from a NumPy ``.npz`` file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfopt.config.schema import Data
from tfopt.data.checks import Array
from tfopt.data.source import SourceData
from tfopt.data.sources.paths import existing_file
from tfopt.data.split import split_from
from tfopt.data.text.load import splits_of_texts
from tfopt.errors import DataError
from tfopt.registry import did_you_mean

_KEYS = ("x", "y", "x_train", "y_train", "x_test", "y_test", "x_val", "y_val")


def load_npz(settings: Data) -> SourceData:
    """Return the arrays ``x, y``, or ``x_train, y_train`` and so on, of an ``.npz`` file.

    ``x_test, y_test`` evaluate and ``x_val, y_val`` validate, if they are there. Values
    stay as they are; text labels become class numbers, and with ``data.text`` strings
    become token ids.

    Args:
        settings: The recipe's data section: path, text.

    Returns:
        The splits that the file has.

    Raises:
        DataError: If the file is missing or damaged, lacks a key, or holds objects.
    """
    path = existing_file(settings.path, what="data.path of source 'npz'")
    arrays = _arrays(str(path))
    suffix = "_train" if "x_train" in arrays or "y_train" in arrays else ""
    suffixes = {"train": suffix, "evaluation": "_test", "validation": "_val"}
    named = {
        name: _pair(arrays, ending, path.name)
        for name, ending in suffixes.items()
        if name == "train" or _has(arrays, ending)
    }
    notes: tuple[str, ...] = ()
    if settings.text is None:
        splits: dict[str, Any] = {
            name: split_from(pair, what=what) for name, (what, pair) in named.items()
        }
    else:
        splits, notes = splits_of_texts(named, settings.text)
    return SourceData(description=f"Arrays of {path.name}", notes=notes, **splits)


def _has(arrays: Mapping[str, Array], suffix: str) -> bool:
    return f"x{suffix}" in arrays or f"y{suffix}" in arrays


def _pair(arrays: Mapping[str, Array], suffix: str, name: str) -> tuple[str, tuple[Array, Array]]:
    """Return inputs and labels of one split, and how messages name them."""
    keys = (f"x{suffix}", f"y{suffix}")
    for key in keys:
        if key not in arrays:
            others = [other for other in arrays if other not in _KEYS]
            near = did_you_mean(key, others)
            raise DataError(
                f"{name} has no array {key!r}.{near} It has: {', '.join(arrays) or 'none'}. Save "
                "it with np.savez(path, x=..., y=...), or x_train, y_train, x_test, y_test."
            )
    return f"{name} ({', '.join(keys)})", (arrays[keys[0]], arrays[keys[1]])


def _arrays(path: str) -> dict[str, Array]:
    """Return the arrays under the keys that tfopt reads; others are only named."""
    try:
        with open(path, "rb") as file:  # np.load leaves a file open that it cannot read
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.lib.npyio.NpzFile):
                return {key: _array(loaded, key, path) for key in loaded.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path!r} is not an .npz file, or a damaged one: {error}. Save it with np.savez()."
        ) from error
    raise DataError(
        f"{path!r} holds a single array (.npy). Save inputs and labels together: "
        "np.savez(path, x=..., y=...)."
    )


def _array(loaded: Mapping[str, Array], key: str, path: str) -> Array:
    if key not in _KEYS:
        return np.empty(0)
    try:
        return loaded[key]
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path!r}: the array {key!r} holds Python objects, which tfopt does not unpickle "
                "since that can run code. Give every row the same shape and save numbers or text."
            ) from error
        raise DataError(f"{path!r}: the array {key!r} is damaged: {error}") from error
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
        raise DataError(f"{path!r}: the array {key!r} is damaged: {error}") from error
