"""Convert Keras 3 models to tf_keras, with numeric proof."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tfopt.bridge import parity
from tfopt.bridge.keras3 import is_graph, is_keras3, require_tensorflow_backend
from tfopt.bridge.keras3 import keras as keras3
from tfopt.bridge.provenance import read_origin, remember
from tfopt.bridge.report import Conversion, Parity
from tfopt.bridge.sample_inputs import given_inputs, random_inputs
from tfopt.bridge.to_tf_keras.graph import Walked, walk
from tfopt.errors import ModelError
from tfopt.keras2.core import Model, require_model

TOLERANCE = 1e-5
"""Largest relative difference of an output in float32; measured is 0 to 1e-6."""

_RANDOM_ROWS, _RANDOM_ENTRIES = 8, 2**16
_CHECK_ROWS = 64
_INSENSITIVE = 1e-3
# Integers that were turned back into floats no longer meet inputs rounded to integers, and
# half precision adds up in another order.
_LOOSE = {"quantized": 0.1, "half": 2e-2}


def to_tf_keras(model: Any, *, check: Any = None, tolerance: float = TOLERANCE) -> Model:
    """Return the tf_keras twin of a Keras 3 model, after comparing the two.

    Args:
        model: A Functional or built Sequential Keras 3 model, nested ones included; it is
            not changed. A tf_keras model is returned as it is.
        check: Inputs of the user's to compare on, besides random ones: arrays in the
            structure of the model's inputs, or a batched ``tf.data.Dataset``.
        tolerance: Largest allowed difference of an output over its largest magnitude.

    Returns:
        An uncompiled tf_keras model with weights of its own. ``conversion_of`` returns the
        evidence.

    Raises:
        ModelError: If a layer or operation has no twin, the model is subclassed, or Keras 3
            runs on another backend than TensorFlow.
        InputError: If ``check`` does not fit the model.
        VerificationError: If the outputs differ by more; names the first such layer.
    """
    if not is_keras3(model):
        return require_model(model)
    require_tensorflow_backend()
    require_graph(model)
    whole = _tf_keras_inside(model)
    if whole is not None:
        return whole
    given = None if check is None else given_inputs(model, check, rows=_CHECK_ROWS)
    walked = walk(model)
    _require_one_to_one(model, walked)
    for link in walked.links:
        link.forward()
    _require_trainable_flags(model, walked)
    comparisons = _compare(model, walked, given, tolerance)
    evidence = Conversion(
        to="tf_keras",
        layers=walked.layers,
        weights=len(walked.links),
        parameters=sum(int(np.prod(link.source.shape)) for link in walked.links),
        parity=comparisons,
        notices=tuple(_notices(model, walked)),
    )
    remember(walked.model, evidence, read_origin(model, walked))
    return walked.model


def _tf_keras_inside(model: Any) -> Model | None:
    """Return the tf_keras model that a Keras 3 model is only a shell of, if it is one."""
    layers = [layer for layer in model.layers if not isinstance(layer, keras3.layers.InputLayer)]
    return getattr(layers[0], "tf_keras_model", None) if len(layers) == 1 else None


def require_graph(model: Any) -> None:
    """Raise unless a Keras 3 object is a model whose layers can be seen.

    Args:
        model: A Keras 3 object.

    Raises:
        ModelError: If it is a layer, an unbuilt Sequential or a subclassed model.
    """
    kind = type(model).__name__
    if not isinstance(model, keras3.Model):
        raise ModelError(
            f"The model is a Keras 3 {kind}, not a model. Put it into one: "
            "keras.Sequential([keras.Input(shape), layer])."
        )
    if isinstance(model, keras3.Sequential) and not model.layers:
        raise ModelError(f"The Sequential model {model.name!r} has no layers. Add one.")
    if isinstance(model, keras3.Sequential) and model._functional is None:
        raise ModelError(
            f"The Sequential model {model.name!r} has no input shape. Put keras.Input(shape) "
            "first, or call model.build(input_shape)."
        )
    if not is_graph(model):
        raise ModelError(
            f"The model {model.name!r} is a subclassed Keras 3 model ({kind}) with a call() of its "
            "own; its layers cannot be seen from outside. Build it with the Functional API, or "
            "make the part with the call() a keras.Layer inside a Functional model: it then runs "
            "as it is."
        )


def _require_one_to_one(model: Any, walked: Walked) -> None:
    """Raise unless every weight of one model is one weight of the other."""
    linked = {id(link.source) for link in walked.links}
    lost = [
        weight.path
        for weight in model.weights
        if id(weight) not in linked and id(weight) not in walked.absorbed
    ]
    _refuse_untied(walked)
    filled = {id(link.target) for link in walked.links if link.target is not None}
    empty = [weight.name for weight in walked.model.weights if id(weight) not in filled]
    if lost or empty:
        raise ModelError(
            "The weights of the two models do not match one to one. Without a place in tf_keras: "
            f"{', '.join(lost[:5]) or 'none'}. Without a value: {', '.join(empty[:5]) or 'none'}."
        )


def _refuse_untied(walked: Walked) -> None:
    """Raise if one weight of the Keras 3 model would become two that train apart."""
    targets: dict[int, Any] = {}
    for link in walked.links:
        if link.target is None:
            continue
        first = targets.setdefault(id(link.source), link.target)
        if first is not link.target:
            raise ModelError(
                f"Weight {link.source.path!r} is used by two layers (tied weights), which would "
                f"have one each in tf_keras: {first.name!r} and {link.target.name!r}. Use one "
                "layer and call it twice."
            )


def _require_trainable_flags(model: Any, walked: Walked) -> None:
    trains = {id(weight) for weight in model.trainable_variables}
    twin_trains = {id(weight) for weight in walked.model.trainable_variables}
    for link in walked.links:
        if link.target is None or link.read is not None:
            continue  # a setting, or weights merged into one
        if (id(link.source) in trains) != (id(link.target) in twin_trains):
            raise ModelError(
                f"Weight {link.source.path!r} is {'not ' * (id(link.source) not in trains)}"
                "trainable, and its layer's other weights are otherwise, which tf_keras cannot "
                "say. Set layer.trainable for the whole layer."
            )


def _compare(model: Any, walked: Walked, given: Any, tolerance: float) -> tuple[Parity, ...]:
    allowed = max(tolerance, *_loosened(walked))
    twin, inputs = walked.model, random_inputs(model, rows=_rows_for(model))

    def by_layer(statistics: Sequence[tuple[Any, Any]] = ()) -> list[tuple[str, float]]:
        return parity.layer_differences(model, twin, walked.tensors, inputs, statistics=statistics)

    def first() -> str:
        return parity.first_difference(by_layer(), tolerance=allowed)

    with parity.calibrated(twin, walked.links, inputs) as statistics:
        found = parity.compare(model, twin, inputs, tolerance=allowed, statistics=statistics)
        if found.sensitivity < _INSENSITIVE:
            worst = max(relative for _, relative in by_layer(statistics))
            found = replace(found, relative_error=max(found.relative_error, worst))
    if given is None:
        return (parity.require(found, first),)
    # Random numbers may lie outside of what the model takes; the caller's do not.
    comparisons = [found] if found.finite_fraction else []
    comparisons.append(parity.compare(model, twin, given, tolerance=allowed, on_user_data=True))
    return tuple(parity.require(one, first) for one in comparisons)


def _rows_for(model: Any) -> int:
    """Return how many random rows to compare on: few large ones, or more small ones."""
    entries = max(math.prod(side or 1 for side in tensor.shape[1:]) for tensor in model.inputs)
    return min(max(_RANDOM_ENTRIES // max(entries, 1), 2), _RANDOM_ROWS)


def _loosened(walked: Walked) -> Sequence[float]:
    """Return the tolerances that the model's own precision asks for."""
    dtypes = {str(layer.compute_dtype) for layer in walked.model._flatten_layers()}
    loosened = [_LOOSE["half"]] if dtypes & {"float16", "bfloat16"} else []
    if any("turned into floats" in layer.note for layer in walked.layers):
        loosened.append(_LOOSE["quantized"])
    return loosened or [0.0]


def _notices(model: Any, walked: Walked) -> Sequence[str]:
    notices = []
    if getattr(model, "compiled", False):
        notices.append("the optimizer and its state were left behind; compile the model again")
    if type(model).train_step is not keras3.Model.train_step:
        notices.append(f"the train_step() of {type(model).__name__} was left behind")
    notices += [
        f"{layer.class_name} {layer.name!r}: {layer.note}"
        for layer in walked.layers
        if layer.note and layer.how != "fallback"
    ]
    return notices
