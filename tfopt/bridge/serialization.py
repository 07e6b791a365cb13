"""A Keras 3 object as JSON, and back, with errors that say what the user can do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tfopt.bridge.keras3 import keras as keras3
from tfopt.errors import ModelError

REGISTER = (
    "Give the class a get_config() that returns every constructor argument, decorate it with "
    "@keras.saving.register_keras_serializable(), and import its module before a model that holds "
    "it is loaded."
)

# What the config methods of a class, the user's own included, are known to raise.
_CONFIG_ERRORS = (
    *(TypeError, ValueError, KeyError, AttributeError, NotImplementedError, ImportError),
    RuntimeError,
)


def to_config(value: Any, what: str) -> dict[str, Any]:
    """Return the config of a Keras 3 layer or operation, as JSON.

    Args:
        value: The layer or operation.
        what: How an error names it.

    Raises:
        ModelError: If it cannot be serialized.
    """
    try:
        config = keras3.saving.serialize_keras_object(value)
        # A layer is built by its first call, as it was before.
        config.pop("build_config", None)
        return json.loads(json.dumps(config))
    except _CONFIG_ERRORS as error:
        raise ModelError(
            f"{what} cannot be converted, because it cannot be saved: {short(error)} {REGISTER}"
        ) from error


def from_config(config: Mapping[str, Any], what: str) -> Any:
    """Make a Keras 3 layer or operation again.

    Args:
        config: What ``to_config`` returned; it is not changed.
        what: How an error names the object that needs it.

    Raises:
        ModelError: If its class is not known in this process, or refuses the config.
    """
    try:
        return keras3.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    except _CONFIG_ERRORS as error:
        raise ModelError(
            f"{what} runs the Keras 3 class {config['class_name']!r}, which cannot be made from "
            f"its config in this process: {short(error)} {REGISTER}"
        ) from error


def short(error: Exception) -> str:
    """Return the start of an error text; Keras prints whole configs into it.

    Args:
        error: Any error.
    """
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + " ..."
