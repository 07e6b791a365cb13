"""Walk a tf_keras graph and build it again with other layers in it.

tfmot's own cloning goes through layer configs, which loses weights, refuses operator
layers (``x + 1``), nested models and Lambdas, and rewrites Conv-BN patterns by name.
Here the graph is *called* again, node by node, so that everything a Functional model can
express survives. Nested models are inlined: a pass must reach their layers, and tfmot's
callbacks do not look inside (tfmot issues #155, #957, #965).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfopt.errors import ModelError
from tfopt.keras2.core import Layer, Model, is_graph, keras, nodes_of, require_model
from tfopt.keras2.layer_copy import copy_layer, same_weights

Call = Callable[..., Any]
Replace = Callable[[Layer], Call]
"""Given a fresh copy of a layer, return what is called in its place."""


def layers_of(model: Model) -> list[Layer]:
    """Return the layers of a flat model (as ``copy`` makes it) in the order they run."""
    seen: dict[int, Layer] = {id(node.layer): node.layer for node in nodes_of(model)}
    return list(seen.values())


def consumers_of(model: Model) -> dict[str, list[str]]:
    """Return, for each layer of a flat model, the names of the layers that read its outputs.

    A name is listed once for each tensor it reads; ``"<output>"`` stands for the model's
    own outputs.
    """
    readers: dict[str, list[str]] = {layer.name: [] for layer in layers_of(model)}
    for reader, sources in producers_of(model).items():
        for source in sources:
            readers[source].append(reader)
    for tensor in model.outputs:
        readers[tensor._keras_history.layer.name].append("<output>")
    return readers


def producers_of(model: Model) -> dict[str, list[str]]:
    """Return, for each layer of a flat model, the names of the layers it reads, one a tensor."""
    sources: dict[str, list[str]] = {}
    for node in nodes_of(model):
        names = [tensor._keras_history.layer.name for tensor in node.keras_inputs]
        sources.setdefault(node.layer.name, []).extend(names)
    return sources


def copy(model: Model) -> Model:
    """Return a copy with its own weights, nested models inlined, layer names unique."""
    return rebuild(model, lambda layer: layer)


def twin(model: Model, *, dtype: str | None = None) -> tuple[Model, Callable[[], None]]:
    """Return a copy to train, and a function that brings its weights back.

    The original stays uncompiled, in its own precision, with its own nesting.

    Args:
        model: The original.
        dtype: Policy of the copy, such as ``mixed_float16``; outputs are float32
            whatever it is. None keeps each layer's own.
    """
    pairs: list[tuple[Layer, Any]] = []

    def remember(original: Layer, replacement: Any) -> None:
        same_weights(original, replacement)
        pairs.append((original, replacement))

    def bring_back() -> None:
        for original, replacement in pairs:
            same_weights(replacement, original)

    copied = rebuild(model, lambda layer: layer, move_weights=remember, dtype=dtype)
    if dtype is not None:
        outputs = tf.nest.map_structure(
            lambda tensor: keras.layers.Activation("linear", dtype="float32")(tensor),
            copied._nested_outputs,
        )
        copied = keras.Model(copied._nested_inputs, outputs, name=model.name)
        copied.output_names = list(model.output_names)
    return copied, bring_back


def rebuild(
    model: Model,
    replace: Replace,
    *,
    after: Callable[[Layer, Any], Any] | None = None,
    move_weights: Callable[[Layer, Any], None] | None = None,
    dtype: str | None = None,
) -> Model:
    """Build the graph of ``model`` again, with ``replace(layer)`` called for each layer.

    Args:
        model: A Functional or Sequential tf_keras model; it is not changed.
        replace: Given an unbuilt copy of a layer with the same name, return the layer
            or function to call in its place. Called once a layer, however often the
            layer is used.
        after: Given the copy and its outputs, return the outputs to go on with.
            Input layers are passed too.
        move_weights: Given the original layer and its replacement, copy the weights;
            by default all weights are copied in order.
        dtype: Computation type of every layer; None keeps each layer's own.

    Returns:
        The new model, with the same input and output structure.

    Raises:
        ModelError: If a layer cannot be copied.
    """
    require_model(model)
    builder = _Rebuild(replace=replace, after=after, dtype=dtype)
    outputs = builder.run(model)
    try:
        rebuilt = keras.Model(inputs=builder.inputs, outputs=outputs, name=model.name)
    except ValueError as error:
        raise ModelError(f"Model {model.name!r} cannot be built again: {error}") from error
    # Losses and metrics may be given by output name, which follows the last layer's name.
    rebuilt.output_names = list(model.output_names)
    move = move_weights or same_weights
    for original, replacement in builder.replaced:
        move(original, replacement)
    return rebuilt


_KERNELS = ("kernel", "recurrent_kernel", "depthwise_kernel", "pointwise_kernel", "embeddings")
_PARTS = (
    "cell",
    "forward_layer",
    "backward_layer",
    "_query_dense",
    "_key_dense",
    "_value_dense",
    "_output_dense",
)


def kernels_of(layer: Layer) -> Mapping[str, Any]:
    """Return the layer's weight matrices, attribute path (``cell.kernel``) to variable.

    Biases, norms and statistics are not among them: they are never pruned or clustered.
    """
    found = {
        name: variable
        for name in _KERNELS
        if hasattr(variable := getattr(layer, name, None), "assign")
    }
    for path, part in _parts_of(layer):
        found.update({f"{path}.{name}": variable for name, variable in kernels_of(part).items()})
    return found


def _parts_of(layer: Layer) -> list[tuple[str, Layer]]:
    """Return the layers inside a layer that hold its kernels, each with its attribute path."""
    if type(layer) is keras.layers.TimeDistributed:
        return [("layer", layer.layer)]
    if isinstance(layer, keras.layers.StackedRNNCells):
        return [(f"cells.{number}", cell) for number, cell in enumerate(layer.cells)]
    parts = ((name, getattr(layer, name, None)) for name in _PARTS)
    return [(name, part) for name, part in parts if isinstance(part, keras.layers.Layer)]


class _Rebuild:
    """One rebuilding: the graph is run on symbolic inputs, nested models inside out."""

    def __init__(
        self, *, replace: Replace, after: Callable[[Layer, Any], Any] | None, dtype: str | None
    ) -> None:
        self.inputs: Any = None
        self.replaced: list[tuple[Layer, Call]] = []
        self._replace = replace
        self._after = after or (lambda layer, outputs: outputs)
        self._dtype = dtype
        self._calls: dict[int, tuple[Layer, Call]] = {}
        self._names: set[str] = set()

    def run(self, model: Model) -> Any:
        """Return the new outputs, in the structure of the old ones."""
        flat = [self._input(tensor) for tensor in model.inputs]
        self.inputs = tf.nest.pack_sequence_as(model._nested_inputs, [new for new, _ in flat])
        return self._run(model, [after for _, after in flat], path=())

    def _run(
        self,
        model: Model,
        inputs: Sequence[Any],
        path: tuple[str, ...],
        *,
        training: bool | None = None,
    ) -> Any:
        table = {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}

        def new_for(value: Any) -> Any:
            return table.get(id(value), value)

        for node in nodes_of(model):
            if node.is_input:
                continue
            _require_movable(node)
            args, kwargs = tf.nest.map_structure(new_for, (node.call_args, node.call_kwargs))
            if training is not None and node.layer._call_spec.expects_training_arg:
                kwargs.setdefault("training", training)
            outputs = self._run_node(node.layer, args, kwargs, path)
            flat_old, flat_new = tf.nest.flatten(node.outputs), tf.nest.flatten(outputs)
            table.update((id(old), new) for old, new in zip(flat_old, flat_new, strict=True))
        return tf.nest.map_structure(new_for, model._nested_outputs)

    def _run_node(self, layer: Layer, args: Any, kwargs: Any, path: tuple[str, ...]) -> Any:
        if is_graph(layer):
            given = args[0] if args else kwargs["inputs"]
            flat = layer._flatten_to_reference_inputs(given)
            # backbone(x, training=False) pins every layer inside.
            pinned = kwargs.get("training")
            return self._run(layer, flat, (*path, layer.name), training=pinned)
        fresh, call = self._call_for(layer, path)
        try:
            outputs = call(*args, **kwargs)
        except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
            raise ModelError(
                f"Layer {layer.name!r} ({type(layer).__name__}) cannot be called on a copy of "
                f"its own inputs: {error}"
            ) from error
        return self._after(fresh, outputs)

    def _input(self, tensor: Any) -> tuple[Any, Any]:
        """Return the new input, and what the graph goes on with."""
        name = self._unique(tensor._keras_history.layer.name)
        new = keras.Input(
            batch_shape=tuple(tensor.shape),
            dtype=tensor.dtype,
            sparse=isinstance(tensor.type_spec, tf.SparseTensorSpec),
            ragged=isinstance(tensor.type_spec, tf.RaggedTensorSpec),
            name=name,
        )
        return new, self._after(new._keras_history.layer, new)

    def _call_for(self, layer: Layer, path: Sequence[str]) -> tuple[Layer, Call]:
        if id(layer) not in self._calls:
            name = layer.name
            if name in self._names:
                name = "_".join((*path, name))
            fresh = copy_layer(layer, name=self._unique(name), dtype=self._dtype)
            call = self._replace(fresh)
            self._calls[id(layer)] = (fresh, call)
            self.replaced.append((layer, call))
        return self._calls[id(layer)]

    def _unique(self, name: str) -> str:
        candidate, number = name, 1
        while candidate in self._names:
            candidate, number = f"{name}_{number}", number + 1
        self._names.add(candidate)
        return candidate


def _require_movable(node: Any) -> None:
    """Raise if a call would lose something, or keep hold of the original, in a new graph."""
    layer = node.layer
    if type(layer).__name__ in ("AddLoss", "AddMetric"):
        raise ModelError(
            "The model has a loss or metric added by model.add_loss or model.add_metric, which a "
            "copy would lose. Call self.add_loss in a layer instead."
        )
    for value in tf.nest.flatten((node.call_args, node.call_kwargs)):
        if isinstance(value, tf.Variable):
            raise ModelError(
                f"Layer {layer.name!r} is called on the variable {value.name!r} of another layer "
                "(tied weights), which a copy cannot follow. Put both uses into one layer."
            )
    if getattr(layer, "data_format", None) == "channels_first":
        raise ModelError(
            f"Layer {layer.name!r} works on data_format='channels_first', which neither "
            "TensorFlow on a CPU nor LiteRT runs. Build the model with 'channels_last'."
        )
