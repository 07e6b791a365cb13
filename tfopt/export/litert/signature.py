"""Turn a tf_keras model into the one inference function that is exported."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.errors import ExportError, StorageError
from tfopt.export.litert.calibration import InputSpec
from tfopt.keras2.core import Model, keras, require_model
from tfopt.runtimes import signature_name

# The ops that the converter itself takes as trained ranges
# (tensorflow 2.21, lite/python/lite.py, is_quantization_aware_trained_model).
_RANGE_OPS = frozenset(
    {
        "FakeQuantWithMinMaxVars",
        "FakeQuantWithMinMaxVarsPerChannel",
        "FakeQuantWithMinMaxArgs",
        "QuantizeAndDequantizeV2",
        "QuantizeAndDequantizeV3",
    }
)


@dataclass(frozen=True, slots=True)
class Signature:
    """An inference function and its interface.

    Attributes:
        function: Concrete function of keyword tensors, giving a mapping of tensors.
        inputs: Names of the inputs in the model's order, as written in the file.
        outputs: Names of the outputs in the model's order, as written in the file.
        holder: What keeps the function's variables alive and savable.
    """

    function: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    holder: Any

    @property
    def has_trained_ranges(self) -> bool:
        """Return whether the graph holds fake quantization."""
        graph = self.function.graph.as_graph_def()
        functions = graph.library.function
        nodes = [*graph.node, *(node for function in functions for node in function.node_def)]
        return any(node.op in _RANGE_OPS for node in nodes)


Sizes = Mapping[str, tuple[int, ...]]
"""Name of an input to the sizes of one example, where the model leaves sizes open."""


def input_specs(model: Model, *, sizes: Sizes | None = None) -> list[InputSpec]:
    """Return the inputs of a model, in its order.

    Args:
        model: A built tf_keras model.
        sizes: Take the sizes that the model leaves open from here; None leaves them open.

    Raises:
        ModelError: If it is not a built tf_keras model with visible layers.
        ExportError: If an input is ragged, sparse or of text.
    """
    require_model(model, "model to export")
    specs = []
    for name, tensor in zip(model.input_names, model.inputs, strict=True):
        kind = tf.as_dtype(tensor.dtype)
        if not isinstance(tensor.type_spec, tf.TensorSpec) or not (
            kind.is_floating or kind.is_integer or kind.is_bool
        ):
            raise ExportError(
                f"LiteRT export takes dense inputs of numbers. Received: input {name!r} of "
                f"{tensor.type_spec}."
            )
        dtype = np.dtype(kind.as_numpy_dtype).name
        shape = tuple(tensor.shape[1:])
        known = (sizes or {}).get(name, shape)
        if len(known) == len(shape):
            shape = tuple(own or given for own, given in zip(shape, known, strict=True))
        specs.append(InputSpec(name, shape, dtype))
    return specs


def open_sizes(model: Model, example: Any) -> dict[str, tuple[int, ...]]:
    """Return the sizes of examples for the inputs whose sizes the model leaves open.

    Args:
        model: A built tf_keras model.
        example: Rows of inputs: one array, a tuple in the model's order, or a dict by name.

    Returns:
        Input name to sizes without the batch axis; empty if the model fixes all sizes.
    """
    names = list(model.input_names)
    if isinstance(example, Mapping):
        arrays = [example.get(name) for name in names]
    else:
        arrays = list(example) if isinstance(example, tuple) else [example]
    return {
        name: tuple(array.shape[1:])
        for name, tensor, array in zip(names, model.inputs, arrays, strict=False)
        if None in tensor.shape[1:] and array is not None
    }


def has_trained_ranges(model: Model) -> bool:
    """Return whether a model went through quantization-aware training.

    The model's graph decides, not the names of its layers: it holds fake quantization.

    Raises:
        ModelError: If it is not a built tf_keras model with visible layers.
        ExportError: If its graph cannot be built.
    """
    return trace(model, batch=None).has_trained_ranges


def has_recurrent_layers(model: Model) -> bool:
    """Return whether any layer, at any depth, is recurrent; those need a fixed batch."""
    return any(isinstance(layer, keras.layers.RNN) for layer in model._flatten_layers())


def own_batch(model: Model) -> int | None:
    """Return the batch size a model was built with, or None if any will do."""
    sizes = {tensor.shape[0] for tensor in model.inputs} - {None}
    return int(min(sizes)) if sizes else None


def layer_names(model: Model) -> frozenset[str]:
    """Return the names of all layers, at any depth, to name them in messages."""
    return frozenset(layer.name for layer in model._flatten_layers(include_self=False))


def trace(model: Model, *, batch: int | None, sizes: Sizes | None = None) -> Signature:
    """Build the inference function of a model.

    Args:
        model: A built tf_keras model; run with ``training=False``.
        batch: Fixed batch size, or None for any.
        sizes: Sizes that the model leaves open; None leaves them open.

    Returns:
        The function.

    Raises:
        ModelError: If it is not a built tf_keras model with visible layers.
        ExportError: If an input is of a wrong kind, or the graph cannot be built.
    """
    specs = input_specs(model, sizes=sizes)
    inputs = _unique([spec.name for spec in specs])
    outputs = _unique(list(model.output_names))

    def serve(**tensors: Any) -> dict[str, Any]:
        values = [tensors[name] for name in inputs]
        result = model(values[0] if len(values) == 1 else values, training=False)
        return {
            # An output may be an input or another output, which needs a tensor of its own.
            name: tf.identity(value)
            for name, value in zip(outputs, tf.nest.flatten(result), strict=True)
        }

    wanted = {
        name: tf.TensorSpec([batch, *spec.shape], spec.dtype, name=name)
        for name, spec in zip(inputs, specs, strict=True)
    }
    holder = tf.Module()
    # Not the model itself, whose saving would trace every layer once more.
    holder.kept_variables = list(model.variables)
    holder.serve = tf.function(serve, autograph=False)
    try:
        function = holder.serve.get_concrete_function(**wanted)
    except (ValueError, TypeError, RuntimeError, NotImplementedError, tf.errors.OpError) as error:
        # Keras names the layer in one line and the cause in the next.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[:2]) or type(error).__name__
        size = "any batch size" if batch is None else f"batch size {batch}"
        raise ExportError(
            f"Model {model.name!r} cannot be built for inference with {size}: {reason}"
        ) from error
    return Signature(function, inputs, outputs, holder)


def save_signature(signature: Signature, folder: Path, model: Model) -> None:
    """Write the function as a SavedModel.

    Raises:
        StorageError: If the disk is full or the folder cannot be written.
        ExportError: If the function uses a variable that no layer owns.
    """
    try:
        with _quiet_saving():
            _save(signature, folder, model)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror or error}.") from error
    except tf.errors.OpError as error:
        reason = error.message.splitlines()[0]
        full = isinstance(error, tf.errors.ResourceExhaustedError)
        cause = f"{errno.errorcode[errno.ENOSPC]}: {reason}" if full else reason
        raise StorageError(f"{folder} cannot be written: {cause}.") from error


def _save(signature: Signature, folder: Path, model: Model) -> None:
    try:
        tf.saved_model.save(signature.holder, str(folder), signatures=signature.function)
    except AssertionError:
        # Lookup tables and the like: tracked by the model, but not among its variables.
        signature.holder.model = model
        try:
            tf.saved_model.save(signature.holder, str(folder), signatures=signature.function)
        except AssertionError as error:
            raise ExportError(
                f"Model {model.name!r} uses a variable or table that belongs to none of its "
                f"layers, so it cannot be saved: {str(error).splitlines()[0]}"
            ) from error


@contextmanager
def _quiet_saving() -> Iterator[None]:
    """Keep ``INFO:tensorflow:Assets written to`` from the user for a moment."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _unique(names: list[str]) -> tuple[str, ...]:
    """Return names fit for a signature, made different where they clash."""
    found: list[str] = []
    for name in map(signature_name, names):
        candidate, number = name, 1
        while candidate in found:
            candidate, number = f"{name}_{number}", number + 1
        found.append(candidate)
    return tuple(found)
