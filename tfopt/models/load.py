"""Read and write models of both Kerases, and refuse files that cannot be trusted."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.bridge.custom_objects import OBJECTS
from tfopt.bridge.load import load_keras3
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.errors import ModelError, StorageError
from tfopt.keras2.core import Model, is_keras3, keras, require_model
from tfopt.models.file_formats import Contents, h5_contents, keras_contents, saved_model_contents
from tfopt.registry import did_you_mean
from tfopt.storage import make_folder, whole_file

_log = logging.getLogger(__name__)

_UNKNOWN_CLASS = re.compile(
    r"(?:Unknown layer: |Could not locate class |Unknown object: |Could not locate function |"
    r"Unknown \w+ ?\w*: )['\"]?(?P<name>[\w>.]+)"
)


def load_model(
    path: Path | str, *, custom_objects: Mapping[str, Any] | None = None, trust: bool = False
) -> Model:
    """Return the model saved in ``path`` as a tf_keras model, not compiled.

    Args:
        path: A ``.keras`` or ``.h5`` file of either Keras, or a SavedModel folder saved by
            tf_keras. A Keras 3 model is converted; ``conversion_of`` returns the evidence.
        custom_objects: Classes that the file needs, by name; tfmot's wrappers are
            refused unless they are given here.
        trust: Whether Python code in the file may run.

    Returns:
        A built Functional or Sequential model with finite weights.

    Raises:
        ModelError: If there is no such file, it is empty or corrupt, it holds code and is
            not trusted, or layers that are not registered, a weight is NaN or infinite, or
            the model is subclassed.
        VerificationError: If the conversion from Keras 3 changed what the model computes.
    """
    return to_tf_keras(read_model(path, custom_objects=custom_objects, trust=trust).model)


@dataclass(frozen=True, slots=True)
class Found:
    """A model as it was saved.

    Attributes:
        model: An uncompiled model of either Keras.
        saved_by: Such as ``Keras 3.15.1`` or ``tf_keras 2.21.0``.
    """

    model: Any
    saved_by: str


def read_model(
    path: Path | str, *, custom_objects: Mapping[str, Any] | None = None, trust: bool = False
) -> Found:
    """Return the model saved in ``path`` in the Keras that saved it.

    Args:
        path: See ``load_model``.
        custom_objects: See ``load_model``.
        trust: See ``load_model``.

    Raises:
        ModelError: See ``load_model``.
    """
    path = Path(path)
    contents = _contents(path)
    if _is_of_keras3(contents):
        found = Found(
            load_keras3(path, trust=trust, custom_objects=custom_objects),
            f"Keras {contents.keras_version}",
        )
    else:
        known = {**OBJECTS, **(custom_objects or {})}
        found = Found(
            _load_tf_keras(path, contents, known, trust=trust),
            f"tf_keras {contents.keras_version or '(version not said)'}",
        )
    _log.info("%s was saved by %s", path, found.saved_by)
    check_weights(found.model, what=f"model {str(path)!r}")
    return found


def _load_tf_keras(
    path: Path, contents: Contents, known: Mapping[str, Any], *, trust: bool
) -> Model:
    _check_contents(path, contents, known, trust=trust)
    try:
        # Only the .keras format has a safe mode; what the others hold was looked at above.
        safe = {"safe_mode": False} if trust and path.suffix == ".keras" else {}
        model = keras.models.load_model(path, custom_objects=dict(known), compile=False, **safe)
    except Exception as error:
        unknown = _unregistered(contents, error, known)
        raise ModelError(_loading_failed(path, error, unknown)) from error
    _refuse_revived(model, path)
    return require_model(model, f"model in {str(path)!r}")


def check_weights(model: Any, *, what: str) -> None:
    """Raise if a weight holds NaN or infinity.

    Args:
        model: A built model of either Keras.
        what: How the message names the model.

    Raises:
        ModelError: Naming the first such weight.
    """
    for weight in model.weights:
        if "float" not in str(tf.as_dtype(weight.dtype).name):
            continue
        values = np.asarray(weight, np.float32)
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            name = str(getattr(weight, "path", weight.name)).removesuffix(":0")
            raise ModelError(
                f"The {what} is broken: {bad} of {values.size} entries of the weight {name!r} are "
                "NaN or infinite. Use an earlier checkpoint."
            )


def _contents(path: Path) -> Contents:
    """Return what the file says about itself; nothing in it is executed."""
    try:
        if path.is_dir():
            return saved_model_contents(path)
        if not path.exists():
            raise ModelError(f"There is no model {str(path)!r}.{_near_sibling(path)}")
        if path.stat().st_size == 0:
            raise ModelError(f"The model file {str(path)!r} is empty (0 bytes).")
        if path.suffix == ".keras":
            return keras_contents(path)
        if path.suffix in {".h5", ".hdf5"}:
            return h5_contents(path)
    except OSError as error:
        raise ModelError(f"The model {str(path)!r} cannot be read: {error}") from error
    hint = (
        " It is an exported file; give the Keras model it was made from."
        if path.suffix in {".tflite", ".onnx", ".pb"}
        else ""
    )
    raise ModelError(
        f"{str(path)!r} is not a model file that tfopt reads: .keras, .h5, .hdf5, or a SavedModel "
        f"folder.{hint}"
    )


def _near_sibling(path: Path) -> str:
    if not path.parent.is_dir():
        return f" The folder {str(path.parent)!r} does not exist."
    near = did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()])
    return near or f" Looked in {str(path.parent.resolve())!r}."


def _is_of_keras3(contents: Contents) -> bool:
    major = (contents.keras_version or "2").partition(".")[0]
    return major.isdigit() and int(major) >= 3


def _check_contents(
    path: Path, contents: Contents, known: Mapping[str, Any], *, trust: bool
) -> None:
    if contents.has_lambda_code and not trust:
        raise ModelError(
            f"{str(path)!r} holds a Lambda layer with Python code inside, which could do anything "
            "when loaded. Pass trust=True (--trust, model.trust in a recipe) if you trust where "
            "the file is from, or replace the layer by a built-in or registered one."
        )
    wrapped = sorted(contents.wrappers - set(known))
    if wrapped:
        raise ModelError(
            f"{str(path)!r} holds a model in the middle of a tfmot step ({', '.join(wrapped)} "
            "layers). Strip it first (tfmot's strip_pruning or strip_clustering), or give the "
            "model from before quantization."
        )


def _unregistered(contents: Contents, error: Exception, known: Mapping[str, Any]) -> str | None:
    """Return the class or function that is to blame, if it is one that Keras does not know.

    tf_keras 2.21 names it for ``.h5``; for ``.keras`` it may fail later, with an error
    about something else.
    """
    told = _UNKNOWN_CLASS.search(str(error))
    if told:
        return told["name"]
    for name in sorted(contents.custom_names):
        is_known = name in known or name.rpartition(">")[2] in known
        if not is_known and keras.saving.get_registered_object(name) is None:
            return name
    return None


def _loading_failed(path: Path, error: Exception, unknown: str | None) -> str:
    if unknown:
        return (
            f"{str(path)!r} needs {unknown!r}, which is not registered. Decorate the class or "
            "function with tf_keras.saving.register_keras_serializable() and import its module "
            "before loading."
        )
    first_line = next((line for line in str(error).splitlines() if line.strip()), "no message")
    return (
        f"{str(path)!r} cannot be loaded by tf_keras: {type(error).__name__}: "
        f"{first_line.strip()[:300]}"
    )


def _refuse_revived(model: Any, path: Path) -> None:
    """Raise if a layer of a SavedModel came back as a stand-in without its Python code."""
    layers = [model, *getattr(model, "layers", ())]
    revived = [
        layer.name
        for layer in layers
        if any(base.__name__ in {"RevivedLayer", "RevivedNetwork"} for base in type(layer).__mro__)
    ]
    if revived:
        raise ModelError(
            f"{str(path)!r} needs the custom code of {', '.join(map(repr, revived))}, which is not "
            "registered. Decorate the class with tf_keras.saving.register_keras_serializable() "
            "and import its module before loading."
        )


def save_model(model: Any, path: Path | str) -> None:
    """Save a model as ``.keras`` or ``.h5``, replacing a file of that name.

    The file is written under a temporary name in the same folder, flushed to disk, and
    renamed, so that a crash leaves the old file or the new one.

    Args:
        model: A built model of either Keras.
        path: Where to; missing folders are made.

    Raises:
        StorageError: If the suffix is another one, or the file cannot be written.
        ModelError: If it is no Functional or Sequential model.
    """
    if not is_keras3(model):
        require_model(model)
    path = Path(path)
    if path.suffix not in {".keras", ".h5"}:
        raise StorageError(
            f"A model is saved as .keras or .h5. Received: {str(path)!r}. Change the suffix."
        )
    make_folder(path.parent)
    with whole_file(path) as temporary, warnings.catch_warnings():
        # tf_keras calls HDF5 "legacy"; the user asked for it by the suffix.
        warnings.filterwarnings("ignore", message="You are saving your model as an HDF5")
        try:
            model.save(temporary)
        except RuntimeError as error:
            # h5py raises it when the disk is full while it closes the file.
            raise OSError(str(error)) from error
