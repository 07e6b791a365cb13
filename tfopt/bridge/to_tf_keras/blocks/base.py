"""What the rules that take a composite Keras 3 layer apart have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

import tensorflow as tf

from tfopt.bridge.keras3 import keras as keras3
from tfopt.bridge.to_tf_keras.layer_config import (
    NoTwin,
    activation_twin,
    policy_name,
    twin_settings,
)
from tfopt.bridge.to_tf_keras.twin import Link, Names, Twin
from tfopt.keras2.core import Layer, keras

Call: TypeAlias = Callable[..., Any]

_WEIGHTS = ("kernel", "bias", "gamma", "beta", "embeddings")
_PENALTIES = (
    *("kernel_regularizer", "bias_regularizer", "activity_regularizer"),
    *("kernel_constraint", "bias_constraint"),
)
MAKES_HEADS = "abc,cde->abde"
"""The equation of a projection of ``(batch, length, features)`` to heads, as Keras 3 writes it."""


class Undecomposable(Exception):  # it is a signal to take the fallback, not an error
    """A layer has a setting that plain layers cannot say; the message names it."""


class BlockParts:
    """The plain layers that one composite layer becomes, and the links of their weights.

    Args:
        layer: The built Keras 3 layer.
        names: The names in use.

    Raises:
        Undecomposable: If the layer has LoRA adapters or integer weights.
    """

    def __init__(self, layer: Any, names: Names) -> None:
        self.names = names
        self._layer = layer
        self._elsewhere: set[int] = set()
        self._prefix = layer.name
        self._links: list[tuple[Any, Layer, str, str]] = []
        for one in layer._flatten_layers():
            if getattr(one, "lora_enabled", False):
                raise Undecomposable(f"its part {one.name!r} has LoRA adapters")
            if getattr(one, "quantization_mode", None) is not None:
                raise Undecomposable(f"its part {one.name!r} is quantized")

    def name(self, part: str) -> str:
        """Return the layer name of a part."""
        return self.names.take(f"{self._prefix}_{part}" if part else self._prefix)

    def links(self) -> Sequence[Link]:
        """Return the links of all weights, once the tf_keras layers are built."""
        return [
            Link(getattr(source, theirs), getattr(target, ours))
            for source, target, theirs, ours in self._links
        ]

    def twin_called(self, call: Call) -> Twin:
        """Return the twin of the layer, whose parts are all made.

        Raises:
            Undecomposable: If a weight of the layer has no link.
        """
        linked = {id(getattr(source, theirs)) for source, _, theirs, _ in self._links}
        left = [one.path for one in self._layer.weights if id(one) not in linked | self._elsewhere]
        if left:
            raise Undecomposable(f"nothing holds its weight {left[0]!r}")
        return Twin(call=call, how="decomposed", links=self.links)

    def linked_elsewhere(self, source: Any) -> None:
        """Note that the twin of another layer has the links of all weights of ``source``."""
        self._elsewhere.update(id(one) for one in source.weights)

    def link(self, source: Any, target: Layer, weight: str, *, held_as: str = "") -> None:
        """Note that ``source.<weight>`` goes to ``target.<held_as>``, by default the same name."""
        self._links.append((source, target, weight, held_as or weight))

    def link_all(self, source: Any, target: Layer) -> None:
        """Note that every weight of ``source`` goes to the weight of ``target`` of its name.

        Raises:
            Undecomposable: If ``source`` has a weight of another name.
        """
        held = [name for name in _WEIGHTS if getattr(source, name, None) is not None]
        if len(held) != len(source.weights):
            raise Undecomposable(f"its part {source.name!r} has more weights than {held}")
        for name in held:
            self.link(source, target, name)

    def twin(self, source: Any, kind: type, part: str) -> Layer:
        """Return the tf_keras layer of a class that takes the settings and weights of ``source``.

        Raises:
            Undecomposable: If a setting has no equal in tf_keras.
        """
        try:
            settings = twin_settings(source, kind)
        except NoTwin as reason:
            raise Undecomposable(f"its part {source.name!r}: {reason}") from reason
        target = kind.from_config({**settings, "name": self.name(part)})  # type: ignore[attr-defined]  # a layer class
        self.link_all(source, target)
        return target

    def norm(self, source: Any, part: str) -> Layer:
        """Return the LayerNormalization of ``source``."""
        return self.twin(source, keras.layers.LayerNormalization, part)

    def dropout(self, source: Any, part: str) -> Call:
        """Return a Dropout of the same rate, or nothing to run if the rate is 0."""
        if not source.rate:
            return lambda inputs: inputs
        return self.twin(source, keras.layers.Dropout, part)

    def add(self, part: str, *, like: Any) -> Layer:
        """Return an Add layer in the precision of the Keras 3 layer ``like``."""
        return keras.layers.Add(name=self.name(part), dtype=precision(like))

    def dense(self, source: Any, part: str) -> Call:
        """Return a Dense layer, and the activation after it if Dense cannot say that.

        Raises:
            Undecomposable: If the activation or another setting has no equal in tf_keras.
        """
        activation, after = self._activation(source, part)
        target = self._dense(source, part, units=source.units, activation=activation)
        return target if after is None else lambda inputs: after(target(inputs))

    def projection(self, source: Any, part: str) -> Layer:
        """Return the Dense layer of an EinsumDense that makes or merges heads.

        ``(features, heads, size)`` becomes ``(features, heads * size)``, and
        ``(heads, size, features)`` becomes ``(heads * size, features)``.

        Raises:
            Undecomposable: If a setting has no equal in tf_keras.
        """
        shape = source.kernel.shape
        makes_heads = source.equation == MAKES_HEADS
        units = shape[1] * shape[2] if makes_heads else shape[2]
        return self._dense(source, part, units=units, activation="linear")

    def _dense(self, source: Any, part: str, *, units: int, activation: str) -> Layer:
        for setting in _PENALTIES:
            if getattr(source, setting, None) is not None:
                raise Undecomposable(f"its part {source.name!r} has a {setting}")
        target = keras.layers.Dense(
            units,
            activation=activation,
            use_bias=source.bias is not None,
            name=self.name(part),
            dtype=precision(source),
            trainable=source.trainable,
        )
        self.link_all(source, target)
        return target

    def activation(self, source: Any, part: str) -> Call:
        """Return the layer of ``source.activation``, or nothing to run if that is linear.

        Raises:
            Undecomposable: If it has no equal in tf_keras.
        """
        name, after = self._activation(source, part)
        if after is not None:
            return after
        if name == "linear":
            return lambda inputs: inputs
        return keras.layers.Activation(name, name=self.name(part), dtype=precision(source))

    def _activation(self, source: Any, part: str) -> tuple[str, Layer | None]:
        """Return what Dense can say itself, and the layer for what it cannot."""
        function = source.activation
        if function is None or function is keras3.activations.linear:
            return "linear", None
        if _is_approximate_gelu(function):
            return "linear", ApproximateGelu(
                name=self.name(f"{part}_gelu"), dtype=precision(source)
            )
        try:
            twin = activation_twin(function)
        except NoTwin as reason:
            raise Undecomposable(f"its part {source.name!r}: {reason}") from reason
        if isinstance(twin, str):
            return twin, None
        name = self.name(f"{part}_activation")
        return "linear", keras.layers.Activation(twin, name=name, dtype=precision(source))


def require_calls(layer: Any, takes: Collection[str]) -> None:
    """Raise unless every call of a layer in a graph has only arguments that are understood.

    Args:
        layer: A Keras 3 layer.
        takes: Names of the understood arguments.

    Raises:
        Undecomposable: Naming the arguments.
    """
    for node in layer._inbound_nodes:
        call_arguments(layer, node.arguments.args, node.arguments.kwargs, takes=takes)


def call_arguments(
    layer: Any, args: Sequence[Any], kwargs: Mapping[str, Any], *, takes: Collection[str]
) -> dict[str, Any]:
    """Return the arguments of a call by name, without those that are at their default.

    Args:
        layer: A Keras 3 layer.
        args: Its arguments by position.
        kwargs: Its arguments by name.
        takes: Names of the understood arguments; ``training`` is dropped.

    Raises:
        Undecomposable: If another argument is given.
    """
    signature = inspect.signature(layer.call)
    given = {
        name: value
        for name, value in signature.bind(*args, **kwargs).arguments.items()
        if name != "training" and not _is_default(value, signature.parameters[name].default)
    }
    if extra := sorted(set(given) - set(takes)):
        raise Undecomposable(f"it is called with {', '.join(extra)}")
    return given


def precision(layer: Any) -> str:
    """Return the name of a layer's dtype policy in tf_keras.

    Raises:
        Undecomposable: If tf_keras has no such policy.
    """
    try:
        return policy_name(layer.dtype_policy)
    except NoTwin as reason:
        raise Undecomposable(str(reason)) from reason


class ApproximateGelu(keras.layers.Layer):
    """The tanh formula of GELU, which KerasHub's language models use."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Return the activation of a tensor of any shape."""
        return tf.nn.gelu(inputs, approximate=True)


OBJECTS: Mapping[str, type] = {"ApproximateGelu": ApproximateGelu}


def _is_approximate_gelu(function: Any) -> bool:
    module = getattr(function, "__module__", "").split(".")[0]
    return module == "keras_hub" and function.__name__ == "gelu_approximate"


def _is_default(value: Any, default: Any) -> bool:
    return value is None or (isinstance(value, (bool, int, float)) and value == default)
