"""Show that two models compute the same, or name the first layer that does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfopt.bridge.keras3 import graph_of
from tfopt.bridge.keras3 import keras as keras3
from tfopt.bridge.report import Parity
from tfopt.bridge.to_tf_keras.twin import Link
from tfopt.bridge.to_tf_keras.wrapped_layer import Keras3Layer, seed_states
from tfopt.errors import ModelError, VerificationError
from tfopt.keras2.core import Model
from tfopt.keras2.core import keras as keras2

_Arrays = list[npt.NDArray[Any]]
Tensors = Sequence[tuple[str, Any, Any]]
"""``(layer name, Keras 3 tensor, tf_keras tensor)`` in the order they are computed."""


def compare(
    ours: Any,
    theirs: Model,
    inputs: _Arrays,
    *,
    tolerance: float,
    statistics: Sequence[tuple[Any, Any]] = (),
    on_user_data: bool = False,
) -> Parity:
    """Return how much the outputs of a Keras 3 and a tf_keras model differ.

    Args:
        ours: The Keras 3 model.
        theirs: The tf_keras model.
        inputs: One array for each input.
        tolerance: What the caller allows; it is only written down here.
        statistics: Keras 3 variables and the values they have meanwhile.
        on_user_data: Whether ``inputs`` are the caller's.

    Returns:
        The differences. Entries that are not finite in both models are left out; where
        only one of the models has such an entry, the difference is infinite.

    Raises:
        ModelError: If one of the models cannot be run on the inputs.
    """
    what = f"{_kind(on_user_data)} inputs of the shapes {[one.shape for one in inputs]}"
    # No variable of the user's model is touched: the scope answers in their place.
    with _stateless(ours, statistics):
        mine = _run(
            ours, graph_of(ours)._inputs_struct, inputs, what=f"Keras 3 model fails on {what}"
        )
    with _untouched(theirs):
        other = _run(theirs, theirs._nested_inputs, inputs, what=f"tf_keras model fails on {what}")
    errors = [_difference(one, two) for one, two in zip(mine, other, strict=True)]
    finite = [np.isfinite(one).ravel() for one in mine if one.dtype.kind == "f"]
    return Parity(
        rows=len(inputs[0]) if inputs[0].ndim else 1,
        max_abs_error=max(absolute for absolute, _ in errors),
        relative_error=max(relative for _, relative in errors),
        tolerance=tolerance,
        sensitivity=max(_sensitivity(one) for one in mine),
        calibrated=bool(statistics),
        on_user_data=on_user_data,
        finite_fraction=float(np.mean(np.concatenate(finite))) if finite else 1.0,
    )


def require(parity: Parity, first: Callable[[], str]) -> Parity:
    """Return a comparison that is within its tolerance.

    Args:
        parity: The comparison.
        first: Called if it is not; names the first layer that differs.

    Returns:
        ``parity``.

    Raises:
        VerificationError: If the outputs differ by more, or none of them is finite, so that
            they say nothing.
    """
    if not parity.finite_fraction:
        raise VerificationError(
            f"All outputs of the model are NaN or infinite on {_kind(parity.on_user_data)} inputs, "
            "before the conversion too, so it cannot be shown that nothing changed. Look for "
            "weights that are NaN, or give inputs that it takes (check=...)."
        )
    if parity.relative_error <= parity.tolerance:
        return parity
    raise VerificationError(
        f"The converted model computes something else: outputs differ by "
        f"{parity.max_abs_error:.3g} ({parity.relative_error:.2g} relative, allowed is "
        f"{parity.tolerance:g}) on {parity.rows} {_kind(parity.on_user_data)} rows. "
        f"{first()}"
    )


def layer_differences(
    ours: Any,
    theirs: Model,
    tensors: Tensors,
    inputs: _Arrays,
    *,
    statistics: Sequence[tuple[Any, Any]] = (),
) -> list[tuple[str, float]]:
    """Return how much each layer's first output differs, relative, in the order they run.

    Args:
        ours: The Keras 3 model.
        theirs: The tf_keras model.
        tensors: Outputs of the layers of both.
        inputs: One array for each input.
        statistics: See ``compare``.
    """
    left = keras3.Model(ours.inputs, [old for _, old, _ in tensors])
    right = keras2.Model(theirs.inputs, [new for _, _, new in tensors])
    with _stateless(ours, statistics):
        mine = _run(left, left._inputs_struct, inputs, what="Keras 3 model fails")
    with _untouched(theirs):
        other = _run(right, right._nested_inputs, inputs, what="tf_keras model fails")
    names = [
        f"{name!r} ({type(old._keras_history.operation).__name__})" for name, old, _ in tensors
    ]
    return [
        (name, _difference(one, two)[1]) for name, one, two in zip(names, mine, other, strict=True)
    ]


def first_difference(differences: Sequence[tuple[str, float]], *, tolerance: float) -> str:
    """Return a sentence that names the first layer whose outputs differ.

    Args:
        differences: See ``layer_differences``.
        tolerance: Largest relative difference that counts as equal.
    """
    for name, relative in differences:
        if relative > tolerance:
            return f"The first layer that differs is {name}, by {relative:.2g} relative."
    return "No single layer differs by more; the differences add up."


@contextmanager
def calibrated(
    theirs: Model, links: Sequence[Link], inputs: _Arrays
) -> Iterator[Sequence[tuple[Any, Any]]]:
    """Give batch normalization the statistics of some inputs for a while.

    With random weights the stored statistics (mean 0, variance 1) let activations die out
    or explode, so that outputs hardly depend on inputs and every comparison succeeds.

    Args:
        theirs: The tf_keras model; its own statistics are back at the end.
        links: Weights of both models.
        inputs: One array for each input.

    Yields:
        The Keras 3 variables and the values they should have meanwhile.
    """
    layers = [
        layer
        for layer in theirs._flatten_layers()
        if isinstance(layer, keras2.layers.BatchNormalization) and layer.trainable
    ]
    moving = [weight for layer in layers for weight in layer.non_trainable_weights]
    stored = [weight.numpy() for weight in moving]
    momenta = [layer.momentum for layer in layers]
    # Dropout would make activations in training larger than they are afterwards.
    dropping = [layer for layer in theirs._flatten_layers() if hasattr(layer, "rate")]
    rates = [layer.rate for layer in dropping]
    try:
        for layer in layers:
            layer.momentum = 0.0
        for layer in dropping:
            layer.rate = 0.0
        if layers:
            with _untouched(theirs):
                _run(
                    theirs,
                    theirs._nested_inputs,
                    inputs,
                    what="tf_keras model fails",
                    training=True,
                )
            _put_back(links, but={id(weight) for weight in moving})
        of = {id(link.target): link for link in links}
        yield [(of[id(one)].source, of[id(one)].backward(one.numpy())) for one in moving]
    finally:
        for weight, value in zip(moving, stored, strict=True):
            weight.assign(value)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for layer, rate in zip(dropping, rates, strict=True):
            layer.rate = rate


def _put_back(links: Sequence[Link], *, but: set[int]) -> None:
    """Undo what training changes besides statistics: spectral norms, counters, states."""
    for link in links:
        if id(link.target) not in but:
            link.forward()


def _stateless(model: Any, statistics: Sequence[tuple[Any, Any]]) -> Any:
    """Return a scope in which no variable of a Keras 3 model changes; its RNNs start at zero."""
    states = [one for layer in model._flatten_layers() for one in _rnn_states(layer, keras3)]
    at_zero = [(one, np.zeros(one.shape, one.dtype)) for one in states]
    return keras3.StatelessScope(state_mapping=[*statistics, *at_zero])


@contextmanager
def _untouched(model: Model) -> Iterator[None]:
    """Start the RNNs of a tf_keras model at zero, and put back what running it changes."""
    held = [variable for layer in model._flatten_layers() for variable in _state_of(layer)]
    stored = [np.asarray(variable) for variable in held]
    try:
        for layer in model._flatten_layers():
            for state in _rnn_states(layer, keras2):
                state.assign(np.zeros(state.shape, state.dtype.as_numpy_dtype))
        yield
    finally:
        for variable, value in zip(held, stored, strict=True):
            variable.assign(value)


def _rnn_states(layer: Any, kind: Any) -> Sequence[Any]:
    """Return the states that an RNN of either Keras keeps from one batch to the next."""
    if not (isinstance(layer, kind.layers.RNN) and layer.stateful):
        return []
    return [one for one in tf.nest.flatten(layer.states) if one is not None]


def _state_of(layer: Any) -> Sequence[Any]:
    """Return counters, seeds and states; they are no weights that anybody trains."""
    if isinstance(layer, Keras3Layer):
        return [*layer.non_trainable_weights, *seed_states(layer._held.layer)]
    if isinstance(layer, keras2.layers.RNN):
        return _rnn_states(layer, keras2)
    generator = getattr(getattr(layer, "_random_generator", None), "_generator", None)
    return [] if generator is None else [generator.state]


def _kind(on_user_data: object) -> str:
    return "given" if on_user_data else "random"


def _first_line(error: Exception) -> str:
    """Return the cause in an error of Keras, which lists all arguments of the call as well."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception encountered", "Arguments "))]
    line = (told or lines or [type(error).__name__])[0]
    line = line.removeprefix("\x1b[1m").removesuffix("\x1b[0m")
    return re.sub(r"^\{\{function_node [^}]*\}\} ", "", line)[:300]


