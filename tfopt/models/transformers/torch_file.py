"""Read the tensors of a PyTorch file without running anything that it holds.

A PyTorch file is a zip archive of a pickle and raw numbers. A pickle is a program: it may call
any function by name. Here it may name those few that PyTorch needs to say "a tensor of this
type, shape and place", and none of them is PyTorch's own.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from tfopt.errors import ModelError

# torch/storage.py: what each storage class holds, little-endian.
_STORAGES: Mapping[str, np.dtype[Any]] = {
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "BoolStorage": np.dtype("?"),
    "ByteStorage": np.dtype("u1"),
    "CharStorage": np.dtype("i1"),
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "IntStorage": np.dtype("<i4"),
    "LongStorage": np.dtype("<i8"),
    "ShortStorage": np.dtype("<i2"),
}
_LARGEST_PICKLE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class TorchTensor:
    """Where one tensor of a file is.

    Attributes:
        key: Name of its numbers in the archive.
        dtype: Their type.
        offset: Number of its first entry.
        shape: Its shape.
        strides: Entries between neighbours on each axis.
    """

    key: str
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch_index(path: Path) -> dict[str, TorchTensor]:
    """Return the tensors of a PyTorch file, without their numbers.

    Args:
        path: A file of ``torch.save(model.state_dict(), path)``, PyTorch 1.6 or later.

    Raises:
        ModelError: If it is no such file, or its pickle asks for anything but tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = _unpickled(archive, path)
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{path} is not a PyTorch file in zip form: {error}. Files of PyTorch before 1.6 are "
            "not read: save the model again, as safetensors."
        ) from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ModelError(f"{path} holds a {type(found).__name__}, not tensors by name.")
    others = sorted(key for key, value in found.items() if not isinstance(value, TorchTensor))
    if others:
        raise ModelError(f"{path}: {others[0]!r} is not a tensor. Save only the state_dict.")
    return dict(found)


def read_torch_tensor(path: Path, tensor: TorchTensor) -> npt.NDArray[Any]:
    """Return the numbers of one tensor, in its shape and type.

    Args:
        path: The file.
        tensor: An entry of ``read_torch_index(path)``.

    Raises:
        ModelError: If the file lacks them.
    """
    with zipfile.ZipFile(path) as archive:
        name = f"{_root(archive, path)}data/{tensor.key}"
        try:
            info = archive.getinfo(name)
        except KeyError as error:
            raise ModelError(f"{path} is incomplete: it lacks {name!r}.") from error
        if info.compress_type != zipfile.ZIP_STORED:
            raise ModelError(f"{path}: {name!r} is compressed, which PyTorch never writes.")
        numbers = np.frombuffer(archive.read(info), dtype=np.uint8)
    size = tensor.dtype.itemsize
    reach = sum((side - 1) * step for side, step in zip(tensor.shape, tensor.strides, strict=True))
    is_empty = 0 in tensor.shape
    if not is_empty and (tensor.offset + reach + 1) * size > len(numbers):
        raise ModelError(f"{path}: a tensor of shape {tensor.shape} reaches beyond {name!r}.")
    if is_empty:
        return np.zeros(tensor.shape, tensor.dtype)
    flat = numbers[: len(numbers) // size * size].view(tensor.dtype)[tensor.offset :]
    steps = tuple(step * size for step in tensor.strides)
    return np.lib.stride_tricks.as_strided(flat, tensor.shape, steps, writeable=False).copy()


def _root(archive: zipfile.ZipFile, path: Path) -> str:
    """Return the archive's only folder, with a slash."""
    found = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(found) != 1:
        raise ModelError(f"{path} is a zip file, but not of PyTorch: it has no single data.pkl.")
    return found[0].removesuffix("data.pkl")


def _unpickled(archive: zipfile.ZipFile, path: Path) -> Any:
    root = _root(archive, path)
    order = f"{root}byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise ModelError(f"{path} was written by a big-endian machine, which is not read.")
    info = archive.getinfo(f"{root}data.pkl")
    if info.file_size > _LARGEST_PICKLE_BYTES:
        raise ModelError(f"{path}: its pickle of {info.file_size:,} bytes holds more than names.")
    with archive.open(info) as stream:
        reader = _TensorsOnly(stream, path)
        try:
            return reader.load()
        except ModelError:
            raise
        except Exception as error:  # a broken pickle raises whatever its operations do
            raise ModelError(f"{path} has a broken pickle: {error}") from error


class _TensorsOnly(pickle.Unpickler):
    """An unpickler that knows four functions, and refuses every other name."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        super().__init__(stream)
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name of the pickle."""
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise ModelError(
            f"{self._path} asks for {module}.{name}, which is neither a tensor nor needed for one. "
            "Such a file can run any code; it was not run. Save only the state_dict, as "
            "safetensors."
        )

    def persistent_load(self, pid: Any) -> Any:
        """Return the type and key of a storage: ``("storage", type, key, device, entries)``."""
        kind, dtype, key = pid[:3]
        if kind != "storage" or not isinstance(dtype, np.dtype) or not isinstance(key, str):
            raise ModelError(f"{self._path}: its pickle refers to {kind!r}, not to a storage.")
        return (key, dtype)


def _rebuild_tensor(
    storage: tuple[str, np.dtype[Any]],
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    *_: Any,
) -> TorchTensor:
    """Return what ``torch._utils._rebuild_tensor_v2`` is called for."""
    key, dtype = storage
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError(f"a tensor with shape {shape}, strides {strides} and offset {offset}")
    if math.prod(shape) > 2**40:
        raise ValueError(f"a tensor of shape {shape}")
    return TorchTensor(key, dtype, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(data: TorchTensor, *_: Any) -> TorchTensor:
    """Return what ``torch._utils._rebuild_parameter`` is called for."""
    return data


_ALLOWED: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}
