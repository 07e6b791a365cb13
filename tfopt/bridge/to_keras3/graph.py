"""Build a tf_keras model again in Keras 3, layer by layer, with its weights.

The Keras 3 model needs nothing of tfopt: it is made of Keras 3's own layers and of
``keras.ops``, and its ``.keras`` file loads anywhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfopt.bridge.keras3 import keras as keras3
from tfopt.bridge.keras3 import require_tensorflow_backend
from tfopt.bridge.serialization import from_config
from tfopt.bridge.to_keras3.layers import layer_for, one_line, parts_of
from tfopt.bridge.to_keras3.operations import operation_for
from tfopt.bridge.to_tf_keras.call_arguments import decode
from tfopt.bridge.to_tf_keras.operations import KerasOperation
from tfopt.bridge.to_tf_keras.twin import Names
from tfopt.bridge.to_tf_keras.wrapped_layer import Keras3Layer
from tfopt.errors import ModelError
from tfopt.keras2.core import Layer, Model, is_graph, nodes_of, require_model
from tfopt.keras2.core import keras as keras2

_OPERATORS = ("TFOpLambda", "SlicingOpLambda")
# Class and tf_keras weight name to the name in Keras 3.
_RENAMED_WEIGHTS = {
    ("SpectralNormalization", "sn_u"): "vector_u",
    ("DepthwiseConv1D", "depthwise_kernel"): "kernel",
    ("DepthwiseConv2D", "depthwise_kernel"): "kernel",
}
# What these hold (a vocabulary, bins, document counts) is among their settings.
_HELD_BY_SETTINGS = (
    keras2.layers.Discretization,
    keras2.layers.IntegerLookup,
    keras2.layers.StringLookup,
    keras2.layers.TextVectorization,
)


@dataclass(frozen=True, slots=True)
class Pair:
    """One weight of the tf_keras model and the weight of the Keras 3 model that took its value.

    Attributes:
        source: The tf_keras variable.
        target: The Keras 3 variable, of the same shape.
    """

    source: Any
    target: Any


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A tf_keras model in Keras 3.

    Attributes:
        model: The Keras 3 model, not compiled.
        pairs: Every weight of both models, each once.
        layers: Every tf_keras layer that holds something and its Keras 3 layer, in the
            order they were made; the layers of nested models follow their model.
    """

    model: Any
    pairs: Sequence[Pair]
    layers: Sequence[tuple[Layer, Any]]


def rebuild_as_keras3(model: Model) -> Rebuilt:
    """Return a Keras 3 model with the graph, weights and trainable flags of a tf_keras model.

    Args:
        model: A Functional or Sequential tf_keras model; it is not changed.

    Returns:
        The Keras 3 model, and which weight became which.

    Raises:
        ModelError: If a layer, setting or operator has no equal in Keras 3; the message
            names the layer and what to do.
    """
    require_tensorflow_backend()
    builder = _Builder()
    rebuilt = builder.model(require_model(model))
    pairs = _checked_pairs(model, rebuilt, builder.made)
    for pair in pairs:
        pair.target.assign(pair.source)
    for _, target in builder.made:
        if isinstance(target, keras3.layers.Normalization):
            target.finalize_state()
    for both in builder.made:
        _freeze(*both)
    return Rebuilt(model=rebuilt, pairs=pairs, layers=tuple(builder.made))


