"""Convert one model and measure it: outputs, what became of its layers, one training step."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import keras as keras3
import numpy as np

from tfopt.bridge.provenance import conversion_of
from tfopt.bridge.report import Conversion
from tfopt.bridge.sample_inputs import random_inputs
from tfopt.bridge.to_keras3.convert import to_keras3
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.keras2.core import keras as keras2

LEARNING_RATE = 0.1
_KINDS = ("native", "operation", "decomposed", "fallback")


@dataclass(frozen=True)
class Checked:
    """One conversion.

    Attributes:
        evidence: See ``Conversion``.
        convert_seconds: Time that ``to_tf_keras`` took, its comparisons included.
        step_error: Largest difference of a weight after one training step in each Keras,
            over the weight if that is above 1; None if there was no step to make.
    """

    evidence: Conversion
    convert_seconds: float
    step_error: float | None

    @property
    def kinds(self) -> str:
        """Return how many layers became what, as ``native/operation/decomposed/fallback``."""
        found = Counter(layer.how for layer in self.evidence.layers)
        return "/".join(str(found[kind]) for kind in _KINDS)


def check(model: Any, *, step: bool = True, eager: bool = False) -> Checked:
    """Convert a Keras 3 model; its weights are trained by one step if ``step``."""
    start = time.perf_counter()
    twin = to_tf_keras(model)
    seconds = time.perf_counter() - start
    error = step_error(model, twin, eager=eager) if step and _can_train(model) else None
    return Checked(conversion_of(twin), seconds, error)


def step_error(model: Any, twin: Any, *, eager: bool = False) -> float:
    """Return how far the weights are apart after one step of ``train_on_batch`` in each Keras.

    Args:
        model: A Keras 3 model.
        twin: What it was converted to.
        eager: Whether the step runs without a graph, which is faster for tiny models.
    """
    inputs = random_inputs(model, rows=4, seed=1)
    places = [place for place, one in enumerate(model.outputs) if _is_float(one)]
    ours, theirs = (
        kind.Model(_bare(one.inputs), _bare([one.outputs[place] for place in places]))
        for kind, one in ((keras3, model), (keras2, twin))
    )
    rng = np.random.default_rng(5)
    # Not left to Keras 3: behind a Resizing layer it would run batch normalization in training.
    outputs = ours(_bare(inputs), training=False)
    theirs(_bare(inputs), training=False)  # so that the states of RNNs move on as well
    targets = [rng.normal(size=one.shape).astype("float32") for one in keras3.tree.flatten(outputs)]
    before = [np.asarray(weight) for weight in model.weights]
    for kind, one in ((keras3, ours), (keras2, theirs)):
        one.compile(
            optimizer=kind.optimizers.SGD(LEARNING_RATE),
            loss=_bare(["mse"] * len(targets)),
            run_eagerly=eager,
            jit_compile=False,
        )
        one.train_on_batch(_bare(inputs), _bare(targets))
    trained = [np.asarray(weight) for weight in model.weights]
    if all(np.array_equal(old, new) for old, new in zip(before, trained, strict=True)):
        raise RuntimeError("The training step changed no weight of the Keras 3 model.")
    back = [np.asarray(weight) for weight in to_keras3(twin).weights]
    return max(_distance(one, two) for one, two in zip(trained, back, strict=True))


def _bare(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _distance(one: Any, other: Any) -> float:
    one, other = (np.asarray(value, np.float64) for value in (one, other))
    if not (one.size and np.isfinite(one).all()):
        return 0.0 if np.array_equal(one, other, equal_nan=True) else float("inf")
    return float(np.max(np.abs(one - other) / np.maximum(1.0, np.abs(one))))


def _is_float(tensor: Any) -> bool:
    return str(tensor.dtype) == "float32"


def _can_train(model: Any) -> bool:
    """Return whether a step is the same twice: there are weights, and nothing is dropped."""
    rates = ("rate", "dropout", "recurrent_dropout", "dropout_rate")
    drops = any(
        isinstance(getattr(layer, name, None), float) and getattr(layer, name) > 0
        for layer in model._flatten_layers()
        for name in rates
    )
    weights = model.trainable_variables
    whole = all(str(weight.dtype) == "float32" for weight in model.weights)
    return bool(weights) and whole and not drops and any(map(_is_float, model.outputs))
