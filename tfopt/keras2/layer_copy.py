"""Copy one layer: its class and settings, then its weights."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfopt.errors import ModelError
from tfopt.keras2.core import Layer, keras


def copy_layer(layer: Layer, *, name: str, dtype: str | None = None) -> Layer:
    """Return an unbuilt copy of a layer under a name.

    Args:
        layer: Any built layer.
        name: Name of the copy.
        dtype: Policy of the copy if the layer works on floats; None keeps its own.

    Raises:
        ModelError: If the layer cannot be made again from its config.
    """
    if type(layer) is keras.layers.Lambda:
        # Its config holds marshalled code, which tf_keras rightly refuses to run.
        return keras.layers.Lambda(
            layer.function,
            output_shape=layer._output_shape,
            mask=layer.mask,
            arguments=layer.arguments,
            name=name,
            dtype=dtype or layer.dtype_policy,
        )
    try:
        config = {**layer.get_config(), **_live_settings(layer), "name": name}
        if dtype is not None and "dtype" in config and _is_floating(layer):
            config["dtype"] = dtype
        with keras.utils.custom_object_scope(_own_objects(layer)):
            copied = type(layer).from_config(config)
    except (TypeError, ValueError, NotImplementedError, KeyError, AttributeError) as error:
        raise ModelError(
            f"Layer {layer.name!r} ({type(layer).__name__}) cannot be copied from its config: "
            f"{_first_line(error)} Give the class a get_config() that returns every constructor "
            "argument."
        ) from error
    if type(layer) is keras.layers.BatchNormalization:
        _keep_unsaid(layer, copied)
    return copied


def same_weights(original: Layer, replacement: Any) -> None:
    """Copy all weights in order."""
    if not original.weights or hasattr(original, "get_vocabulary"):
        return  # a vocabulary is copied with the settings
    replacement.set_weights(original.get_weights())
    if hasattr(replacement, "finalize_state"):
        replacement.finalize_state()


def _live_settings(layer: Layer) -> dict[str, Any]:
    """Return settings that a config cannot say: functions, and an adapted vocabulary."""
    config = layer.get_config()
    live = {
        key: value
        for key in config
        # An operator layer says in "function" which TensorFlow symbol it is.
        if key != "function" and isinstance(value := getattr(layer, key, None), types.FunctionType)
    }
    if config.get("vocabulary", "") is None and hasattr(layer, "get_vocabulary"):
        live["vocabulary"] = layer.get_vocabulary(include_special_tokens=False)
    return live


def _own_objects(layer: Layer) -> Mapping[str, Any]:
    """Return the user's classes and functions inside a wrapper, by name."""
    found: dict[str, Any] = {}
    for inner in layer._flatten_layers():
        if not type(inner).__module__.startswith("tf_keras."):
            found[type(inner).__name__] = type(inner)
        activation = getattr(inner, "activation", None)
        if isinstance(activation, types.FunctionType) and not hasattr(
            keras.activations, activation.__name__
        ):
            found[activation.__name__] = activation
    return found


def _is_floating(layer: Layer) -> bool:
    return not layer.dtype or bool(tf.as_dtype(layer.dtype).is_floating)


def _keep_unsaid(layer: Layer, copied: Any) -> None:
    """Give a copied batch normalization what its config does not tell (tf_keras 2.21)."""
    copied.synchronized = layer.synchronized
    is_unfused_by_choice = layer.fused is False and layer.built and layer.input_spec.ndim == 4
    if layer.synchronized or is_unfused_by_choice:
        copied.fused = False


def _first_line(error: Exception) -> str:
    """Return the start of an error text; tf_keras prints whole configs into it."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + " ..."
