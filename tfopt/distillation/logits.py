"""Tell logits from probabilities, by the last layer and by the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import tensorflow as tf

from tfopt.errors import InputError, ModelError
from tfopt.keras2.core import keras

Form: TypeAlias = Literal["logits", "probabilities"]
Ending: TypeAlias = Literal["softmax", "sigmoid", "linear", "unknown"]
Kind: TypeAlias = Literal["classes", "binary", "numbers"]

# tf.nn.softmax calls itself softmax_v2.
_ENDINGS: Mapping[str, Ending] = {
    "softmax": "softmax",
    "softmax_v2": "softmax",
    "sigmoid": "sigmoid",
    "linear": "linear",
}
_SAME_VALUES = (
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.Dropout,
    keras.layers.Permute,
    keras.layers.RepeatVector,
)
# An int8 softmax is a multiple of 1/256 in each class, so its sum is off by some of them.
_SUM_TOLERANCE = 0.05
_SMALLEST_SHARE = 1e-30
_SMALLEST_PROBABILITY = 1e-7


def endings(model: Any) -> dict[str, Ending]:
    """Return how each output of a model is computed, by output name.

    Args:
        model: A tf_keras model; of a subclassed one nothing is known.
    """
    if not getattr(model, "_is_graph_network", False):
        return {}
    output = model.output
    if isinstance(output, Mapping):
        return {str(name): _ending(tensor) for name, tensor in output.items()}
    return {
        name: _ending(tensor)
        for name, tensor in zip(model.output_names, model.outputs, strict=True)
    }


def form_of(values: Any, *, kind: Kind, ending: Ending, stated: Form | None, what: str) -> Form:
    """Return whether outputs are logits or probabilities.

    The numbers decide where the last layer does not: rows of a softmax are not negative
    and sum to 1, in a Lambda or in a file too. Logits of real data do not.

    Args:
        values: Outputs on real inputs, classes in the last axis, ``(rows, ..., classes)``.
        kind: What the outputs tell.
        ending: What the last layer is known to be.
        stated: What the user says they are, or None.
        what: How messages name the outputs.

    Raises:
        InputError: If the numbers are not what the user says.
        ModelError: If they are not finite.
    """
    what = what[:1].upper() + what[1:]
    if kind == "numbers":
        return "logits"  # numbers are compared as they are
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).all():
        raise ModelError(f"{what} gives outputs that are not finite on the first batch.")
    looks = _look_like_probabilities(array, kind)
    if stated is not None:
        if (stated == "probabilities") != looks and (kind == "classes" or not looks):
            raise InputError(
                f"{what} is said to give {stated}, but on the first batch its rows "
                f"{'are not negative and sum to 1' if looks else 'are no probabilities'}. Leave "
                "the form at None to have it detected."
            )
        return stated
    if ending in ("softmax", "sigmoid"):
        return "probabilities"
    # One number in [0, 1] proves nothing, so a linear layer is believed.
    if looks and (kind == "classes" or ending == "unknown"):
        return "probabilities"
    return "logits"


def as_logits(values: Any, *, kind: Kind, form: Form) -> Any:
    """Return outputs as float32 logits; probabilities become log-probabilities.

    Softmax takes the logarithm of probabilities back to exactly these, at temperature 1,
    so there is no double softmax.

    Args:
        values: Logits or probabilities, any shape.
        kind: ``classes``, ``binary`` or ``numbers`` (returned as they are).
        form: Which of the two they are.
    """
    values = tf.cast(values, tf.float32)
    if kind == "numbers" or form == "logits":
        return values
    if kind == "classes":
        return tf.math.log(tf.maximum(values, _SMALLEST_SHARE))
    inside = tf.clip_by_value(values, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
    return tf.math.log(inside) - tf.math.log1p(-inside)


def _look_like_probabilities(array: np.ndarray[Any, Any], kind: Kind) -> bool:
    if array.size == 0 or array.min() < 0 or array.max() > 1 + _SUM_TOLERANCE:
        return False
    return kind == "binary" or bool(np.allclose(array.sum(axis=-1), 1, atol=_SUM_TOLERANCE))


def _ending(tensor: Any) -> Ending:
    """Return what the layer is that computes a tensor; layers that change no value are skipped."""
    while True:
        history = tensor._keras_history
        layer = history.layer
        if isinstance(layer, keras.Model):
            tensor = layer.outputs[history.tensor_index]
            continue
        # Wrappers of compression steps hold the layer that was there before.
        while isinstance(layer, keras.layers.Wrapper) and hasattr(layer, "layer"):
            layer = layer.layer
        passes = isinstance(layer, _SAME_VALUES) or _is_linear_activation(layer)
        if not passes:
            return _of_layer(layer)
        tensor = history.layer.get_input_at(history.node_index)


def _is_linear_activation(layer: Any) -> bool:
    return isinstance(layer, keras.layers.Activation) and _of_layer(layer) == "linear"


def _of_layer(layer: Any) -> Ending:
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    function = getattr(layer, "activation", None) or getattr(layer, "function", None)
    # tfmot keeps the activation of a quantized layer inside of an object of its own.
    function = getattr(function, "activation", function)
    return _ENDINGS.get(str(getattr(function, "__name__", "")), "unknown")
