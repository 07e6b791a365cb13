"""Convert tf_keras models to Keras 3: into the architecture they came from, or a new one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tfopt.bridge import parity
from tfopt.bridge.keras3 import is_keras3, require_tensorflow_backend
from tfopt.bridge.keras3 import keras as keras3
from tfopt.bridge.provenance import (
    Origin,
    WeightPlace,
    give_vocabularies,
    origin_of,
    plain_layers,
    read_origin,
    remember,
)
from tfopt.bridge.report import Conversion, LayerReport, Parity
from tfopt.bridge.sample_inputs import given_inputs, random_inputs
from tfopt.bridge.to_keras3.graph import rebuild_as_keras3
from tfopt.bridge.to_tf_keras.convert import TOLERANCE, require_graph
from tfopt.bridge.to_tf_keras.graph import walk
from tfopt.errors import ModelError
from tfopt.keras2.core import Model, require_model
from tfopt.keras2.core import keras as keras2


def to_keras3(
    model: Any, *, like: Any = None, check: Any = None, tolerance: float = TOLERANCE
) -> Any:
    """Return the Keras 3 twin of a tf_keras model, after comparing the two.

    Args:
        model: A Functional or Sequential tf_keras model; it is not changed. A Keras 3 model
            is returned as it is.
        like: The Keras 3 model that it came from. It is not changed; the result has its
            architecture and the weights of ``model``. By default the model remembers it if
            ``to_tf_keras`` made it in this process; of any other model, the architecture is
            built anew.
        check: Inputs of the user's to compare on; see ``to_tf_keras``.
        tolerance: See ``to_tf_keras``.

    Returns:
        An uncompiled Keras 3 model; saved as ``.keras`` it needs nothing of tfopt.

    Raises:
        ModelError: If a layer has no equal in Keras 3, or ``model`` no longer fits ``like``.
        InputError: If ``check`` does not fit the model.
        VerificationError: If the outputs differ by more than ``tolerance``.
    """
    if is_keras3(model):
        return model
    require_tensorflow_backend()
    require_model(model)
    given = None if check is None else given_inputs(model, check, rows=64)
    origin = origin_of(model) if like is None else _origin_in(like)
    result, layers, changed = _in_old_architecture(model, origin)
    if changed and like is not None:
        raise ModelError(
            f"The model no longer has the architecture of `like`: {changed}. Leave `like` out to "
            "build a new architecture."
        )
    notices: Sequence[str] = ()
    if changed:
        result, layers = _in_new_architecture(model)
        notices = (f"the architecture was built anew: {changed}",)
    evidence = Conversion(
        to="keras3",
        layers=layers,
        weights=len(model.weights),
        parameters=sum(int(np.prod(weight.shape)) for weight in model.weights),
        parity=_compare(result, model, given, tolerance),
        notices=(*notices, *_left_behind(model)),
    )
    remember(result, evidence, None)
    return result


def _in_old_architecture(
    model: Model, origin: Origin | None
) -> tuple[Any, tuple[LayerReport, ...], str]:
    """Return the model in its old architecture; or what keeps it from there, and no model."""
    if origin is None:
        return None, (), "the model does not remember a Keras 3 origin"
    fresh = _made_again(origin)
    changed = _what_changed(model, origin) or _what_differs(fresh, origin)
    return (None, (), changed) if changed else (fresh, _fill(fresh, model, origin), "")


def _in_new_architecture(model: Model) -> tuple[Any, tuple[LayerReport, ...]]:
    rebuilt = rebuild_as_keras3(model)
    reports = [LayerReport(old.name, type(old).__name__, "native") for old, _ in rebuilt.layers]
    return rebuilt.model, tuple(reports)


def _origin_in(like: Any) -> Origin:
    """Return where the weights of a tf_keras model belong in the caller's Keras 3 model."""
    if not is_keras3(like):
        raise ModelError(
            "`like` must be the Keras 3 model that the model came from. Received: "
            f"{type(like).__module__}.{type(like).__qualname__}."
        )
    require_graph(like)
    origin = read_origin(like, walk(like))
    if origin is None:
        raise ModelError(f"The model {like.name!r} cannot be serialized, so not built again.")
    return origin


def _what_changed(model: Model, origin: Origin) -> str:
    """Return what keeps a model from going back into its architecture; empty for nothing."""
    held = _weights_by_layer(model, origin)
    used = 0
    for place in origin.places.values():
        if place.layer is None:
            continue
        if place.layer not in held:
            return f"it has no layer {place.layer!r} any more"
        if place.index >= len(held[place.layer]):
            return f"layer {place.layer!r} has lost a weight"
        given = int(np.prod(held[place.layer][place.index].shape))
        if given != int(np.prod(place.shape)):
            return f"a weight of layer {place.layer!r} has {given} entries"
        used += 1
    if used != len(model.weights):
        return "it has other layers with weights"
    return ""


