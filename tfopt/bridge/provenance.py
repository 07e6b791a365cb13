"""Remember where a converted model came from, so that it can go back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tfopt.bridge.keras3 import keras as keras3
from tfopt.bridge.report import Conversion
from tfopt.bridge.to_tf_keras.graph import Walked
from tfopt.bridge.to_tf_keras.twin import Link
from tfopt.errors import ModelError
from tfopt.keras2.core import Layer, Model

_CONVERSION, _ORIGIN = "_tfopt_conversion", "_tfopt_origin"


@dataclass(frozen=True, slots=True)
class WeightPlace:
    """Where the value of one Keras 3 weight is kept in tf_keras.

    Attributes:
        path: Path of the Keras 3 weight.
        shape: Its shape.
        layer: Name of the tf_keras layer; None if the value is ``constant``.
        index: Position among the weights of that layer.
        permutation: See ``Link``.
        constant: The value, where tf_keras has it as a setting.
    """

    path: str
    shape: tuple[int, ...]
    layer: str | None
    index: int = 0
    permutation: tuple[int, ...] | None = None
    constant: npt.NDArray[Any] | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """The Keras 3 model a tf_keras model was made from.

    Attributes:
        architecture: Its serialized form, without weights.
        places: Where each of its weights is, by its position in ``model.weights``.
        weights: Number of all of its weights, merged ones too.
        vocabularies: What its lookup layers learned from data, by their position among all
            layers: Keras 3 writes it beside the config.
    """

    architecture: dict[str, Any]
    places: dict[int, WeightPlace]
    weights: int
    vocabularies: dict[int, list[Any]] = field(default_factory=dict)


def read_origin(model: Any, walked: Walked) -> Origin | None:
    """Return what is needed to build a Keras 3 model again.

    Args:
        model: The Keras 3 model.
        walked: Its conversion.

    Returns:
        The origin; None if the architecture holds integers that became floats, or document
        frequencies, or cannot be serialized: the way back is then a new architecture.
    """
    lookups = _lookups(model)
    weighted = any(
        getattr(layer, "output_mode", None) in ("tf_idf", "tf-idf") for layer in lookups.values()
    )
    if weighted or any("turned into floats" in layer.note for layer in walked.layers):
        return None
    try:
        architecture = keras3.saving.serialize_keras_object(model)
    except (TypeError, ValueError, NotImplementedError, AttributeError):
        return None
    numbers = {id(weight): number for number, weight in enumerate(model.weights)}
    owners = {
        id(weight): (layer.name, index)
        for layer in plain_layers(walked.model)
        for index, weight in enumerate(layer.weights)
    }
    places = {
        numbers[id(link.source)]: _place(link, owners)
        for link in walked.links
        if id(link.source) in numbers
    }
    return Origin(
        architecture=architecture,
        places=places,
        weights=len(model.weights),
        vocabularies={
            number: layer.get_vocabulary(include_special_tokens=False)
            for number, layer in lookups.items()
        },
    )


def give_vocabularies(fresh: Any, origin: Origin) -> None:
    """Tell the lookup layers of a model made from ``origin`` what they had learned."""
    lookups = _lookups(fresh)
    for number, vocabulary in origin.vocabularies.items():
        if vocabulary:
            lookups[number].set_vocabulary(vocabulary)


def _lookups(model: Any) -> dict[int, Any]:
    """Return the lookup layers of a Keras 3 model by their position among all layers."""
    return {
        number: layer
        for number, layer in enumerate(model._flatten_layers())
        if hasattr(layer, "get_vocabulary")
    }


def plain_layers(model: Model) -> Iterator[Layer]:
    """Yield the layers of a model, those of nested models in place of the models."""
    for layer in model.layers:
        if hasattr(layer, "_nodes_by_depth"):
            yield from plain_layers(layer)
        else:
            yield layer


def _place(link: Link, owners: dict[int, tuple[str, int]]) -> WeightPlace:
    shape = tuple(link.source.shape)
    if link.target is None:
        value = np.asarray(link.source) if link.read is None else link.read()
        return WeightPlace(link.source.path, shape, None, constant=value)
    layer, index = owners[id(link.target)]
    return WeightPlace(link.source.path, shape, layer, index, link.permutation)


def remember(model: Model, conversion: Conversion, origin: Origin | None) -> None:
    """Attach the evidence, and the way back, to a converted model.

    Args:
        model: A model of either Keras.
        conversion: Its evidence.
        origin: See ``read_origin``.
    """
    # Plain objects: tf_keras would wrap a dict or tuple that is an attribute itself.
    object.__setattr__(model, _CONVERSION, conversion)
    object.__setattr__(model, _ORIGIN, origin)


def carry(source: Any, result: Model) -> Model:
    """Return ``result``, made from ``source``, with the way back of ``source``.

    Args:
        source: A tf_keras model.
        result: The model a step made of it.
    """
    if origin_of(source) is not None:
        object.__setattr__(result, _ORIGIN, origin_of(source))
    return result


def origin_of(model: Any) -> Origin | None:
    """Return the Keras 3 model that a tf_keras model was made from, if it is known."""
    return getattr(model, _ORIGIN, None)


def was_converted(model: Any) -> bool:
    """Return whether ``to_tf_keras`` or ``to_keras3`` made a model in this process."""
    return isinstance(getattr(model, _CONVERSION, None), Conversion)


def conversion_of(model: Any) -> Conversion:
    """Return the evidence of a model that ``to_tf_keras`` or ``to_keras3`` returned.

    Args:
        model: A converted model.

    Returns:
        What became of each layer, and how much the outputs differ.

    Raises:
        ModelError: If the model was not converted in this process.
    """
    found = getattr(model, _CONVERSION, None)
    if not isinstance(found, Conversion):
        raise ModelError(
            "The model was not converted by tfopt in this process. Convert it with "
            "tfopt.to_tf_keras(model) or tfopt.to_keras3(model)."
        )
    return found
