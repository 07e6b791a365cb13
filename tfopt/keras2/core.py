"""The one door to tf_keras (Keras 2), whatever ``tf.keras`` is in this process.

tfopt works on tf_keras models because tfmot accepts nothing else. ``tf.keras`` is never
used: TF_USE_LEGACY_KERAS decides which Keras it is, and importing tfmot changes that
variable for the whole process (tensorflow_model_optimization 0.8.1,
``python/core/keras/compat.py``).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import tensorflow as tf
import tf_keras as keras
from tf_keras.src.backend import RandomGenerator  # what Dropout and its like draw from; not public
from tf_keras.src.layers.core.tf_op_layer import TFOpLambda as OperatorLayer  # not public
from tf_keras.src.saving.serialization_lib import SafeModeScope  # not public

from tfopt.errors import BackendMissing, ModelError

Model: TypeAlias = keras.Model
Layer: TypeAlias = keras.layers.Layer

__all__ = [
    "Layer",
    "Model",
    "OperatorLayer",
    "RandomGenerator",
    "SafeModeScope",
    "is_graph",
    "is_keras3",
    "keras",
    "nodes_of",
    "require_model",
    "require_same_minor_version",
]


def require_same_minor_version(tensorflow: str, tf_keras: str) -> None:
    """Raise unless tf_keras is the one that was made for this TensorFlow.

    The packages say so to pip, but an upgrade of one alone goes through with a warning, and
    another pair computes until something private has moved.

    Args:
        tensorflow: Its version.
        tf_keras: Its version.

    Raises:
        BackendMissing: If major or minor version differ.
    """
    needed = tensorflow.split(".")[:2]
    if tf_keras.split(".")[:2] != needed:
        raise BackendMissing(
            f"tf_keras {tf_keras} was made for another TensorFlow than the installed {tensorflow}: "
            "their major and minor versions must be equal. "
            f"Run: pip install 'tf_keras=={'.'.join(needed)}.*'"
        )


require_same_minor_version(tf.__version__, keras.__version__)


def is_keras3(value: Any) -> bool:
    """Return whether an object belongs to Keras 3, without importing it.

    Class names are equal in both Kerases, so the modules of its classes decide.

    Args:
        value: Anything.
    """
    return any(base.__module__.startswith("keras.src") for base in type(value).__mro__)


def nodes_of(model: Model) -> list[Any]:
    """Return the nodes of a Functional or Sequential model in the order they run."""
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def is_graph(layer: Layer) -> bool:
    """Return whether a layer is a model whose layers can be seen."""
    return isinstance(layer, keras.Model) and getattr(layer, "_is_graph_network", False)


def require_model(model: Any, what: str = "model") -> Model:
    """Return ``model`` if it is a built tf_keras Functional or Sequential model.

    Args:
        model: Anything the user passed.
        what: How the message names it.

    Returns:
        The same object.

    Raises:
        ModelError: If it is a Keras 3 model, a subclassed or unbuilt model, or no
            model at all. Class names are equal in both Kerases, so the module decides.
    """
    if not isinstance(model, keras.Model):
        kind = type(model)
        origin = f"{kind.__module__}.{kind.__qualname__}"
        if is_keras3(model):
            raise ModelError(
                f"The {what} is a Keras 3 object ({origin}) where a tf_keras model is needed. "
                "Convert it with tfopt.to_tf_keras(model)."
            )
        raise ModelError(f"The {what} must be a tf_keras.Model. Received: {origin}.")
    if isinstance(model, keras.Sequential) and not model.built:
        raise ModelError(
            f"The {what} {model.name!r} is a Sequential model without an input shape. Put "
            "tf_keras.Input(shape=...) first, or call model.build(input_shape)."
        )
    if not getattr(model, "_is_graph_network", False):
        raise ModelError(
            f"The {what} {model.name!r} is a subclassed model ({type(model).__name__}); its layers "
            "cannot be seen from outside, so a step would silently skip them. Build it with the "
            "Functional API or as tf_keras.Sequential."
        )
    return model
