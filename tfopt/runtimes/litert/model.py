"""Load a ``.tflite`` file with LiteRT and run rows of NumPy arrays through it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfopt.errors import DataError, ExportError, VerificationError
from tfopt.registry import did_you_mean
from tfopt.runtimes.litert.flatbuffer import Graph, Operator
from tfopt.runtimes.litert.loading import (
    create_interpreter,
    failure_message,
    missing_operators_message,
    quiet_start,
)
from tfopt.runtimes.litert.tensors import (
    Array,
    TensorInfo,
    prepare_input,
    random_input,
    signature_name,
)

_ROWS_AT_ONCE = 64


class LitertModel:
    """A loaded ``.tflite`` file.

    Attributes:
        path: Where it was read.
        inputs: The inputs, in the order that ``predict`` takes them.
        outputs: The outputs, in the order that ``predict`` returns them.
        keeps_state: Whether the file has variables (an LSTM's state) that live on between
            runs; ``predict`` resets them before each run, a caller of the bare
            interpreter must do so itself.
    """

    def __init__(
        self, path: Path, content: bytes, *, threads: int = 1, to_run: bool = True
    ) -> None:
        """Load ``content``; use ``open_litert`` instead.

        Raises:
            InputError: If the content is damaged.
            ExportError: If it needs operators that the runtime lacks.
        """
        self.path = path
        with quiet_start():
            self._interpreter = create_interpreter(path, content, threads)
        graph = Graph(content)
        self._operators = graph.operators
        self._constants = graph.constants
        self.keeps_state = graph.keeps_state
        custom = sorted({op.name for op in self._operators if op.is_custom})
        if custom and to_run:
            raise ExportError(missing_operators_message(path, custom))
        names_in, names_out = self._signature_names()
        self._input_details = self._interpreter.get_input_details()
        self._output_details = self._interpreter.get_output_details()
        self.inputs = tuple(_tensor_info(d, names_in) for d in self._input_details)
        self.outputs = tuple(_tensor_info(d, names_out) for d in self._output_details)
        self._allocated: list[tuple[int, ...]] | None = None

    def operators(self) -> tuple[Operator, ...]:
        """Return every operator, in the order of execution, subgraph by subgraph."""
        return self._operators

    def constant_elements(self) -> Mapping[str, int]:
        """Return how many constant elements (weights) there are of each type."""
        return self._constants

    def predict(self, inputs: Any) -> Array | tuple[Array, ...]:
        """Run the file on rows.

        Args:
            inputs: One array of shape ``(rows, ...)``; a list or tuple of them in input
                order; or a mapping by input name. Real values are quantized where the
                file takes integers (values outside its range saturate); an array that
                already has the file's type is taken as it is.

        Returns:
            One array of shape ``(rows, ...)``, or a tuple if the file has several outputs.
            Quantized outputs are returned as float32 in real units.

        Raises:
            DataError: If names, shapes or types do not fit; nothing is broadcast.
            VerificationError: If an output has no row for each input row.
            ExportError: If the runtime fails.
        """
        arrays = self._bind(inputs)
        total = len(arrays[0])
        fixed = self.fixed_batch
        size = fixed or min(total, _ROWS_AT_ONCE)
        parts: list[list[Array]] = [[] for _ in self.outputs]
        for start in range(0, total, size):
            chunk = [array[start : start + size] for array in arrays]
            rows = len(chunk[0])
            if fixed and rows < fixed:
                chunk = [np.concatenate([a, np.repeat(a[-1:], fixed - rows, 0)]) for a in chunk]
            for part, output in zip(parts, self._run(chunk), strict=True):
                part.append(output[:rows])
        whole = tuple(np.concatenate(part) for part in parts)
        return whole[0] if len(whole) == 1 else whole

    @property
    def fixed_batch(self) -> int | None:
        """Return the only batch size the file accepts, or None for any."""
        sizes = [info.shape[0] for info in self.inputs if info.shape and info.shape[0]]
        return sizes[0] if sizes else None

    def load_random(self, *, seed: int = 0, free_size: int = 1) -> None:
        """Fill the inputs for one row with random values in range, and run them once.

        A file of fixed batch gets that many rows.

        Args:
            seed: Seed of the values.
            free_size: Size of free axes other than the batch.

        Raises:
            ExportError: If the runtime fails.
        """
        try:
            self._set(self.example(np.random.default_rng(seed), rows=1, free_size=free_size))
            self.invoke_once()
        except (RuntimeError, ValueError) as error:
            raise ExportError(failure_message(self.path, error)) from error

    def invoke_once(self) -> None:
        """Run the loaded inputs once; this is what latency is measured on."""
        self._interpreter.invoke()

    def example(
        self, generator: np.random.Generator | None, *, rows: int, free_size: int
    ) -> list[Array]:
        """Return inputs in the file's own types: random, or zeros without a generator.

        Args:
            generator: Source of floats in ``[0, 1)`` and of quantized integers in range;
                plain integers may be indices and so are always 0.
            rows: Batch size, unless the file fixes it.
            free_size: Size of free axes other than the batch.

        Returns:
            One array for each input.
        """
        return [
            random_input(info, generator, (self.fixed_batch or rows, free_size))
            for info in self.inputs
        ]

    def _run(self, arrays: list[Array]) -> list[Array]:
        try:
            self._set(arrays)
            if self.keeps_state:
                self._interpreter.reset_all_variables()
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise ExportError(failure_message(self.path, error)) from error
        return [
            self._read_output(info, details, rows=len(arrays[0]))
            for info, details in zip(self.outputs, self._output_details, strict=True)
        ]

    def _set(self, arrays: list[Array]) -> None:
        shapes = [array.shape for array in arrays]
        if shapes != self._allocated:
            self._allocated = None
            with quiet_start():
                for details, shape in zip(self._input_details, shapes, strict=True):
                    self._interpreter.resize_tensor_input(details["index"], shape, strict=True)
                self._interpreter.allocate_tensors()
            self._allocated = shapes
        for details, array in zip(self._input_details, arrays, strict=True):
            self._interpreter.set_tensor(details["index"], array)

    def _read_output(self, info: TensorInfo, details: Any, *, rows: int) -> Array:
        raw = self._interpreter.get_tensor(details["index"])
        if raw.ndim == 0 or raw.shape[0] != rows or raw.size == 0:
            empty = " The output is empty." if raw.size == 0 else ""
            raise VerificationError(
                f"{self.path}: output {info.name!r} has shape {raw.shape} for {rows} row(s) of "
                f"input; its first axis must be the rows.{empty} Convert it with a fixed batch."
            )
        if info.scale:
            return np.asarray((raw.astype(np.float32) - info.zero_point) * np.float32(info.scale))
        return np.array(raw)

    def _bind(self, inputs: Any) -> list[Array]:
        try:
            arrays = [np.asarray(array) for array in self._in_order(inputs)]
        except ValueError as error:  # rows of different lengths
            raise DataError(f"The inputs are not regular arrays: {error}") from error
        prepared = [prepare_input(i, a) for i, a in zip(self.inputs, arrays, strict=True)]
        rows = {info.name: len(array) for info, array in zip(self.inputs, prepared, strict=True)}
        if len(set(rows.values())) > 1:
            raise DataError(f"The inputs differ in their number of rows: {rows}.")
        if not prepared or prepared[0].shape[0] == 0:
            raise DataError(f"There are no rows to run through {self.path}.")
        return prepared

    def _in_order(self, inputs: Any) -> list[Any]:
        names = [info.name for info in self.inputs]
        if isinstance(inputs, Mapping):
            given = {signature_name(str(name)): value for name, value in inputs.items()}
            if len(names) == len(given) == 1:
                return list(given.values())
            if set(given) != set(names):
                odd = sorted(set(given) - set(names))
                near = did_you_mean(odd[0], names) if odd else ""
                raise DataError(
                    f"{self.path} has the inputs {names}. Received: {sorted(given)}.{near}"
                )
            return [given[name] for name in names]
        if isinstance(inputs, list | tuple) and len(names) > 1:
            if len(inputs) != len(names):
                raise DataError(
                    f"{self.path} has {len(names)} inputs {names}. Received: {len(inputs)} arrays."
                )
            return list(inputs)
        if len(names) > 1:
            raise DataError(
                f"{self.path} has {len(names)} inputs {names}. Received: one array. Give a tuple "
                "in this order, or a mapping by name."
            )
        return [inputs[0] if isinstance(inputs, list | tuple) and len(inputs) == 1 else inputs]

    def _signature_names(self) -> tuple[dict[int, str], dict[int, str]]:
        # The public get_signature_list drops the tensor numbers.
        signatures = self._interpreter._get_full_signature_list()
        if not signatures:
            return {}, {}
        chosen = signatures.get("serving_default") or next(iter(signatures.values()))
        return tuple({i: n for n, i in chosen[key].items()} for key in ("inputs", "outputs"))  # type: ignore[return-value]  # two keys, two dicts


def _tensor_info(details: Any, names: Mapping[int, str]) -> TensorInfo:
    scale, zero_point = details["quantization"]
    own_name = details["name"].removeprefix("serving_default_").rsplit(":", 1)[0]
    signature = details.get("shape_signature")
    sizes = signature if signature is not None and len(signature) else details["shape"]
    return TensorInfo(
        name=names.get(details["index"], own_name),
        shape=tuple(None if size < 0 else int(size) for size in sizes),
        dtype=np.dtype(details["dtype"]).name,
        scale=float(scale),
        zero_point=int(zero_point),
    )
