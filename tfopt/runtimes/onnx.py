"""Open an ONNX file as a NumPy to NumPy callable. The one door to onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfopt.errors import BackendMissing, DataError, ExportError, InputError
from tfopt.runtimes.litert.tensors import Array, TensorInfo, prepare_input

_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


class OnnxModel:
    """A loaded ``.onnx`` file; use ``open_onnx``.

    Attributes:
        inputs: The inputs, in order.
        outputs: The outputs, in order.
    """

    def __init__(self, path: Path, session: Any) -> None:
        self.path = path
        self._session = session
        self.inputs = tuple(_tensor_info(entry) for entry in session.get_inputs())
        self.outputs = tuple(_tensor_info(entry) for entry in session.get_outputs())

    def predict(self, inputs: Any) -> Array | tuple[Array, ...]:
        """Run the file on rows.

        Args:
            inputs: One array of shape ``(rows, ...)``, a list of them in input order, or a
                mapping by input name.

        Returns:
            One array, or a tuple if the file has several outputs.

        Raises:
            DataError: If names, shapes or types do not fit; nothing is broadcast.
            ExportError: If the runtime fails.
        """
        names = [info.name for info in self.inputs]
        if isinstance(inputs, Mapping):
            if set(inputs) != set(names):
                raise DataError(f"{self.path} takes {names}. Received: {sorted(inputs)}.")
            inputs = [inputs[name] for name in names]
        arrays = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        if len(arrays) != len(names):
            raise DataError(f"{self.path} takes {len(names)} inputs. Received: {len(arrays)}.")
        feed = {
            info.name: prepare_input(info, np.asarray(array))
            for info, array in zip(self.inputs, arrays, strict=True)
        }
        try:
            found = self._session.run(None, feed)
        except Exception as error:  # the runtime's errors share no public base class
            raise ExportError(f"{self.path} cannot be run by ONNX Runtime: {error}") from error
        return found[0] if len(found) == 1 else tuple(found)


def open_onnx(path: str | Path) -> OnnxModel:
    """Open an ``.onnx`` file on the CPU.

    Args:
        path: The file.

    Raises:
        BackendMissing: If onnxruntime is not installed.
        InputError: If the file is missing or damaged, or has tensors of another kind.
    """
    path = Path(path)
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendMissing(
            f"{path} needs ONNX Runtime, which is not installed. Run: pip install onnxruntime"
        ) from error
    if not path.is_file():
        raise InputError(f"There is no ONNX file {str(path)!r}.")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors share no public base class
        raise InputError(f"{path} is no ONNX model that can be loaded: {error}") from error
    return OnnxModel(path, session)


def _tensor_info(entry: Any) -> TensorInfo:
    if entry.type not in _TYPES:
        raise InputError(
            f"Tensor {entry.name!r} is a {entry.type}, which cannot be a NumPy array here. Known: "
            f"{', '.join(_TYPES)}."
        )
    # Free axes have a name, or nothing, in place of a size.
    shape = tuple(size if isinstance(size, int) else None for size in entry.shape)
    return TensorInfo(entry.name, shape, _TYPES[entry.type])
