"""The tensors of a pretrained model by name, from safetensors or PyTorch files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from tfopt.errors import BackendMissing, ModelError
from tfopt.models.transformers.torch_file import read_torch_index, read_torch_tensor

Array = npt.NDArray[np.float32]

_FILES = ("model.safetensors", "pytorch_model.bin")
_INDEX = ".index.json"
_FLOATS = (np.dtype("f2"), np.dtype("f4"), np.dtype("f8"), np.dtype(ml_dtypes.bfloat16))
# The names of these types in the safetensors format.
_FLOAT_NAMES = ("F16", "F32", "F64", "BF16")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a pretrained model.

    Attributes:
        shape: Its shape in the file.
        read: Returns it as float32.
    """

    shape: tuple[int, ...]
    read: Callable[[], Array]


def open_tensors(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a pretrained model by name; each is read when it is asked for.

    ``model.safetensors`` comes before ``pytorch_model.bin``, one file before several with an
    index.

    Args:
        folder: A folder in Hugging Face layout.

    Raises:
        ModelError: If it holds none of these files, one of them is missing or broken, or a
            name is in two files.
        BackendMissing: If safetensors is needed and not installed.
    """
    for name in _FILES:
        if (folder / name).is_file():
            return _opened(folder / name)
        if (folder / f"{name}{_INDEX}").is_file():
            return _sharded(folder / f"{name}{_INDEX}")
    raise ModelError(
        f"{folder} holds no weights. Looked for: "
        f"{', '.join([*_FILES, *(f'{name}{_INDEX}' for name in _FILES)])}."
    )


def _sharded(index: Path) -> dict[str, Tensor]:
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = {name: sorted(k for k in places if places[k] == name) for name in places.values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} is not an index of weights: {error!r}") from error
    tensors: dict[str, Tensor] = {}
    for name, wanted in sorted(files.items()):
        path = index.parent / name
        if path.parent != index.parent or not path.is_file():
            raise ModelError(f"{index} refers to {name!r}, which is not a file beside it.")
        found = _opened(path)
        if missing := [key for key in wanted if key not in found]:
            raise ModelError(f"{path} lacks {missing[0]!r}, which {index.name} says it holds.")
        if twice := sorted(set(found) & set(tensors)):
            raise ModelError(f"{path} holds {twice[0]!r}, which another file holds too.")
        tensors.update(found)
    return tensors


def _opened(path: Path) -> dict[str, Tensor]:
    return _safetensors(path) if path.suffix == ".safetensors" else _torch(path)


def _torch(path: Path) -> dict[str, Tensor]:
    def reader(name: str, entry: Any) -> Callable[[], Array]:
        return lambda: _float32(read_torch_tensor(path, entry), name, path)

    return {
        name: Tensor(entry.shape, reader(name, entry))
        for name, entry in read_torch_index(path).items()
    }


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise BackendMissing(
            f"{path} needs the package safetensors: pip install 'tfopt[text]'"
        ) from error
    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
            slices = {name: file.get_slice(name) for name in names}
            kinds = {name: entry.get_dtype() for name, entry in slices.items()}
            shapes = {name: tuple(entry.get_shape()) for name, entry in slices.items()}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a safetensors file: {error}") from error

    def reader(name: str) -> Callable[[], Array]:
        def read() -> Array:
            if kinds[name] not in _FLOAT_NAMES:
                raise _wrong_type(name, kinds[name], path)
            with safe_open(path, framework="np") as file:
                return _float32(file.get_tensor(name), name, path)

        return read

    return {name: Tensor(shapes[name], reader(name)) for name in names}


def _float32(values: npt.NDArray[Any], name: str, path: Path) -> Array:
    if values.dtype not in _FLOATS:
        raise _wrong_type(name, str(values.dtype), path)
    floats = values.astype(np.float32)
    if not np.all(np.isfinite(floats)):
        raise ModelError(f"{path}: tensor {name!r} holds numbers that are not finite.")
    return floats


def _wrong_type(name: str, kind: str, path: Path) -> ModelError:
    return ModelError(
        f"{path}: tensor {name!r} is of type {kind}. Weights of float16, bfloat16, float32 and "
        "float64 are read."
    )
