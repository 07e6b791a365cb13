"""Walk a Keras 3 graph and call the tf_keras twin of every layer in it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf

from tfopt.bridge.keras3 import graph_of, is_graph
from tfopt.bridge.keras3 import keras as keras3
from tfopt.bridge.report import LayerReport
from tfopt.bridge.to_tf_keras.blocks import applications, transformers
from tfopt.bridge.to_tf_keras.blocks.embeddings import reversed_embeddings
from tfopt.bridge.to_tf_keras.blocks.transformers import Undecomposable
from tfopt.bridge.to_tf_keras.keras3_graph import Call, calls_of, is_partly_frozen, users_of_layers
from tfopt.bridge.to_tf_keras.layer_config import NoTwin
from tfopt.bridge.to_tf_keras.mask_layers import WithMaskOf, WithoutMask
from tfopt.bridge.to_tf_keras.masks import ignores_mask
from tfopt.bridge.to_tf_keras.operations import operation
from tfopt.bridge.to_tf_keras.same_layer import native, reads_batches
from tfopt.bridge.to_tf_keras.twin import Link, Names, Twin, plain_name
from tfopt.bridge.to_tf_keras.wrapped_layer import fallback
from tfopt.errors import ModelError, TfoptError
from tfopt.keras2.core import Model
from tfopt.keras2.core import keras as keras2

_DECOMPOSED = {**transformers.RULES, **applications.RULES}


@dataclass(frozen=True, slots=True)
class Walked:
    """A converted graph; its weights are not copied yet.

    Attributes:
        model: The tf_keras model.
        links: Every weight.
        layers: What became of each layer.
        absorbed: Keras 3 weights that have no twin of their own, since they were merged.
        tensors: ``(layer name, Keras 3 tensor, tf_keras tensor)`` of the outermost graph,
            in the order they are computed.
    """

    model: Model
    links: tuple[Link, ...]
    layers: tuple[LayerReport, ...]
    absorbed: frozenset[int]
    tensors: tuple[tuple[str, Any, Any], ...]


def walk(model: Any) -> Walked:
    """Build the tf_keras graph of a Keras 3 model.

    Args:
        model: A Functional or built Sequential Keras 3 model; it is not changed.

    Returns:
        The graph, with weights of its own that are not set yet.

    Raises:
        ModelError: If a layer or operation has no twin.
    """
    walker = _Walk(model)
    built = walker.graph(model)
    absorbed = {
        id(weight)
        for op, twin in walker.twins.values()
        if twin.note and isinstance(op, keras3.Layer)
        for weight in op.weights
    }
    return Walked(
        model=built,
        links=tuple(_used(walker.links(), built)),
        layers=tuple(walker.reports),
        absorbed=frozenset(absorbed),
        tensors=tuple(walker.tensors),
    )


class _Walk:
    """One conversion: twins by layer, names in use, and what became of each layer."""

    def __init__(self, model: Any) -> None:
        self.names = Names()
        self.names.reserve(layer.name for layer in model.layers)
        self.names.reversed_embeddings = reversed_embeddings(model)
        self._users = users_of_layers(model)
        self.twins: dict[int, tuple[Any, Twin]] = {}
        self.reports: list[LayerReport] = []
        self.tensors: list[tuple[str, Any, Any]] = []
        self._depth = 0

    def graph(self, model: Any) -> Model:
        """Return the tf_keras model of a Keras 3 graph, nested ones inside it."""
        self._depth += 1
        try:
            if isinstance(model, keras3.Sequential):
                return self._sequential(model)
            return self._functional(model)
        finally:
            self._depth -= 1

    def _sequential(self, model: Any) -> Model:
        inner = graph_of(model)
        twins = [self._twin_for(layer, {}) for layer in model.layers]
        if not all(isinstance(twin.call, keras2.layers.Layer) for twin in twins):
            return self._functional(inner, name=model.name)
        # A model of the same kind: users index its layers.
        built = keras2.Sequential([self._input(inner.inputs[0])], name=plain_name(model.name))
        for layer, twin in zip(model.layers, twins, strict=True):
            try:
                built.add(twin.call)
            except TfoptError:
                raise
            except Exception as error:  # a layer of the user's own may raise anything
                raise _call_failed(layer, error) from error
            self._remember(layer, layer.output, built.outputs[0])
        return built

    def _functional(self, model: Any, *, name: str | None = None) -> Model:
        inputs = [self._input(tensor) for tensor in model.inputs]
        outputs = self._run(model, inputs)
        packed = keras3.tree.pack_sequence_as(model._inputs_struct, inputs)
        name = plain_name(name or model.name)
        built = keras2.Model(inputs=packed, outputs=outputs, name=name)
        built.output_names = list(getattr(model, "output_names", built.output_names))
        return built

    def _run(self, model: Any, inputs: Sequence[Any]) -> Any:
        """Return the outputs of a graph on tf_keras tensors, in the structure of its own."""
        table = {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}
        for call in calls_of(model):
            self._call(call, table)
        return keras3.tree.map_structure(lambda tensor: table[id(tensor)], model._outputs_struct)

    def _inlined(self, model: Any) -> Twin:
        """Return a twin that runs a nested graph as a part of the outer one."""

        def call(*args: Any, **kwargs: Any) -> Any:
            given = args[0] if args else next(iter(kwargs.values()))
            with self.names.within(model.name):
                return self._run(graph_of(model), tf.nest.flatten(given))

        return Twin(call=call, how="native")

    def _input(self, tensor: Any) -> Any:
        return keras2.Input(
            batch_shape=tuple(tensor.shape),
            dtype=tensor.dtype,
            sparse=bool(tensor.sparse),
            name=self.names.take(tensor.name),
        )

    def _call(self, made: Call, table: dict[int, Any]) -> None:
        node, op = made.node, made.node.operation
        args, kwargs = keras3.tree.map_structure(
            lambda value: table.get(id(value), value), (made.given.args, made.given.kwargs)
        )
        twin = self._twin_for(op, kwargs)
        masked = args[0] if twin.how == "native" and ignores_mask(node) else None
        if masked is not None:
            args = (WithoutMask(name=self.names.take(f"{op.name}_unmasked"))(masked), *args[1:])
        try:
            outputs = twin.call(*args, **kwargs)
        except TfoptError:
            raise
        except Exception as error:
            if twin.how != "native" or is_graph(op):
                raise _call_failed(op, error) from error
            twin = self._instead(op, f"the tf_keras layer refuses the call: {_line(error)}")
            outputs = twin.call(*args, **kwargs)
        flat = tf.nest.flatten(outputs)
        if masked is not None:
            flat = self._remasked(node, flat, masked)
        if len(flat) != len(node.outputs):
            raise ModelError(
                f"{type(op).__name__} {op.name!r} has {len(node.outputs)} outputs in Keras 3 and "
                f"{len(flat)} in tf_keras. Split it into layers with one output each."
            )
        table.update((id(old), new) for old, new in zip(node.outputs, flat, strict=True))
        self._remember(op, node.outputs[0], flat[0])

    def _remasked(self, node: Any, tensors: Sequence[Any], masked: Any) -> list[Any]:
        """Return the outputs of a call, those with a mask in Keras 3 with that of an input."""
        return [
            new
            if getattr(old, "_keras_mask", None) is None
            else WithMaskOf(name=self.names.take(f"{node.operation.name}_masked"))([new, masked])
            for old, new in zip(node.outputs, tensors, strict=False)
        ]

    def _remember(self, op: Any, old: Any, new: Any) -> None:
        if self._depth == 1:
            self.tensors.append((op.name, old, new))

    def links(self) -> list[Link]:
        """Return the links of all weights."""
        return [link for _, twin in self.twins.values() for link in twin.links()]

    def _shares_layers(self, model: Any) -> bool:
        """Return whether another graph uses a layer of a nested model too.

        tf_keras saves such a layer once in each, and so unties it, without a word.
        """
        return any(len(self._users[id(layer)]) > 1 for layer in model.layers)

    def _twin_for(self, op: Any, kwargs: Mapping[str, Any]) -> Twin:
        if id(op) not in self.twins:
            self._keep(op, self._make(op, kwargs))
        return self.twins[id(op)][1]

    def _instead(self, op: Any, reason: str) -> Twin:
        """Return the fallback of a layer whose native twin turned out not to do."""
        self.reports = [one for one in self.reports if one.name != op.name]
        twin = replace(fallback(op, self.names), note=reason)
        self._keep(op, twin)
        return twin

    def _keep(self, op: Any, twin: Twin) -> None:
        self.twins[id(op)] = (op, twin)
        if not is_graph(op):
            self.reports.append(LayerReport(op.name, type(op).__name__, twin.how, twin.note))

    def _make(self, op: Any, kwargs: Mapping[str, Any]) -> Twin:
        if not isinstance(op, keras3.Layer):
            return operation(op, self.names)
        if is_graph(op):
            if self._shares_layers(op):
                return self._inlined(op)
            with self.names.within(op.name):
                return Twin(call=self.graph(op), how="native")
        of_model = type(op) is keras3.layers.TimeDistributed and is_graph(op.layer)
        if of_model and not reads_batches(op.layer):
            with self.names.within(op.name):
                inner = self.graph(op.layer)
            name = self.names.take(op.name)
            return Twin(call=keras2.layers.TimeDistributed(inner, name=name), how="native")
        if is_partly_frozen(op):
            return replace(fallback(op, self.names), note="single weights of it are frozen")
        try:
            rule = _DECOMPOSED.get(f"{type(op).__module__.split('.')[0]}.{type(op).__name__}")
            if rule is not None:
                return rule(op, self.names)
        except Undecomposable as reason:
            return self._undivided(op, kwargs, str(reason))
        return self._undivided(op, kwargs)

    def _undivided(self, op: Any, kwargs: Mapping[str, Any], reason: str = "") -> Twin:
        """Return the twin of a layer that stays one layer."""
        try:
            twin = native(op, self.names)
            _require_arguments(twin, kwargs)
        except NoTwin as missing:
            reason = reason or str(missing)
            try:
                return replace(fallback(op, self.names), note=reason)
            except ModelError as error:
                raise ModelError(f"{error} (It has no tf_keras layer: {reason}.)") from error
        return twin


def _used(links: Sequence[Link], model: Model) -> list[Link]:
    """Return the links, without a target where no output of the model needs the weight.

    An opened nested model may have outputs that nothing reads; tf_keras drops their layers.
    """
    used = {id(weight) for weight in model.weights}
    return [link if id(link.target) in used else replace(link, target=None) for link in links]


def _require_arguments(twin: Twin, kwargs: Mapping[str, Any]) -> None:
    """Raise NoTwin if a call argument of Keras 3 has no name in tf_keras."""
    parameters = inspect.signature(twin.call.call).parameters  # type: ignore[attr-defined]  # a layer
    unknown = sorted(set(kwargs) - set(parameters))
    if unknown:
        raise NoTwin(f"tf_keras takes no call argument {unknown[0]!r}")


def _call_failed(op: Any, error: Exception) -> ModelError:
    return ModelError(
        f"The tf_keras twin of {type(op).__name__} {op.name!r} cannot be called like it: "
        f"{_line(error)}"
    )


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + " ..."
