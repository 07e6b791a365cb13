"""Make the model of a recipe: by a named builder, the user's function, or from a file."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from tfopt.bridge.provenance import conversion_of, remember, was_converted
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.config import schema
from tfopt.config.components import BUILDERS
from tfopt.errors import InputError, ModelError, TfoptError
from tfopt.keras2.core import Model, is_keras3, require_model
from tfopt.models.head import with_head
from tfopt.models.load import load_model
from tfopt.models.preprocess import preprocessed_shape, with_preprocessing
from tfopt.models.transformers.initialization import carry_initialization
from tfopt.registry import did_you_mean, import_dotted, resolve


def build_model(
    settings: schema.Model,
    *,
    input_shape: Any,
    classes: int | None,
    seed: int,
    custom_objects: Mapping[str, Any] | None = None,
) -> Model:
    """Return the model of a recipe's ``model`` section.

    Random weights come from Keras' global seed, which the caller sets.

    Args:
        settings: The section.
        input_shape: Shape of one example as the data gives it.
        classes: Number of classes; None for regression.
        seed: The recipe's seed; passed to the user's builder if it takes ``seed``.
        custom_objects: Classes that a model file may need, by name.

    Returns:
        A built Functional or Sequential tf_keras model; a Keras 3 model is converted.

    Raises:
        InputError: If the builder is unknown or does not take the arguments.
        ModelError: If the builder fails or returns something else, the file cannot be
            loaded, or the preprocessing does not fit.
    """
    preprocess = settings.preprocess
    inner_shape = preprocessed_shape(preprocess, input_shape) if preprocess else input_shape
    if settings.path is not None:
        _refuse_builder_settings(settings)
        model = load_model(settings.path, custom_objects=custom_objects, trust=settings.trust)
    else:
        offered = {"input_shape": inner_shape, "classes": classes, "seed": seed}
        model = _built(settings, offered)
    whole = model
    if settings.head is not None:
        whole = with_head(whole, settings.head, classes=classes)
        carry_initialization(model, whole)
    if preprocess is not None:
        whole = with_preprocessing(whole, preprocess, input_shape)
    if whole is not model and was_converted(model):
        # It still is of Keras 3, but no longer of that architecture.
        remember(whole, conversion_of(model), None)
    return whole


def _refuse_builder_settings(settings: schema.Model) -> None:
    given = [name for name in ("arguments", "initializer") if getattr(settings, name)]
    if given:
        raise InputError(
            f"model.{given[0]} is for model.builder; a model read from model.path has its weights "
            "and shape already. Remove it."
        )


def _built(settings: schema.Model, offered: Mapping[str, Any]) -> Model:
    name = settings.builder or ""
    is_own = ":" in name
    builder = (
        import_dotted(name, "model builder") if is_own else resolve(BUILDERS, "model builder", name)
    )
    if not callable(builder):
        raise InputError(
            f"The model builder {name!r} is not a function. Received: {type(builder).__name__}."
        )
    arguments = _arguments(builder, settings, offered)
    try:
        model = builder(**arguments)
    except TfoptError:
        raise
    except Exception as error:
        first_line = (str(error).splitlines() or [""])[0]
        raise ModelError(
            f"The model builder {name!r} failed: {type(error).__name__}: {first_line}"
        ) from error
    if is_keras3(model):
        return to_tf_keras(model)
    return require_model(model, f"result of the model builder {name!r}")


def _arguments(builder: Any, settings: schema.Model, offered: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the builder is called with."""
    name = settings.builder
    parameters = inspect.signature(builder).parameters
    takes_all = any(entry.kind is entry.VAR_KEYWORD for entry in parameters.values())
    accepted = [
        key
        for key, entry in parameters.items()
        if entry.kind in (entry.POSITIONAL_OR_KEYWORD, entry.KEYWORD_ONLY)
    ]
    asked = dict(settings.arguments)
    if settings.initializer is not None:
        asked["initializer"] = settings.initializer
    for key in asked:
        if not takes_all and key not in accepted:
            where = "initializer" if key == "initializer" else f"arguments.{key}"
            raise InputError(
                f"The model builder {name!r} does not take model.{where}."
                f"{did_you_mean(key, accepted)} It accepts: {', '.join(accepted) or 'nothing'}."
            )
    arguments = {key: value for key, value in offered.items() if key in accepted} | asked
    try:
        inspect.signature(builder).bind(**arguments)
    except TypeError as error:
        raise InputError(
            f"The model builder {name!r} cannot be called: {error}. It accepts: "
            f"{', '.join(accepted) or 'nothing'}; set the rest in model.arguments."
        ) from error
    return arguments
