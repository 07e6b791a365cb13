"""Make inputs on which two models can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfopt.bridge.keras3 import graph_of
from tfopt.bridge.keras3 import keras as keras3
from tfopt.errors import InputError

_PICTURE_SIDE, _SEQUENCE_LENGTH = 64, 16  # where the model leaves them open
_WORDS = ("the", "quick", "brown", "fox", "a", "b", "1", "7")


def random_inputs(model: Any, *, rows: int, seed: int = 0) -> list[npt.NDArray[Any]]:
    """Return random inputs for a Keras 3 model.

    Floats are standard normal; whole numbers stay below the smallest table that reads
    them; masks keep the first positions of each row.

    Args:
        model: A Functional or Sequential Keras 3 model.
        rows: Examples, where the model does not fix the batch.
        seed: Seed of the numbers.

    Returns:
        One array for each of ``model.inputs``.
    """
    rng = np.random.default_rng(seed)
    return [_random(tensor, model, rows, rng) for tensor in model.inputs]


def given_inputs(model: Any, data: Any, *, rows: int) -> list[npt.NDArray[Any]]:
    """Return the first rows of the caller's inputs.

    Args:
        model: A Functional or Sequential model of either Keras.
        data: Arrays in the structure of the model's inputs, or a ``tf.data.Dataset`` of
            them; in a dataset, ``(inputs, labels)`` too.
        rows: Largest number of examples to take.

    Returns:
        One array for each of ``model.inputs``.

    Raises:
        InputError: If the structure or a shape does not fit the model.
    """
    if isinstance(data, tf.data.Dataset):
        data = next(iter(data.take(1)), None)
        if data is None:
            raise InputError("The data to check with is an empty dataset.")
        data = data[0] if isinstance(data, tuple) else data
    if isinstance(data, dict):
        names = [tensor.name.removesuffix(":0") for tensor in model.inputs]
        missing = [name for name in names if name not in data]
        if missing:
            raise InputError(
                f"The data to check with has no entry {missing[0]!r}. The model's inputs are "
                f"{names}; received {sorted(data)}."
            )
        flat = [data[name] for name in names]
    else:
        flat = keras3.tree.flatten(data) if isinstance(data, (list, tuple)) else [data]
    arrays = [np.asarray(one)[:rows] for one in flat]
    if len(arrays) != len(model.inputs):
        raise InputError(
            f"The model has {len(model.inputs)} inputs; the data to check with has {len(arrays)}."
        )
    for array, tensor in zip(arrays, model.inputs, strict=True):
        _require_fit(array, tensor)
    return arrays


def _require_fit(array: npt.NDArray[Any], tensor: Any) -> None:
    wanted = tuple(tensor.shape)
    fits = array.ndim == len(wanted) and all(
        side is None or side == given for side, given in zip(wanted, array.shape, strict=False)
    )
    if not fits or not array.size:
        raise InputError(
            f"The model's input {tensor.name!r} takes the shape {wanted}; the data to check with "
            f"has {array.shape}."
        )


def _random(tensor: Any, model: Any, rows: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    shape = tuple(tensor.shape)
    longest = _PICTURE_SIDE if len(shape) == 4 else min(_SEQUENCE_LENGTH, _longest(model))
    sides = [longest] * len(shape[1:])
    shape = (
        rows if shape[0] is None else shape[0],
        *(
            open_side if side is None else side
            for side, open_side in zip(shape[1:], sides, strict=True)
        ),
    )
    dtype = str(tensor.dtype)
    if dtype == "string":
        return rng.choice(_WORDS, size=shape).astype(object)
    if "mask" in tensor.name and len(shape) == 2:
        lengths = rng.integers(max(1, shape[1] // 2), shape[1] + 1, size=(shape[0], 1))
        return (np.arange(shape[1])[None] < lengths).astype(dtype)
    if dtype == "bool":
        return rng.integers(0, 2, size=shape).astype(bool)
    size = _smallest_table(tensor, model)
    if "int" in dtype or size is not None:
        fallback_size = 255 if dtype == "uint8" else 2
        return rng.integers(0, size or fallback_size, size=shape).astype(dtype)
    return rng.normal(size=shape).astype("float32" if dtype == "bfloat16" else dtype)


def _longest(model: Any) -> int:
    """Return the longest sequence that every table of positions takes."""
    known = (
        getattr(layer, name, None)
        for layer in model._flatten_layers()
        for name in ("sequence_length", "max_sequence_length")
    )
    return min((one for one in known if isinstance(one, int)), default=_SEQUENCE_LENGTH)


def _smallest_table(tensor: Any, model: Any) -> int | None:
    """Return how many rows the tables have that read an input, looked for along the graph."""
    sizes = [_rows_of(layer) for layer in _readers(tensor, model)]
    return min((size for size in sizes if size), default=None)


def _rows_of(layer: Any) -> int | None:
    for name in ("input_dim", "vocabulary_size", "num_tokens"):
        size = getattr(layer, name, None)
        if isinstance(size, int) and not callable(size):
            return size
    return None


def _readers(tensor: Any, model: Any) -> Sequence[Any]:
    """Return the layers that read an input of a model, inside nested models too."""
    found: list[Any] = []
    for depth in graph_of(model)._nodes_by_depth.values():
        for node in depth:
            if node.is_input or node.operation is None:
                continue
            flat = keras3.tree.flatten((node.arguments.args, node.arguments.kwargs))
            positions = [place for place, one in enumerate(flat) if one is tensor]
            if not positions:
                continue
            inner = node.operation
            if isinstance(inner, keras3.Model) and hasattr(inner, "inputs"):
                found += [
                    layer
                    for place in positions
                    if place < len(inner.inputs)
                    for layer in _readers(inner.inputs[place], inner)
                ]
            else:
                found.append(inner)
    return found
