"""A tf_keras model that emulates 8-bit arithmetic, as a Keras 3 model.

Keras 3 has no layers for trained ranges, and a model without them would be exported with
others. So the whole tf_keras model becomes one layer, and its weights those of the layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfopt.bridge.custom_objects import OBJECTS
from tfopt.bridge.keras3 import in_safe_mode
from tfopt.bridge.keras3 import keras as keras3
from tfopt.bridge.provenance import carry
from tfopt.bridge.to_keras3.convert import to_keras3
from tfopt.compression.layers.quantized import RangeLayer
from tfopt.compression.saved_objects import STEP_OBJECTS
from tfopt.keras2.core import Model, SafeModeScope
from tfopt.keras2.core import keras as keras2


class EmulatedModel(keras3.layers.Layer):
    """Runs a tf_keras model on variables that both Kerases share.

    Args:
        architecture: JSON of a Functional tf_keras model, as its ``to_json`` writes it.
        name: Name of the layer.
        trainable: Whether its weights train.
        dtype: Ignored; the model has its own.
    """

    def __init__(
        self,
        architecture: str,
        *,
        name: str | None = None,
        trainable: bool = True,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, trainable=trainable, dtype="float32", autocast=False)
        self._architecture = architecture
        # Within the loading of a file, code in the model inside is refused like code outside.
        with SafeModeScope(in_safe_mode() is True):
            self._take(
                keras2.models.model_from_json(
                    architecture, custom_objects={**STEP_OBJECTS, **OBJECTS}
                )
            )

    @classmethod
    def around(cls, model: Model) -> EmulatedModel:
        """Return a layer with a copy of a model.

        Args:
            model: A Functional tf_keras model.
        """
        layer = cls(model.to_json(), name=model.name)
        layer.tf_keras_model.set_weights(model.get_weights())
        carry(model, layer.tf_keras_model)
        return layer

    @property
    def tf_keras_model(self) -> Model:
        """Return the model inside; its weights are those of the layer."""
        return self._inside[0]

    def call(self, inputs: Any, training: Any = None) -> Any:
        """Return the outputs of the model."""
        return self.tf_keras_model(inputs, training=training)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "architecture": self._architecture,
            "name": self.name,
            "trainable": self.trainable,
        }

    def _take(self, model: Model) -> None:
        # In a tuple, set past Keras 3, which would look for layers of its own inside.
        object.__setattr__(self, "_inside", (model,))
        trained = {id(weight) for weight in model.trainable_weights}
        for weight in model.weights:
            variable = self.add_weight(
                shape=tuple(weight.shape),
                dtype=weight.dtype.name,
                trainable=id(weight) in trained,
                initializer="zeros",
                name=weight.name.removesuffix(":0").replace("/", "."),
            )
            # One set of numbers: what Keras 3 trains, loads or saves is the model's own.
            variable._value = weight
        self.built = True


def like_source(source: Model, result: Model) -> Any:
    """Return what a step made of a converted Keras 3 model, in Keras 3.

    Args:
        source: The tf_keras twin of the Keras 3 model.
        result: The tf_keras model that came of it.

    Returns:
        The original architecture where it still fits; of a model with 8-bit ranges,
        which Keras 3 has no layers for, a model of one layer that runs it.

    Raises:
        ModelError: If ``result`` has no form in Keras 3.
        VerificationError: If it would compute something else there.
    """
    carry(source, result)
    has_ranges = any(isinstance(layer, RangeLayer) for layer in result._flatten_layers())
    return as_keras3(result) if has_ranges else to_keras3(result)


def as_keras3(model: Model) -> Any:
    """Return a Keras 3 model that computes what a tf_keras model does, ranges included.

    Args:
        model: A Functional tf_keras model, such as ``quantize`` returns.

    Returns:
        A Functional Keras 3 model of one layer. Its ``.keras`` file is loaded by
        ``tfopt.load``, or by Keras 3 with ``custom_objects={"EmulatedModel": ...}``.
    """
    inputs = [
        keras3.Input(
            batch_shape=tuple(tensor.shape),
            dtype=tensor.dtype.name,
            name=tensor.name.removesuffix(":0"),
        )
        for tensor in model.inputs
    ]
    packed = keras3.tree.pack_sequence_as(model._nested_inputs, inputs)
    return keras3.Model(packed, EmulatedModel.around(model)(packed), name=model.name)


SAVED_OBJECTS: Mapping[str, Any] = {**STEP_OBJECTS, "EmulatedModel": EmulatedModel}
"""Classes that a model from any step, of either Keras, is saved with."""
