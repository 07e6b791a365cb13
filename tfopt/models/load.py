"""Read and write tf_keras models, and refuse files that cannot be trusted."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfopt.errors import ModelError, StorageError
from tfopt.legacy_keras import Model, keras, require_model
from tfopt.models.archive import Contents, h5_contents, keras_contents, saved_model_contents
from tfopt.registry import did_you_mean
from tfopt.storage import make_folder, whole_file

_UNKNOWN_CLASS = re.compile(
    r"(?:Unknown layer: |Could not locate class |Unknown object: |Could not locate function |"
    r"Unknown \w+ ?\w*: )['\"]?(?P<name>[\w>.]+)"
)


def load_model(path: Path | str, *, custom_objects: Mapping[str, Any] | None = None) -> Model:
    """Return the tf_keras model saved in ``path``, not compiled.

    Args:
        path: A ``.keras`` or ``.h5`` file, or a SavedModel folder, saved by tf_keras.
        custom_objects: Classes that the file needs, by name; tfmot's wrappers are
            refused unless they are given here.

    Returns:
        A built Functional or Sequential model with finite weights.

    Raises:
        ModelError: If there is no such file, it is empty or corrupt, another Keras saved
            it, it holds code or layers that are not registered, a weight is NaN or
            infinite, or the model is subclassed.
    """
    path = Path(path)
    contents = _contents(path)
    _check_contents(path, contents, custom_objects or {})
    try:
        model = keras.models.load_model(
            path, custom_objects=dict(custom_objects or {}), compile=False
        )
    except Exception as error:
        unknown = _unregistered(contents, error, custom_objects or {})
        raise ModelError(_loading_failed(path, error, unknown)) from error
    _refuse_revived(model, path)
    require_model(model, f"model in {str(path)!r}")
    check_weights(model, what=f"model {str(path)!r}")
    return model


def check_weights(model: Model, *, what: str) -> None:
    """Raise if a weight holds NaN or infinity.

    Args:
        model: A built model.
        what: How the message names the model.

    Raises:
        ModelError: Naming the first such weight.
    """
    for weight in model.weights:
        if not weight.dtype.is_floating:
            continue
        values = np.asarray(weight.numpy(), np.float32)
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise ModelError(
                f"The {what} is broken: {bad} of {values.size} entries of the weight "
                f"{weight.name.removesuffix(':0')!r} are NaN or infinite. Use an earlier "
                "checkpoint."
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


def _check_contents(path: Path, contents: Contents, known: Mapping[str, Any]) -> None:
    major = (contents.keras_version or "2").partition(".")[0]
    if major.isdigit() and int(major) >= 3:
        raise ModelError(
            f"{str(path)!r} was saved by Keras {contents.keras_version}, and tfopt reads models "
            "saved by tf_keras (Keras 2). Build the model with `import tf_keras as keras`, load "
            "its weights, and save it again."
        )
    if contents.has_lambda_code:
        raise ModelError(
            f"{str(path)!r} holds a Lambda layer with Python code inside, which could do anything "
            "when loaded and cannot be exported. Replace it by a built-in or registered layer."
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


def save_model(model: Model, path: Path | str) -> None:
    """Save a model as ``.keras`` or ``.h5``, replacing a file of that name.

    The file is written under a temporary name in the same folder, flushed to disk, and
    renamed, so that a crash leaves the old file or the new one.

    Args:
        model: A built tf_keras model.
        path: Where to; missing folders are made.

    Raises:
        StorageError: If the suffix is another one, or the file cannot be written.
    """
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
