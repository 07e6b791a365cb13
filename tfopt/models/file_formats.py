"""Look into a saved model without running anything in it."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]  # ships no types

from tfopt.errors import ModelError

# Layers that tfmot 0.8.1 puts around others while it trains.
_WRAPPERS = frozenset(
    {
        "PruneLowMagnitude",
        "ClusterWeights",
        "QuantizeAnnotate",
        "QuantizeLayer",
        "QuantizeWrapper",
        "QuantizeWrapperV2",
    }
)
_CLASS_NAME = re.compile(rb'"class_name": ?"(?:[\w ]*>)?(\w+)"')
_LAMBDA_CODE = re.compile(rb'"function_type": ?"lambda"|"class_name": ?"__lambda__"')


@dataclass(frozen=True, slots=True)
class Contents:
    """What a saved model says about itself.

    Attributes:
        keras_version: Version of the Keras that saved it; None if it does not say.
        wrappers: Class names of tfmot's wrappers in it.
        has_lambda_code: Whether a Lambda layer carries marshalled Python code.
        custom_names: Registered names of classes and functions that are not Keras' own,
            as far as the format tells (``.keras`` does).
    """

    keras_version: str | None
    wrappers: frozenset[str]
    has_lambda_code: bool
    custom_names: frozenset[str] = frozenset()


def keras_contents(path: Path) -> Contents:
    """Return the contents of a ``.keras`` file.

    Args:
        path: The file.

    Returns:
        What it says about itself.

    Raises:
        ModelError: If it is not a whole zip archive with a model in it.
    """
    if not zipfile.is_zipfile(path):
        if h5py.is_hdf5(path):
            raise ModelError(f"{str(path)!r} is an HDF5 file. Rename it to end in .h5.")
        raise ModelError(
            f"{str(path)!r} is not a .keras file, or only the beginning of one: it is not a whole "
            "zip archive. Copy or save it again."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            names = archive.namelist()
            if damaged is None and {"metadata.json", "config.json"} <= set(names):
                metadata = json.loads(archive.read("metadata.json"))
                config = archive.read("config.json")
                custom = frozenset(_custom_names(json.loads(config)))
                found = _contents_of(config, metadata.get("keras_version"))
                return replace(found, custom_names=custom)
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, AttributeError) as error:
        raise ModelError(f"{str(path)!r} is damaged: {error}. Copy or save it again.") from error
    if damaged is not None:
        raise ModelError(f"{str(path)!r} is damaged (in {damaged!r}). Copy or save it again.")
    raise ModelError(
        f"{str(path)!r} is a zip archive without a Keras model (no metadata.json and config.json). "
        f"It holds: {', '.join(sorted(names)[:5]) or 'nothing'}."
    )


def h5_contents(path: Path) -> Contents:
    """Return the contents of an ``.h5`` file.

    Args:
        path: The file.

    Returns:
        What it says about itself.

    Raises:
        ModelError: If it is damaged, or holds weights only.
    """
    try:
        with h5py.File(path, "r") as file:
            config = file.attrs.get("model_config")
            version = file.attrs.get("keras_version")
    except (OSError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"{str(path)!r} is not an HDF5 file, or a damaged one: {_one_line(error)}. Copy or "
            "save it again."
        ) from error
    if config is None:
        raise ModelError(
            f"{str(path)!r} holds weights only, without the model. Build the model, load_weights() "
            "and save the whole with model.save()."
        )
    return _contents_of(_bytes(config), None if version is None else _bytes(version).decode())


def saved_model_contents(path: Path) -> Contents:
    """Return the contents of a SavedModel folder.

    Args:
        path: The folder.

    Returns:
        What it says about itself.

    Raises:
        ModelError: If it is not a SavedModel, or not one that tf_keras saved.
    """
    if not (path / "saved_model.pb").is_file():
        raise ModelError(
            f"The folder {str(path)!r} is not a SavedModel: it has no saved_model.pb. Give the "
            "folder that directly holds it, or a .keras or .h5 file."
        )
    metadata = path / "keras_metadata.pb"
    if not metadata.is_file():
        raise ModelError(
            f"The SavedModel {str(path)!r} was not saved by tf_keras (no keras_metadata.pb): it "
            "holds functions, not layers, so no step can change it. Save the model as .keras."
        )
    return _contents_of(metadata.read_bytes(), None)


def _contents_of(config: bytes, keras_version: Any) -> Contents:
    names = {name.decode() for name in _CLASS_NAME.findall(config)}
    return Contents(
        keras_version=None if keras_version is None else str(keras_version),
        wrappers=frozenset(names & _WRAPPERS),
        has_lambda_code=_LAMBDA_CODE.search(config) is not None,
    )


def _custom_names(config: Any) -> Iterator[str]:
    """Yield the registered name of every object that is not Keras' own."""
    if isinstance(config, dict):
        name = config.get("registered_name")
        module = str(config.get("module") or "")
        if name and module.split(".")[0] not in {"keras", "tf_keras", "builtins"}:
            yield str(name)
        config = list(config.values())
    if isinstance(config, list):
        for entry in config:
            yield from _custom_names(entry)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
