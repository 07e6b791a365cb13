"""Load the files that Keras 3 writes, and run nothing in them that was not trusted.

Keras 3's own safe mode refuses marshalled Python code, but it still calls any function
of ``keras.*`` that a config names, with arguments from the config (3.15.1,
``keras/src/saving/serialization_lib.py``), and a few of its layers read files or unpickle.
So the config is read as text first, and everything in it must be a part of a model.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]  # ships no types

from tfopt.bridge.keras3 import keras as keras3
from tfopt.bridge.keras3 import require_tensorflow_backend
from tfopt.errors import ModelError

__all__ = ["check_config", "load_keras3"]

# Packages whose classes Keras 3 itself imports by name; it takes only model parts from them.
_PACKAGES = frozenset({"keras", "keras_hub", "keras_cv", "keras_nlp"})
# The parts of Keras' public API whose functions and classes compute, and do nothing else.
_MODEL_PARTS = (
    *("keras.activations", "keras.constraints", "keras.dtype_policies", "keras.initializers"),
    *("keras.layers", "keras.losses", "keras.metrics", "keras.models", "keras.ops"),
    *("keras.optimizers", "keras.quantizers", "keras.random", "keras.regularizers", "keras.src"),
    "keras.mixed_precision",
)
# What these hold is code or another file: a SavedModel, a pickle.
_LAYERS_WITH_CODE = {
    "FlaxLayer": "calls Python code",
    "JaxLayer": "calls Python code",
    "TFSMLayer": "loads a SavedModel, which runs what it likes",
    "TorchModuleWrapper": "unpickles a PyTorch module",
}
_LOADING_FUNCTIONS = ("load_model", "load_weights", "get_file", "model_from_json", "save_model")
_TRUST = "Pass trust=True (--trust, model.trust in a recipe) if you trust where the file is from."


def load_keras3(
    path: Path | str, *, trust: bool = False, custom_objects: Mapping[str, Any] | None = None
) -> Any:
    """Return the Keras 3 model saved in a ``.keras`` or ``.h5`` file, not compiled.

    Args:
        path: A file that Keras 3 saved.
        trust: Whether Python code in the file may run.
        custom_objects: Classes and functions that the file needs, by name, beside those
            registered with ``keras.saving.register_keras_serializable``.

    Returns:
        A ``keras.Model``.

    Raises:
        ModelError: If the file is damaged, holds no model, holds code and is not trusted,
            or needs a class that is not known.
    """
    require_tensorflow_backend()
    path, known = Path(path), dict(custom_objects or {})
    config = _config_of(path)
    if not trust:
        check_config(config, what=repr(str(path)), known=known)
    _refuse_unknown(path, config, known)
    try:
        with warnings.catch_warnings():
            # The optimizer is not loaded, whatever Keras says about its variables.
            warnings.filterwarnings("ignore", message="Skipping variable loading for optimizer")
            warnings.filterwarnings("ignore", message="__array__ implementation doesn't accept")
            model = keras3.saving.load_model(
                path, custom_objects=known, compile=False, safe_mode=not trust
            )
    # A file from outside can make Keras raise anything; every case has a message of its own.
    except Exception as error:
        raise ModelError(_loading_failed(path, error)) from error
    if not isinstance(model, keras3.Model):
        raise ModelError(
            f"{str(path)!r} holds a {type(model).__name__}, not a model. Save the whole model with "
            "model.save()."
        )
    return model


def check_config(config: Mapping[str, Any], *, what: str, known: Mapping[str, Any]) -> None:
    """Raise if a Keras 3 config holds code, or names anything but parts of a model.

    Args:
        config: The whole config of a model, as read from its file.
        what: How the message names the file.
        known: The user's own classes and functions, by name.

    Raises:
        ModelError: Naming the first such entry, its layer, and ``trust=True``.
    """
    for entry, layer in _entries(config, layer="the model"):
        problem = _problem(entry, known)
        if problem:
            raise ModelError(f"{what} is not loaded: {layer} {problem}. {_TRUST}")


def _entries(config: Any, layer: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield every serialized object of a config, and the words for the layer it is in."""
    if isinstance(config, Mapping):
        if "class_name" in config:
            inner = config.get("config")
            if isinstance(inner, Mapping) and isinstance(inner.get("name"), str):
                layer = f"layer {inner['name']!r}"
            yield config, layer
        config = list(config.values())
    if isinstance(config, list):
        for entry in config:
            yield from _entries(entry, layer)


def _problem(entry: Mapping[str, Any], known: Mapping[str, Any]) -> str | None:
    """Return what is wrong with one serialized object, None if nothing is."""
    name = str(entry["class_name"])
    if name == "__lambda__" or (name == "Lambda" and _is_marshalled(entry.get("config"))):
        return "holds Python code (a Lambda), which could do anything when it is loaded or called"
    if name in _LAYERS_WITH_CODE:
        return f"is a {name}, which {_LAYERS_WITH_CODE[name]}"
    inner = entry.get("config")
    called = inner if name == "function" and isinstance(inner, str) else name
    module = entry.get("module")
    if _is_registered(entry, called, known) or module == "builtins":
        return None
    if module is None:
        # An .h5 file names the classes of keras.layers alone, and its functions too.
        return f"calls {name}, which is no layer" if name[:1].islower() else None
    return _module_problem(str(module), str(called))


