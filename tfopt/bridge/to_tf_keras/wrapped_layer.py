"""The twin of a Keras 3 layer that tf_keras has no words for: the layer itself.

The Keras 3 layer is made again from its config, and its variables are replaced by
variables of the tf_keras layer, so that there is one copy of each weight, which tf_keras
trains, saves and counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfopt.bridge.serialization import REGISTER, from_config, to_config
from tfopt.bridge.to_tf_keras.call_arguments import (
    Pattern,
    decode,
    encode,
    symbolic,
    with_static_shapes,
)
from tfopt.bridge.to_tf_keras.twin import Link, Names, Twin
from tfopt.errors import ModelError
from tfopt.keras2.core import keras as keras2

__all__ = ["OBJECTS", "Keras3Layer", "fallback"]


class _UntrackedLayer:
    """A Keras 3 layer out of sight of tf_keras, which would track it as its own."""

    def __init__(self, layer: Any, calls: Sequence[Pattern]) -> None:
        self.layer = layer
        self.calls = list(calls)


class Keras3Layer(keras2.layers.Layer):
    """Runs a Keras 3 layer on weights that this layer owns.

    It is called on a flat list of tensors (or one tensor) and the number of a call;
    ``calls`` says how the Keras 3 layer wants them.
    """

    def __init__(
        self,
        keras3_layer: Mapping[str, Any],
        *,
        calls: Sequence[Pattern] = (),
        trainable_parts: Sequence[bool] = (),
        trainable_weights: Sequence[bool] | None = None,
        **layer_settings: Any,
    ) -> None:
        """Make the Keras 3 layer from its config.

        Args:
            keras3_layer: What ``keras.saving.serialize_keras_object`` returned for it.
            calls: How it is called, as ``call_arguments.encode`` returned it.
            trainable_parts: ``trainable`` of each layer inside, in Keras 3's order.
            trainable_weights: Which weights an optimizer may change once the layer is
                trainable, in the order of the Keras 3 layer's ``weights``; None is what
                its class says.
            **layer_settings: ``name``, ``trainable`` and ``dtype`` of a tf_keras layer.

        Raises:
            ModelError: If the class is not known in this process, or refuses its config.
        """
        super().__init__(**layer_settings)
        # Inputs reach Keras 3 as they are: its own dtype policy decides what is cast.
        self._autocast = False
        # Masks come in and go out as attributes of tensors, which both Kerases call alike.
        self.supports_masking = True
        self._compute_output_and_mask_jointly = True
        self._held = _UntrackedLayer(from_config(keras3_layer, f"Layer {self.name!r}"), calls)
        # As text, because tf_keras wraps dicts and lists that are attributes.
        self._config_text = json.dumps(
            {
                "keras3_layer": keras3_layer,
                "trainable_parts": list(trainable_parts),
                "trainable_weights": trainable_weights,
            }
        )

    @property
    def keras3_class(self) -> str:
        """Name of the Keras 3 class that runs."""
        return type(self._held.layer).__name__

    def keras3_weights(self) -> list[Any]:
        """Return the Keras 3 variables, whose values are the weights of this layer."""
        return list(self._held.layer.weights)

    def add_call(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], int]:
        """Note one way to call the layer.

        Args:
            args: Positional arguments of the Keras 3 call, with tf_keras tensors.
            kwargs: Keyword arguments of it.

        Returns:
            The tensors to call this layer on, and the ``call_number``.

        Raises:
            ModelError: If an argument cannot be saved.
        """
        owner = f"Layer {self.name!r} ({self.keras3_class})"
        pattern, tensors = encode(owner, args, kwargs)
        if pattern not in self._held.calls:
            self._held.calls.append(pattern)
        return tensors, self._held.calls.index(pattern)

    def build(self, input_shape: Any) -> None:
        """Build the Keras 3 layer and take its weights over.

        Args:
            input_shape: Shape, or list of shapes, of the tensors of the first call.
        """
        if self.built:
            return
        layer = self._held.layer
        if not layer.built:
            args, kwargs = symbolic(self._held.calls[0], input_shape)
            layer(*args, **kwargs)
        self._restore_trainable(layer)
        flags = json.loads(self._config_text)["trainable_weights"] or trainable_flags(layer)
        names = Names()
        for variable, trainable in zip(layer.weights, flags, strict=True):
            self._take_over(
                variable, names.take(_relative_name(variable, layer)), trainable=trainable
            )
        for number, state in enumerate(seed_states(layer)):
            # A weight to neither Keras, but a resource that an exported graph must find.
            self._track_trackable(state.value, name=f"seed_state_{number}")
        self.add_loss(self._weight_penalty)
        super().build(input_shape)

    def call(
        self, inputs: Any, call_number: int = 0, mask: Any = None, training: Any = None
    ) -> Any:
        """Run the Keras 3 layer.

        Args:
            inputs: One tensor or a list, as ``add_call`` returned them.
            call_number: Which of the noted calls this is.
            mask: Keras masks of ``inputs``, in the same structure.
            training: True, False, or None to leave it to Keras 3.
        """
        # Keras 3 calls the layer without AutoGraph too, which would read all of its code.
        run = tf.autograph.experimental.do_not_convert(self._call_keras3)
        return run(inputs, call_number, mask, training)

    def _call_keras3(self, inputs: Any, call_number: int, mask: Any, training: Any) -> Any:
        tensors = tf.nest.flatten(inputs)
        if mask is not None:
            for tensor, one in zip(tensors, tf.nest.flatten(mask), strict=True):
                tensor._keras_mask = one
        layer, pattern = self._held.layer, self._held.calls[call_number]
        if layer.trainable != self.trainable:
            layer.trainable = self.trainable
        args, kwargs = decode(pattern, tensors)
        if training is not None:
            kwargs["training"] = training
        outputs = layer(*args, **kwargs)
        for part in layer._flatten_layers():
            self.add_loss(part._get_own_losses())
        # They are tensors of this graph, which the layer would keep alive.
        layer._clear_losses()
        shapes = [tensor.shape for tensor in tensors]
        return with_static_shapes(outputs, lambda: self._output_spec(call_number, shapes))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of each output of the first call.

        Args:
            input_shape: Shape, or list of shapes, of its tensors.
        """
        if not self.built:
            self.build(input_shape)
        spec = self._output_spec(0, input_shape)
        return tf.nest.map_structure(lambda tensor: tf.TensorShape(tensor.shape), spec)

    def get_config(self) -> dict[str, Any]:
        """Return everything ``from_config`` needs, as JSON."""
        own = json.loads(self._config_text)
        return {**super().get_config(), **own, "calls": json.loads(json.dumps(self._held.calls))}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Make the layer; the method of tf_keras hides a ModelError behind a TypeError.

        Args:
            config: What ``get_config`` returned.
        """
        return cls(**config)

    def _output_spec(self, call_number: int, input_shape: Any) -> Any:
        args, kwargs = symbolic(self._held.calls[call_number], input_shape)
        return self._held.layer.compute_output_spec(*args, **kwargs)

    def _restore_trainable(self, layer: Any) -> None:
        """Freeze the layers inside as they were: a config says it only of the outermost."""
        flags = json.loads(self._config_text)["trainable_parts"]
        parts = layer._flatten_layers(include_self=False)
        if flags and len(flags) == len(parts):
            for part, flag in zip(parts, flags, strict=True):
                part.trainable = flag

    def _take_over(self, variable: Any, name: str, *, trainable: bool) -> None:
        """Make a weight of this layer the value of a Keras 3 variable."""
        value = variable.value
        owned = self.add_weight(
            name=name,
            shape=tuple(variable.shape),
            dtype=variable.dtype,
            initializer=lambda shape, dtype=None: tf.identity(value),
            trainable=trainable,
            constraint=variable.constraint,
            aggregation=tf.VariableAggregation[variable.aggregation.upper()],
            experimental_autocast=False,
        )
        # keras/src/backend/tensorflow/core.py: every read and assign goes through _value.
        variable._value = owned
        variable.trainable = trainable and self.trainable

    def _weight_penalty(self) -> Any:
        penalties = self._held.layer._get_regularization_losses() if self.trainable else []
        return tf.add_n([tf.cast(penalty, "float32") for penalty in penalties] or [0.0])


def fallback(layer: Any, names: Names) -> Twin:
    """Return a twin that runs the Keras 3 layer itself.

    Args:
        layer: A built Keras 3 layer.
        names: The names in use.

    Raises:
        ModelError: If the layer cannot be made again from its config, so that the
            converted model could not be loaded once it is saved.
    """
    what = f"Layer {layer.name!r} ({type(layer).__name__})"
    _require_no_files(layer, what)
    config = to_config(layer, what)
    twin = Keras3Layer(
        config,
        trainable_parts=[part.trainable for part in layer._flatten_layers(include_self=False)],
        trainable_weights=trainable_flags(layer),
        trainable=layer.trainable,
        name=names.take(layer.name),
        dtype=layer.variable_dtype,
    )
    if type(twin._held.layer) is not type(layer):
        raise ModelError(
            f"{what} cannot be converted: its config leads to another class, "
            f"{_origin(twin._held.layer)} instead of {_origin(layer)}. {REGISTER}"
        )

    def call(*args: Any, **kwargs: Any) -> Any:
        is_new = not twin.built
        tensors, number = twin.add_call(args, kwargs)
        options = {"call_number": number} if number else {}
        outputs = twin(tensors if len(tensors) != 1 else tensors[0], **options)
        if is_new:
            _require_same_weights(layer, twin)
            for theirs, ours in zip(seed_states(layer), seed_states(twin._held.layer), strict=True):
                ours.assign(theirs)
        return outputs

    def links() -> Sequence[Link]:
        return [
            Link(source, inner.value)
            for source, inner in zip(layer.weights, twin.keras3_weights(), strict=True)
        ]

    return Twin(call=call, how="fallback", links=links)


def trainable_flags(layer: Any) -> list[bool]:
    """Return which weights of a Keras 3 layer are trainable once the layer is.

    Freezing a whole layer clears the flag of each weight; which of them were trainable
    before is then seen from where Keras 3 tracks them.
    """
    if layer.trainable:
        return [variable.trainable for variable in layer.weights]
    born = {id(v) for part in layer._flatten_layers() for v in part._trainable_variables}
    return [id(variable) in born for variable in layer.weights]


def seed_states(layer: Any) -> list[Any]:
    """Return the variables of a Keras 3 layer that are the states of its random seeds."""
    weights = {id(variable) for variable in layer.weights}
    return [variable for variable in layer.variables if id(variable) not in weights]


def _require_no_files(layer: Any, what: str) -> None:
    """Raise if a Keras 3 layer saves more than weights: tables, such as a vocabulary."""
    if any(hasattr(part, "save_assets") for part in layer._flatten_layers()):
        raise ModelError(
            f"{what} keeps a vocabulary or another table outside of its weights, which would be "
            "lost. Apply it to the data, and leave it out of the model."
        )


def _require_same_weights(layer: Any, twin: Keras3Layer) -> None:
    """Raise unless the layer made from the config has the weights of the original."""
    wanted, made = (
        [(_own_name(variable), tuple(variable.shape), variable.dtype) for variable in weights]
        for weights in (layer.weights, twin.keras3_weights())
    )
    if wanted != made or len(seed_states(layer)) != len(seed_states(twin._held.layer)):
        raise ModelError(
            f"Layer {layer.name!r} ({type(layer).__name__}) made from its own config has the "
            f"weights {made} instead of {wanted}. {REGISTER}"
        )


def _own_name(variable: Any) -> str:
    """Return the name a layer gave a weight; ``variable`` for one that Keras 3 numbered."""
    name: str = variable.name
    return re.sub(r"^variable_\d+$", "variable", name)


def _relative_name(variable: Any, layer: Any) -> str:
    """Return the name of a weight within its layer, such as ``kernel`` or ``dense/kernel``."""
    path: str = variable.path
    head, _, tail = path.partition(f"{layer.name}/")
    return tail or head


def _origin(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


OBJECTS: Mapping[str, type] = {"Keras3Layer": Keras3Layer}
