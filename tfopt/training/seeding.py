"""Make each epoch draw random numbers that depend on (seed, epoch) and nothing else.

A run that is killed and resumed then trains on the very numbers of an uninterrupted one.
Kernels such as ``RandomUniform`` count their draws in memory that no checkpoint reaches,
so tf_keras layers (which use them by default) are given generators that can be set, and
a step that still holds such kernels, from a user's ``tf.random.normal``, is traced anew
for each epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.keras2.core import Model, RandomGenerator

_COUNTING_KERNELS = frozenset(
    {
        "Multinomial",
        "ParameterizedTruncatedNormal",
        "RandomGamma",
        "RandomPoisson",
        "RandomPoissonV2",
        "RandomShuffle",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "SampleDistortedBoundingBox",
        "SampleDistortedBoundingBoxV2",
        "TruncatedNormal",
    }
)


class EpochRandomness:
    """Sets all random state of a model's training step at the beginning of an epoch.

    Args:
        model: The model.
        seed: Seed of the stage.
        stream: Number of the process among those that draw for one model.
    """

    def __init__(self, model: Model, *, seed: int, stream: int = 0) -> None:
        self._model = model
        # Each process draws for its own rows; alone, and as the first of many, it draws the same.
        self._seed = [seed] if stream == 0 else [seed, stream]
        self._is_begun = False
        self._retraces = False
        _give_generators(model)

    def begin(self, epoch: int) -> None:
        """Set the state for an epoch; to be called before its first step."""
        for number, generator in enumerate(_generators(self._model)):
            generator.reset_from_seed(self._draw(epoch, number + 1))
        if self._is_begun and not self._retraces:
            return
        # The seeds of counting kernels are written into the graph when it is traced.
        tf.random.set_seed(self._draw(epoch, 0))
        if self._retraces:
            self._model.make_train_function(force=True)
        self._is_begun = True

    def look(self) -> bool:
        """Return whether the step, which must have run, holds kernels that count their draws.

        From the next epoch on it is then traced anew each time.
        """
        self._retraces = _counts_draws(self._model)
        return self._retraces

    def _draw(self, epoch: int, stream: int) -> int:
        return int(np.random.SeedSequence([*self._seed, epoch, stream]).generate_state(1)[0])


def _give_generators(model: Model) -> None:
    """Let tf_keras' own random layers draw from generators, as `force_generator` would."""
    for owned in _owned(model):
        if isinstance(owned, RandomGenerator) and owned._rng_type == (owned.RNG_LEGACY_STATEFUL):
            owned._rng_type = owned.RNG_STATEFUL
            owned._built = False
            owned._maybe_init()


def _generators(model: Model) -> list[Any]:
    found = [getattr(owned, "_generator", owned) for owned in _owned(model)]
    return [generator for generator in found if isinstance(generator, tf.random.Generator)]


def _owned(model: Model) -> Iterator[Any]:
    """Yield everything that draws and that a layer of the model owns, in a fixed order."""
    kinds = (RandomGenerator, tf.random.Generator)
    for layer in model._flatten_layers():
        yield from (value for value in vars(layer).values() if isinstance(value, kinds))


def _counts_draws(model: Model) -> bool:
    """Return whether the traced training step holds kernels that count their draws."""
    functions = model.train_tf_function._list_all_concrete_functions()
    graphs = [function.graph.as_graph_def() for function in functions]
    return any(
        node.op in _COUNTING_KERNELS
        for graph in graphs
        for nodes in (graph.node, *(function.node_def for function in graph.library.function))
        for node in nodes
    )
