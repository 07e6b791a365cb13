"""The twin of a ``keras.ops`` node: a plain tf_keras layer, or the operation itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfopt.bridge.serialization import from_config, to_config
from tfopt.bridge.to_tf_keras.call_arguments import (
    Pattern,
    decode,
    encode,
    symbolic,
    with_static_shapes,
)
from tfopt.bridge.to_tf_keras.operation_layers import plain_call
from tfopt.bridge.to_tf_keras.twin import Names, Twin
from tfopt.keras2.core import keras as keras2

__all__ = ["OBJECTS", "KerasOperation", "operation"]


class KerasOperation(keras2.layers.Layer):
    """Runs one Keras 3 operation on one set of arguments.

    It is called on a flat list of tensors (or one tensor); ``arguments`` says how the
    operation wants them, and holds the constants. Like ``keras.ops``, it passes no mask on.
    """

    def __init__(
        self, operation: Mapping[str, Any], *, arguments: Pattern, **layer_settings: Any
    ) -> None:
        """Make the operation from its config.

        Args:
            operation: What ``keras.saving.serialize_keras_object`` returned for it.
            arguments: What ``call_arguments.encode`` returned for its call.
            **layer_settings: ``name``, ``trainable`` and ``dtype`` of a tf_keras layer.

        Raises:
            ModelError: If the class is not known in this process, or refuses its config.
        """
        super().__init__(**layer_settings)
        # keras.ops takes tensors as they are, integers and mixed types among them.
        self._autocast = False
        self.supports_masking = True
        # As text, because tf_keras wraps dicts and lists that are attributes.
        self._config_text = json.dumps({"operation": operation, "arguments": arguments})
        self._operation = from_config(operation, f"Layer {self.name!r}")

    @property
    def operation_class(self) -> str:
        """Name of the Keras 3 operation, such as ``Einsum``."""
        return type(self._operation).__name__

    def call(self, inputs: Any) -> Any:
        """Run the operation.

        Args:
            inputs: One tensor or a list, as ``call_arguments.encode`` returned them.
        """
        # Operations run without AutoGraph in Keras 3 too.
        return tf.autograph.experimental.do_not_convert(self._call_keras3)(inputs)

    def _call_keras3(self, inputs: Any) -> Any:
        # A copy, so that an operation that returns its input does not return its mask.
        tensors = [tf.identity(t) if _has_mask(t) else t for t in tf.nest.flatten(inputs)]
        args, kwargs = decode(json.loads(self._config_text)["arguments"], tensors)
        outputs = self._operation(*args, **kwargs)
        shapes = [tensor.shape for tensor in tensors]
        return with_static_shapes(outputs, lambda: self._output_spec(shapes))

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """Return None: operations of Keras 3 do not pass masks on.

        Args:
            inputs: As for ``call``.
            mask: Ignored.
        """

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of each output.

        Args:
            input_shape: Shape, or list of shapes, of the tensors.
        """
        spec = self._output_spec(input_shape)
        return tf.nest.map_structure(lambda tensor: tf.TensorShape(tensor.shape), spec)

    def get_config(self) -> dict[str, Any]:
        """Return everything ``from_config`` needs, as JSON."""
        return {**super().get_config(), **json.loads(self._config_text)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Make the layer; the method of tf_keras hides a ModelError behind a TypeError.

        Args:
            config: What ``get_config`` returned.
        """
        return cls(**config)

    def _output_spec(self, input_shape: Any) -> Any:
        args, kwargs = symbolic(json.loads(self._config_text)["arguments"], input_shape)
        return self._operation.compute_output_spec(*args, **kwargs)


def operation(op: Any, names: Names) -> Twin:
    """Return the twin of a Keras 3 operation that is no layer.

    Whether an argument is a tensor or a constant is known only at the call, so each call
    makes a layer of its own: an operation has no weights to share.

    Args:
        op: A ``keras.Operation``, as ``keras.ops`` puts it into a graph.
        names: The names in use.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        what = f"Operation {op.name!r} ({type(op).__name__})"
        pattern, tensors = encode(what, args, kwargs)
        if (plain := plain_call(op, args, kwargs)) is not None:
            return plain.run(names.take(op.name))
        layer = KerasOperation(to_config(op, what), arguments=pattern, name=names.take(op.name))
        return layer(tensors if len(tensors) != 1 else tensors[0])

    return Twin(call=call, how="operation")


def _has_mask(tensor: Any) -> bool:
    return getattr(tensor, "_keras_mask", None) is not None


OBJECTS: Mapping[str, type] = {"KerasOperation": KerasOperation}