class _Builder:
    """One rebuilding; a layer that is used twice is made once, in nested models too."""

    def __init__(self) -> None:
        self.made: list[tuple[Layer, Any]] = []
        self._layers: dict[int, Any] = {}
        self._owners: dict[int, Model] = {}

    def model(self, model: Model) -> Any:
        """Return the Keras 3 model of a Functional or Sequential one."""
        names = Names()
        inputs = _inputs_of(model, names)
        own = any(isinstance(layer, (Keras3Layer, KerasOperation)) for layer in model.layers)
        if type(model) is keras2.Sequential and not own:
            layers = [self._layer_for(layer, names, model) for layer in model.layers]
            rebuilt = keras3.Sequential([*inputs, *layers], name=_legal(model.name))
        else:
            rebuilt = self._functional(model, inputs, names)
        # Outer models come first, so that the flags of inner ones are set after theirs.
        self.made.insert(0, (model, rebuilt))
        return rebuilt

    def _functional(self, model: Model, inputs: Sequence[Any], names: Names) -> Any:
        for node in nodes_of(model):
            _require_movable(node)
        for layer in model.layers:  # before any operation takes a name
            if not _is_input(layer) and not _is_operator(layer):
                self._layer_for(layer, names, model)
        table = {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}

        def new_for(value: Any) -> Any:
            return table.get(id(value), value)

        for node in nodes_of(model):
            if node.is_input:
                continue
            args, kwargs = tf.nest.map_structure(new_for, (node.call_args, node.call_kwargs))
            old = tf.nest.flatten(node.outputs)
            new = tf.nest.flatten(self._run_node(node, args, kwargs))
            table.update((id(one), other) for one, other in zip(old, new, strict=True))
        new_inputs = tf.nest.pack_sequence_as(model._nested_inputs, inputs)
        outputs = tf.nest.map_structure(new_for, model._nested_outputs)
        _name_operations(tf.nest.flatten(outputs), names)
        return keras3.Model(_bare(new_inputs), _bare(outputs), name=_legal(model.name))

    def _run_node(self, node: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        layer = node.layer
        try:
            if _is_operator(layer):
                outputs = _operator(layer)(*args, **kwargs)
                return _of_types(outputs, node.outputs)
            target = self._layers[id(layer)]
            if isinstance(layer, Keras3Layer):
                return _call_own(layer, target, *args, **kwargs)
            if is_graph(layer):
                inputs, given = _model_arguments(layer, args, kwargs)
            else:
                inputs, given = _layer_arguments(layer, target, args, kwargs)
            return target(inputs, **given)
        except (TypeError, ValueError, NotImplementedError, AttributeError) as error:
            raise ModelError(
                f"Layer {layer.name!r} ({type(layer).__name__}) cannot be called in Keras 3: "
                f"{one_line(error)} Replace it, or keep the model in tf_keras."
            ) from error

    def _layer_for(self, layer: Layer, names: Names, model: Model) -> Any:
        """Return the Keras 3 layer of a layer in the graph of ``model``.

        Raises:
            ModelError: If another model holds it too: Keras 3 saves that and cannot load it.
        """
        target = self._converted(layer, names)
        owner = self._owners.setdefault(id(layer), model)
        if owner is not model:
            raise ModelError(
                f"Layer {layer.name!r} is a layer of both {owner.name!r} and {model.name!r}, and "
                "Keras 3 cannot load the file of such a model. Call the inner model instead of "
                "its layer, or keep the model in tf_keras."
            )
        if not is_graph(layer):
            self.made.append((layer, target))
        return target

    def _converted(self, layer: Layer, names: Names) -> Any:
        """Return the one Keras 3 layer for a layer; it is made when first asked for."""
        if id(layer) not in self._layers:
            self._layers[id(layer)] = self._made(layer, names.take(_legal(layer.name)))
        return self._layers[id(layer)]

    def _made(self, layer: Layer, name: str) -> Any:
        if is_graph(layer):
            made = self.model(layer)
            made.name = name
            return made
        if isinstance(layer, keras2.Model):
            raise ModelError(
                f"The model holds the subclassed model {layer.name!r} ({type(layer).__name__}), "
                "whose layers cannot be seen from outside. Build it with the Functional API."
            )
        return layer_for(layer, name, lambda inner: self._converted(inner, Names()))


def _inputs_of(model: Model, names: Names) -> list[Any]:
    """Return new inputs; Keras 3 wants those of a dictionary named by its keys."""
    nested = model._nested_inputs
    given = (
        sorted(nested)
        if isinstance(nested, Mapping)
        else [tensor._keras_history.layer.name for tensor in model.inputs]
    )
    if len(given) != len(model.inputs):  # a dictionary of lists
        given = [tensor._keras_history.layer.name for tensor in model.inputs]
    return [
        _input(tensor, names.take(_legal(name)))
        for tensor, name in zip(model.inputs, given, strict=True)
    ]


def _input(tensor: Any, name: str) -> Any:
    if isinstance(tensor.type_spec, tf.RaggedTensorSpec):
        raise ModelError(
            f"Input {tensor._keras_history.layer.name!r} is ragged, which Keras 3 does not have. "
            "Pad it to one length."
        )
    return keras3.Input(
        batch_shape=tuple(tensor.shape),
        dtype=tf.as_dtype(tensor.dtype).name,
        sparse=isinstance(tensor.type_spec, tf.SparseTensorSpec),
        name=name,
    )


def _is_input(layer: Layer) -> bool:
    return isinstance(layer, keras2.layers.InputLayer)


def _is_operator(layer: Layer) -> bool:
    return type(layer).__name__ in _OPERATORS or isinstance(layer, KerasOperation)


def _operator(layer: Layer) -> Callable[..., Any]:
    if not isinstance(layer, KerasOperation):
        return operation_for(layer)
    config = layer.get_config()

    def call(inputs: Any) -> Any:
        operation = from_config(config["operation"], f"Layer {layer.name!r}")
        args, kwargs = decode(config["arguments"], tf.nest.flatten(inputs))
        return operation(*args, **kwargs)

    return call


def _call_own(layer: Keras3Layer, target: Any, inputs: Any, call_number: int = 0) -> Any:
    """Call the Keras 3 layer that one of ours runs, as ours would."""
    pattern = layer.get_config()["calls"][call_number]
    args, kwargs = decode(pattern, tf.nest.flatten(inputs))
    return target(*args, **kwargs)


def _legal(name: str) -> str:
    """Return a name without the slash, which Keras 3 keeps for paths."""
    return name.replace("/", "_")


def _require_movable(node: Any) -> None:
    """Raise if Keras 3 cannot say a call, or would not keep to it."""
    layer = node.layer
    if type(layer).__name__ in ("AddLoss", "AddMetric"):
        raise ModelError(
            f"Layer {layer.name!r} comes from model.add_loss or model.add_metric, which Keras 3 "
            "models do not have. Call self.add_loss in a layer, or give the loss to compile()."
        )
    for value in tf.nest.flatten((node.call_args, node.call_kwargs)):
        if isinstance(value, tf.Variable):
            raise ModelError(
                f"Layer {layer.name!r} is called on the variable {value.name!r} of another layer "
                "(tied weights), which a Keras 3 graph cannot hold. Put both uses into one layer."
            )
    if node.call_kwargs.get("training"):
        raise ModelError(
            f"Layer {layer.name!r} is called with training=True, and Keras 3 switches training off "
            "in predict() whatever a call says. Leave the argument out."
        )


def _model_arguments(
    layer: Model, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Return the inputs of a nested model in its own structure, and the other arguments."""
    given = args[0] if args else kwargs["inputs"]
    flat = layer._flatten_to_reference_inputs(given)
    inputs = tf.nest.pack_sequence_as(layer._nested_inputs, flat)
    others = {key: value for key, value in kwargs.items() if key != "inputs" and value is not None}
    return _bare(inputs), others


def _layer_arguments(
    layer: Layer, target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Return the first argument of a call, and the others by name: their order differs.

    Raises:
        ModelError: Naming an argument that the Keras 3 layer lacks.
    """
    bound = inspect.signature(type(layer).call).bind(layer, *args, **kwargs).arguments
    _, first, *_ = inspect.signature(type(layer).call).parameters
    inputs = bound.pop(first)
    bound.update(bound.pop("kwargs", {}))
    if _takes_state(layer) and isinstance(inputs, (list, tuple)):
        # tf_keras puts the state of an RNN among its inputs.
        inputs, *state = inputs
        bound["initial_state"] = state
    known = inspect.signature(type(target).call).parameters
    given = {name: value for name, value in list(bound.items())[1:] if value is not None}
    for name in given:
        if name not in known:
            raise ModelError(
                f"Layer {layer.name!r} is called with {name}=, which the Keras 3 layer does not "
                "take. Leave it out, or keep the model in tf_keras."
            )
    return _bare(inputs), given


def _takes_state(layer: Layer) -> bool:
    if getattr(layer, "_num_constants", None):
        raise ModelError(
            f"Layer {layer.name!r} is called with constants=, which Keras 3 does not take. Give "
            "them to the cell as inputs."
        )
    return isinstance(layer, (keras2.layers.RNN, keras2.layers.Bidirectional)) or hasattr(
        layer, "return_state"
    )


def _of_types(outputs: Any, originals: Any) -> Any:
    """Return the outputs of an operator in the types of tf_keras.

    The two promote differently: an integer divided by an integer is float64 there and
    float32 here.
    """
    flat, old = tf.nest.flatten(outputs), tf.nest.flatten(originals)
    return [
        one if one.dtype == other.dtype.name else keras3.ops.cast(one, other.dtype.name)
        for one, other in zip(flat, old, strict=True)
    ]


def _name_operations(outputs: Iterable[Any], names: Names) -> None:
    """Give every operation before ``outputs`` a name that no layer of the model has."""
    waiting = [tensor._keras_history.operation for tensor in outputs]
    seen: set[int] = set()
    while waiting:
        operation = waiting.pop()
        if id(operation) in seen:
            continue
        seen.add(id(operation))
        if not isinstance(operation, keras3.Layer):
            operation.name = names.take(operation.name)
        for node in operation._inbound_nodes:
            waiting += [tensor._keras_history.operation for tensor in node.input_tensors]


def _bare(structure: Any) -> Any:
    """Return a structure of plain lists, tuples and dictionaries; tf_keras wraps its own."""
    if isinstance(structure, Mapping):
        return {key: _bare(value) for key, value in structure.items()}
    if isinstance(structure, tuple):
        return tuple(_bare(value) for value in structure)
    return [_bare(value) for value in structure] if isinstance(structure, list) else structure


def _checked_pairs(model: Model, rebuilt: Any, made: Sequence[tuple[Layer, Any]]) -> list[Pair]:
    """Return the pairs of all layers, each weight in exactly one.

    Raises:
        ModelError: Naming a weight that is left over on either side.
    """
    pairs = {id(pair.source): pair for both in made for pair in _pairs(*both)}
    wanted = {id(one): one for one in model.weights if isinstance(one, tf.Variable)}
    wanted.update({id(pair.source): pair.source for pair in pairs.values()})
    for source, _ in made:
        if isinstance(source, _HELD_BY_SETTINGS):
            wanted = {key: one for key, one in wanted.items() if key not in _ids(source.weights)}
    targets = {id(pair.target): pair.target for pair in pairs.values()}
    left = [one.name for key, one in wanted.items() if key not in pairs]
    left += [one.path for one in rebuilt.weights if id(one) not in targets]
    if left or not len(pairs) == len(targets) == len(rebuilt.weights):
        raise ModelError(
            f"Model {model.name!r} cannot be rebuilt in Keras 3: {len(pairs)} of its weights have "
            f"a partner there, and {left[:3]} have none. Keep the model in tf_keras."
        )
    return list(pairs.values())


def _pairs(source: Layer, target: Any) -> list[Pair]:
    """Return the pairs of one layer and of the layers inside it.

    Raises:
        ModelError: If a weight has no partner of its name and shape.
    """
    if isinstance(source, (keras2.Model, *_HELD_BY_SETTINGS)):
        return []  # the layers of a model are paired one by one
    if isinstance(source, Keras3Layer):
        both = zip(source.keras3_weights(), target.weights, strict=True)
        return [Pair(source=theirs.value, target=weight) for theirs, weight in both]
    pairs = [pair for part in parts_of(source, target) for pair in _pairs(part.source, part.target)]
    kind = type(source).__name__
    free = [*target._trainable_variables, *target._non_trainable_variables]
    for weight in (*source._trainable_weights, *source._non_trainable_weights):
        name = _RENAMED_WEIGHTS.get((kind, _variable_name(weight)), _variable_name(weight))
        shape = tuple(weight.shape)
        match = [one for one in free if one.name == name and tuple(one.shape) == shape]
        if not match:
            has = ", ".join(f"{one.name} {tuple(one.shape)}" for one in free)
            raise ModelError(
                f"Weight {weight.name!r} {shape} of layer {source.name!r} ({kind}) has no partner "
                f"in Keras 3, whose layer has: {has or 'none'}. Keep the model in tf_keras."
            )
        free = [one for one in free if one is not match[0]]
        pairs.append(Pair(source=weight, target=match[0]))
    return pairs


def _ids(values: Iterable[Any]) -> set[int]:
    return {id(value) for value in values}


def _variable_name(weight: Any) -> str:
    """Return the last part of a tf_keras weight name, such as ``kernel``."""
    return str(weight.name).rpartition("/")[2].removesuffix(":0")


def _freeze(source: Layer, target: Any) -> None:
    """Freeze what is frozen in tf_keras; new layers are trainable.

    Nothing is set to trainable, because a layer inside a frozen one does not train in
    tf_keras whatever its own flag says, and in Keras 3 it would.
    """
    if not source.trainable:
        target.trainable = False
    if isinstance(source, Keras3Layer):
        parts = target._flatten_layers(include_self=False)
        for flag, part in zip(source.get_config()["trainable_parts"], parts, strict=True):
            if not flag:
                part.trainable = False
    for part in parts_of(source, target):
        _freeze(part.source, part.target)