def _run(
    model: Any, structure: Any, inputs: _Arrays, *, what: str, training: bool = False
) -> _Arrays:
    tensors = [tf.convert_to_tensor(one) for one in inputs]
    packed = keras3.tree.pack_sequence_as(structure, tensors)
    try:
        outputs = model(packed, training=training)
    # A layer of the user's own may raise anything.
    except Exception as error:
        raise ModelError(
            f"The {what}: {type(error).__name__}: {_first_line(error)} Give inputs that the model "
            "takes (check=...)."
        ) from error
    return [_as_array(one) for one in tf.nest.flatten(outputs)]


def _as_array(tensor: Any) -> npt.NDArray[Any]:
    if isinstance(tensor, tf.RaggedTensor):
        tensor = tensor.to_tensor()
    if isinstance(tensor, tf.SparseTensor):
        tensor = tf.sparse.to_dense(tensor)
    array = np.asarray(tensor)
    return array.astype(np.float64) if tensor.dtype.is_floating else array


def _difference(mine: npt.NDArray[Any], other: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the largest absolute and relative difference of two arrays."""
    if mine.shape != other.shape:
        return float("inf"), float("inf")
    if mine.dtype.kind not in "fiu" or not mine.size:
        differs = float(not np.array_equal(mine, other))
        return differs, differs
    finite = np.isfinite(mine)
    if not np.array_equal(finite, np.isfinite(other)):
        return float("inf"), float("inf")
    if not finite.any():
        return 0.0, 0.0
    absolute = float(np.max(np.abs(mine[finite] - other[finite].astype(mine.dtype))))
    scale = float(np.max(np.abs(mine[finite])))
    return absolute, absolute / scale if scale else absolute


def _sensitivity(output: npt.NDArray[Any]) -> float:
    """Return the largest change of an output from the first example to another, relative."""
    if output.dtype.kind != "f" or not np.isfinite(output).all():
        return 1.0
    if output.ndim == 0 or len(output) < 2:
        return 0.0  # nothing to compare: look at each layer
    scale = float(np.max(np.abs(output)))
    return float(np.max(np.abs(output[1:] - output[:1]))) / scale if scale else 0.0
