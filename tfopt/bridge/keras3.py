"""The one door to Keras 3, whatever backend and ``tf.keras`` this process has."""

from __future__ import annotations

import os
from typing import Any

from tfopt.errors import BackendMissing, ModelError
from tfopt.keras2.core import is_keras3

try:
    import keras
    from keras.src.saving.serialization_lib import in_safe_mode  # not public
# Keras raises ValueError for a backend that it does not know.
except (ImportError, ValueError) as error:
    raise BackendMissing(
        f"Keras 3 cannot be imported: {error}. Its backend is "
        f"{os.environ.get('KERAS_BACKEND', 'set in ~/.keras/keras.json')!r}. Set "
        "KERAS_BACKEND=tensorflow before starting Python, or pip install keras."
    ) from error

__all__ = [
    "graph_of",
    "in_safe_mode",
    "is_graph",
    "is_keras3",
    "keras",
    "require_tensorflow_backend",
]


def is_graph(value: Any) -> bool:
    """Return whether an object is a Keras 3 model whose layers can be seen.

    Args:
        value: Anything.

    Returns:
        True for a Functional model and for a Sequential model that has been built, unless
        its class has a ``call`` of its own, which may do anything.
    """
    if _has_own_call(value):
        return False
    if isinstance(value, keras.Sequential):
        return value._functional is not None
    return isinstance(value, keras.Model) and hasattr(value, "_nodes_by_depth")


def _has_own_call(model: Any) -> bool:
    """Return whether a class between the model's and Keras' own defines ``call``."""
    for kind in type(model).__mro__:
        if kind.__module__.startswith("keras.src."):
            return False
        if "call" in vars(kind):
            return True
    return False


def graph_of(model: Any) -> Any:
    """Return the Functional model that a model is or, if it is Sequential, holds.

    Args:
        model: A Functional or built Sequential Keras 3 model.
    """
    return model._functional if isinstance(model, keras.Sequential) else model


def require_tensorflow_backend() -> None:
    """Raise if Keras 3 runs on another backend in this process.

    Raises:
        ModelError: Naming the backend and how to change it.
    """
    if keras.backend.backend() != "tensorflow":
        raise ModelError(
            f"Keras 3 runs on the {keras.backend.backend()!r} backend here, and its models become "
            "tf_keras models, which TensorFlow runs. Set KERAS_BACKEND=tensorflow before importing "
            "keras."
        )