def _is_marshalled(config: Any) -> bool:
    """Return whether the config of a Lambda holds byte code, in either spelling."""
    if not isinstance(config, Mapping):
        return False
    values = [config.get(key) for key in ("function", "output_shape", "mask")]
    code = any(isinstance(value, list) and _is_code(value) for value in values)
    return code or "lambda" in (config.get("function_type"), config.get("output_shape_type"))


def _is_code(value: list[Any]) -> bool:
    return bool(value) and isinstance(value[0], str)


def _is_registered(entry: Mapping[str, Any], name: str, known: Mapping[str, Any]) -> bool:
    names = [name, entry.get("registered_name")]
    return any(
        one in known or keras3.saving.get_registered_object(one) is not None
        for one in names
        if isinstance(one, str)
    )


def _module_problem(module: str, name: str) -> str | None:
    """Return why Keras may not look a name up in a module, None if it may."""
    package = module.partition(".")[0]
    if package not in _PACKAGES:
        return None  # Keras imports no such module; the name is reported as unknown
    if name in _LOADING_FUNCTIONS:
        return f"calls {module}.{name}, which is no part of a model"
    parts = tuple(f"{part}." for part in _MODEL_PARTS)
    top_class = module == "keras" and isinstance(getattr(keras3, name, None), type)
    if package != "keras" or top_class or f"{module}.".startswith(parts):
        return None
    return f"calls {module}.{name}, which is no part of a model"


def _config_of(path: Path) -> Mapping[str, Any]:
    """Return the model config in a file, as plain data.

    Raises:
        ModelError: If the file is missing, damaged, or has no model in it.
    """
    if path.is_dir():
        raise ModelError(_why_no_folder(path))
    if not path.exists():
        raise ModelError(f"There is no model {str(path)!r}.")
    read = _keras_config if zipfile.is_zipfile(path) else _h5_config
    if path.name.endswith(".weights.h5"):
        raise ModelError(_weights_only(path))
    try:
        config = json.loads(read(path))
    except (zipfile.BadZipFile, OSError, KeyError, ValueError, RuntimeError, EOFError) as error:
        raise ModelError(
            f"{str(path)!r} is damaged, or no model file: {_one_line(error)}. Copy or save it "
            "again."
        ) from error
    if not isinstance(config, dict) or "class_name" not in config:
        raise ModelError(f"{str(path)!r} holds no Keras model. Save one with model.save().")
    # Losses, metrics and the optimizer are not loaded.
    return {key: value for key, value in config.items() if key != "compile_config"}


def _why_no_folder(path: Path) -> str:
    if (path / "saved_model.pb").is_file():
        return (
            f"The SavedModel {str(path)!r} holds functions, not layers (model.export() wrote it), "
            "so no step can change it. Save the model with model.save('model.keras')."
        )
    return f"{str(path)!r} is a folder. Give a .keras or .h5 file."


def _keras_config(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged!r} does not match its checksum")
        if "config.json" not in archive.namelist():
            raise ModelError(_weights_only(path))
        # Keras opens this one itself; a file that h5py refuses shall fail here.
        if "model.weights.h5" in archive.namelist():
            h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r").close()
        return archive.read("config.json")


def _h5_config(path: Path) -> bytes | str:
    with h5py.File(path, "r") as file:
        config = file.attrs.get("model_config")
    if config is None:
        raise ModelError(_weights_only(path))
    text: bytes | str = config
    return text


def _weights_only(path: Path) -> str:
    return (
        f"{str(path)!r} holds weights only, without the model. Build the model, load_weights() and "
        "save the whole with model.save()."
    )


def _refuse_unknown(path: Path, config: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise if the file needs a class or function that Keras does not know here."""
    for entry, layer in _entries(config, layer="the model"):
        name = str(entry["class_name"])
        inner = entry.get("config")
        called = inner if name == "function" and isinstance(inner, str) else name
        if _is_own(entry, name) or _is_registered(entry, called, known):
            continue
        module = f" of the module {entry['module']!r}" if entry.get("module") else ""
        raise ModelError(
            f"{str(path)!r} needs {entry.get('registered_name') or called!r}{module} ({layer}), "
            "which is not registered, and no module is imported because a file names it. Decorate "
            "the class or function with keras.saving.register_keras_serializable() and import its "
            "module before loading, or give it in custom_objects."
        )


def _is_own(entry: Mapping[str, Any], name: str) -> bool:
    """Return whether Keras, or a package that it imports by itself, has an object."""
    module = entry.get("module")
    if module:
        return module == "builtins" or str(module).partition(".")[0] in _PACKAGES
    places = (keras3.layers, keras3.initializers, keras3.regularizers, keras3.constraints, keras3)
    is_marker = name.startswith("__") or name in {"function", "Functional"}
    return is_marker or any(hasattr(place, name) for place in places)


def _loading_failed(path: Path, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) or "cannot be imported" in str(error):
        hint = " Install the package that it names."
    else:
        hint = ""
    return (
        f"{str(path)!r} cannot be loaded by Keras 3: {type(error).__name__}: {_one_line(error)}"
        f"{hint}"
    )


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + " ..."
