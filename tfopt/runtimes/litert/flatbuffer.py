"""Read the operators and constants of a ``.tflite`` file from the flatbuffer itself."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfopt.errors import ExportError
from tfopt.runtimes.litert.tensors import FLOAT_TYPES

# Operators that change the type or the view of a tensor, or hold other operators.
_BOOKKEEPING = frozenset(
    "QUANTIZE DEQUANTIZE FAKE_QUANT CAST BITCAST RESHAPE SQUEEZE EXPAND_DIMS SHAPE RANK WHILE IF "
    "CALL CALL_ONCE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE".split()
)
_MAKES_SHAPES = frozenset({"SHAPE", "RANK"})


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of a file, as stored (before a delegate replaces it).

    An operator *is integer* when no tensor that it reads or writes, weights and biases
    included, is of a floating type. So a convolution with int8 weights on float32
    activations (dynamic range) is not. It *is compute* unless it only converts types
    (QUANTIZE, DEQUANTIZE, CAST), only views (RESHAPE, SQUEEZE, EXPAND_DIMS), only calls
    other operators (WHILE, IF), or only works on shapes and constants (SHAPE, and what
    follows from it alone). Operators of every subgraph are listed, so a loop's body counts.

    Attributes:
        name: Built-in name, such as ``CONV_2D``, or a custom operator's name.
        output: Name of its first output tensor.
        input_types: Types of what it reads, such as ``int8``; optional gaps are left out.
        output_types: Types of what it writes.
        is_integer: Whether no floating tensor touches it.
        is_compute: Whether it does arithmetic on data.
        is_custom: Whether it lies outside the built-in set (``Flex...`` is TensorFlow's).
    """

    name: str
    output: str
    input_types: tuple[str, ...]
    output_types: tuple[str, ...]
    is_integer: bool
    is_compute: bool
    is_custom: bool = False


class Graph:
    """Operators and constants, read from the flatbuffer itself.

    The interpreter's own list is no use: delegates add DELEGATE nodes to it, and it shows
    only the first subgraph. The content must have passed the runtime's verifier.
    """

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        model = schema.Model.GetRootAs(content, 0)
        self._model = model
        self._types = {v: k.lower() for k, v in vars(schema.TensorType).items() if k.isupper()}
        self._builtins = {v: k for k, v in vars(schema.BuiltinOperator).items() if k.isupper()}
        graphs = [model.Subgraphs(i) for i in range(model.SubgraphsLength())]
        self.keeps_state = any(
            graph.Tensors(i).IsVariable() for graph in graphs for i in range(graph.TensorsLength())
        )
        self.constants: dict[str, int] = {}
        for graph in graphs:
            self._count_constants(graph)
        self.operators = tuple(op for graph in graphs for op in self._operators_of(graph))

    def _is_constant(self, tensor: Any) -> bool:
        return bool(self._model.Buffers(tensor.Buffer()).DataLength() > 0)

    def _count_constants(self, graph: Any) -> None:
        for index in range(graph.TensorsLength()):
            tensor = graph.Tensors(index)
            if self._is_constant(tensor):
                elements = int(np.prod([tensor.Shape(i) for i in range(tensor.ShapeLength())]))
                kind = self._types.get(tensor.Type(), "unknown")
                self.constants[kind] = self.constants.get(kind, 0) + elements

    def _operators_of(self, graph: Any) -> Iterator[Operator]:
        shape_data = {
            i for i in range(graph.TensorsLength()) if self._is_constant(graph.Tensors(i))
        }
        for index in range(graph.OperatorsLength()):
            op = graph.Operators(index)
            name, is_custom = self._name_of(op)
            reads = [op.Inputs(i) for i in range(op.InputsLength()) if op.Inputs(i) >= 0]
            writes = [op.Outputs(i) for i in range(op.OutputsLength()) if op.Outputs(i) >= 0]
            only_shapes = name in _MAKES_SHAPES or (bool(reads) and shape_data.issuperset(reads))
            if only_shapes:
                shape_data.update(writes)
            types_in, types_out = (
                tuple(self._types.get(graph.Tensors(i).Type(), "unknown") for i in indices)
                for indices in (reads, writes)
            )
            yield Operator(
                name=name,
                output=(graph.Tensors(writes[0]).Name() or b"").decode() if writes else "",
                input_types=types_in,
                output_types=types_out,
                is_integer=not FLOAT_TYPES & {*types_in, *types_out},
                is_compute=name not in _BOOKKEEPING and not only_shapes,
                is_custom=is_custom,
            )

    def _name_of(self, op: Any) -> tuple[str, bool]:
        code = self._model.OperatorCodes(op.OpcodeIndex())
        # Codes above 127 do not fit the old field, which then holds a placeholder.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        custom = code.CustomCode()
        if custom:
            return custom.decode(errors="replace"), True
        return self._builtins.get(number, f"OPERATOR_{number}"), False


def order_interface(content: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Return a file whose inputs and outputs stand in the given order.

    The converter sorts outputs by name, while callers expect the model's own order. Both
    are plain lists of tensor numbers, so they are permuted in place; the signature refers
    to tensors by number and is not touched.

    Args:
        content: A ``.tflite`` file from the converter, with one signature.
        inputs: Names in the signature, in the wanted order.
        outputs: The same for outputs.

    Returns:
        A file of the same length.

    Raises:
        ExportError: If the file's signature has other names.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    graph, signature = model.Subgraphs(0), model.SignatureDefs(0)
    changed = bytearray(content)
    # Field slots 6 and 8 of table SubGraph in tensorflow/lite/schema/schema.fbs.
    for names, slot, entry, length in (
        (inputs, 6, signature.Inputs, signature.InputsLength()),
        (outputs, 8, signature.Outputs, signature.OutputsLength()),
    ):
        numbers = {entry(i).Name().decode(): entry(i).TensorIndex() for i in range(length)}
        if set(numbers) != set(names):
            raise ExportError(
                f"The converter changed the model's interface: {sorted(names)} became "
                f"{sorted(numbers)}."
            )
        start = graph._tab.Vector(graph._tab.Offset(slot))
        struct.pack_into(f"<{length}i", changed, start, *(numbers[name] for name in names))
    return bytes(changed)