def _weights_by_layer(model: Model, origin: Origin) -> dict[str, list[Any]]:
    """Return the weights of each layer, as the origin counts layers."""
    layers = {layer.name: layer for layer in plain_layers(model)}
    known = {place.layer for place in origin.places.values()}
    held = {name: list(layer.weights) for name, layer in layers.items()}
    for name, layer in layers.items():
        # Quantization makes two layers of a separable convolution, this one first.
        whole = name.removesuffix("_depthwise")
        is_half = isinstance(layer, keras2.layers.DepthwiseConv2D) and whole != name
        if is_half and name not in known and whole in held:
            held[whole] = [*layer.weights, *held[whole]]
    return held


def _made_again(origin: Origin) -> Any:
    """Return a model of the original architecture with weights of its own."""
    try:
        # It was serialized in this process, so a Lambda in it has run here already.
        fresh = keras3.saving.deserialize_keras_object(origin.architecture, safe_mode=False)
        give_vocabularies(fresh, origin)
    # Code of the user's own layers runs here.
    except Exception as error:
        raise ModelError(
            f"The Keras 3 architecture cannot be built again: {' '.join(str(error).split())[:300]} "
            "Register its custom classes with keras.saving.register_keras_serializable()."
        ) from error
    return fresh


def _what_differs(fresh: Any, origin: Origin) -> str:
    """Return what the serialized architecture has lost; empty for nothing.

    Keras 3 saves a layer that is called inside of a nested model and outside of it twice,
    and so unties it.
    """
    if len(fresh.weights) != origin.weights:
        return (
            f"Keras 3 itself cannot serialize its sharing of layers ({origin.weights} weights "
            f"become {len(fresh.weights)})"
        )
    return ""


def _fill(fresh: Any, model: Model, origin: Origin) -> tuple[LayerReport, ...]:
    """Give a model of the original architecture the weights of ``model``."""
    held = _weights_by_layer(model, origin)
    for number, variable in enumerate(fresh.weights):
        place = origin.places.get(number)
        if place is None:
            continue  # an adapter that was merged: it starts at zero
        if tuple(variable.shape) != place.shape:
            raise ModelError(
                f"The Keras 3 architecture was built with {variable.path!r} as weight {number}; "
                f"it was {place.path!r}."
            )
        variable.assign(_value(place, held))
    for layer in fresh._flatten_layers():
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    _copy_flags(fresh, model, origin)
    return tuple(LayerReport(layer.name, type(layer).__name__, "native") for layer in fresh.layers)


def _copy_flags(fresh: Any, model: Model, origin: Origin) -> None:
    """Freeze what was frozen since the model came over, and single weights frozen before."""
    held = _weights_by_layer(model, origin)
    trains = {id(weight) for layer in plain_layers(model) for weight in layer.trainable_weights}
    for number, variable in enumerate(fresh.weights):
        place = origin.places.get(number)
        if place is None or place.layer is None:
            continue
        if id(held[place.layer][place.index]) not in trains:
            variable.trainable = False
    for layer in fresh._flatten_layers():
        own = layer._trainable_variables
        # A file keeps the flags of layers only, and batch normalization reads its layer's.
        if own and not any(variable.trainable for variable in own):
            layer.trainable = False


def _value(place: WeightPlace, held: dict[str, list[Any]]) -> npt.NDArray[Any]:
    if place.layer is None:
        if place.constant is None:
            raise ModelError(f"The value of the weight {place.path!r} is not known.")
        return place.constant
    value = np.asarray(held[place.layer][place.index].numpy())
    if place.permutation is None:
        return value.reshape(place.shape)
    permuted = value.reshape([place.shape[axis] for axis in place.permutation])
    return permuted.transpose(np.argsort(place.permutation))


def _compare(result: Any, model: Model, given: Any, tolerance: float) -> tuple[Parity, ...]:
    inputs = random_inputs(result, rows=2)
    comparisons = [parity.compare(result, model, inputs, tolerance=tolerance)]
    if given is not None:
        comparisons.append(
            parity.compare(result, model, given, tolerance=tolerance, on_user_data=True)
        )
    return tuple(parity.require(one, lambda: "") for one in comparisons)


def _left_behind(model: Model) -> Sequence[str]:
    if getattr(model, "optimizer", None) is None:
        return ()
    return ("the optimizer and its state were left behind; compile the model again",)
