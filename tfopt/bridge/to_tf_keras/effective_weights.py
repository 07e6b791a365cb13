"""Read the weights a Keras 3 layer computes with: adapters merged, integers as floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tfopt.bridge.to_tf_keras.layer_config import NoTwin
from tfopt.bridge.to_tf_keras.weight_mapping import Held

_Array = npt.NDArray[Any]


def effective_weights(layer: Any) -> tuple[list[Held], str]:
    """Return the weights of a layer as it uses them, and what was done to them.

    Args:
        layer: A built Keras 3 layer.

    Returns:
        The weights in order, and a note that is empty if they are as they are stored.

    Raises:
        NoTwin: If its weights are quantized in a way that cannot be turned back.
    """
    mode = getattr(layer, "quantization_mode", None)
    adapted = bool(getattr(layer, "lora_enabled", False))
    if mode is None and not adapted:
        return [Held(one, tuple(one.shape)) for one in layer.weights], ""
    if mode not in (None, "int8", "int4", "float8"):
        raise NoTwin(f"weights quantized by {mode} cannot be turned back into floats")
    name = "embeddings" if hasattr(layer, "_embeddings") else "kernel"
    read = _reader(layer, name, mode)
    stored = getattr(layer, f"_{name}")
    held = [Held(stored, read().shape, read)]
    bias = getattr(layer, "bias", None)
    if bias is not None:
        held.append(Held(bias, tuple(bias.shape)))
    done = [f"{mode} weights turned into floats"] if mode else []
    done += ["LoRA adapter merged into the weights"] if adapted else []
    return held, "; ".join(done)


def _reader(layer: Any, name: str, mode: str | None) -> Callable[[], _Array]:
    """Return a function that computes the weight the layer uses."""

    def read() -> _Array:
        if mode in ("int8", "int4"):
            value = _dequantized(layer, name)
        else:
            value = np.asarray(getattr(layer, f"_{name}"))
        return value + _adapter(layer, name)

    return read


def _adapter(layer: Any, name: str) -> _Array | float:
    if not getattr(layer, "lora_enabled", False):
        return 0.0
    first = np.asarray(getattr(layer, f"lora_{name}_a"), np.float32)
    second = np.asarray(getattr(layer, f"lora_{name}_b"), np.float32)
    return np.matmul(first, second) * np.float32(layer.lora_alpha / layer.lora_rank)


def _dequantized(layer: Any, name: str) -> _Array:
    """Return ``integers / scale``: Keras 3 divides by what it calls the scale."""
    if getattr(layer, f"{name}_zero", None) is not None:
        raise NoTwin("weights quantized in blocks cannot be turned back into floats")
    integers, scale = _integers(layer, name), np.asarray(getattr(layer, f"{name}_scale"))
    if hasattr(layer, "_adjust_scale_for_dequant"):
        scale = np.asarray(layer._adjust_scale_for_dequant(scale))
    elif name == "embeddings":
        scale = scale.reshape(-1, 1) if scale.ndim == 1 else scale
    return integers.astype(np.float32) / scale.astype(np.float32)


def _integers(layer: Any, name: str) -> _Array:
    """Return the stored integers, one an entry, without the adapter."""
    adapted = getattr(layer, "lora_enabled", False)
    if layer.quantization_mode == "int8":
        return np.asarray(getattr(layer, f"_{name}"))
    if adapted:
        raise NoTwin("an adapter on int4 weights cannot be merged")
    return np.asarray(getattr(layer, name))
