"""A model whose training step adds pretraining terms to the loss, each with a metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import tensorflow as tf

from tfopt.keras2.core import Model, keras

Term: TypeAlias = Callable[[Any], Any]
"""Given a batch's inputs, return a loss that is already weighted."""

FINE_TUNE = "fine_tune_loss"


class PulledModel(keras.Model):
    """A Functional model that trains on ``fine_tune_loss`` plus named terms.

    In the logs of training, ``loss`` is the sum and every part has a number of its own. In
    validation, ``loss`` is that of the task alone.
    """

    def give_terms(self, terms: Mapping[str, Term]) -> None:
        """Set the terms by the names of their metrics; to be called before ``compile``.

        Layers among them train along, and are in the checkpoints.
        """
        self._term_layers = [t for t in terms.values() if isinstance(t, keras.layers.Layer)]
        self._terms = _UntrackedTerms(terms)
        self._means = {name: keras.metrics.Mean(name) for name in terms}

    @property
    def metrics(self) -> list[Any]:
        """Return all metrics; Keras resets them at the beginning of an epoch."""
        return [*super().metrics, *self._means.values()]

    def train_step(self, data: Any) -> dict[str, Any]:
        """Train on a batch; called by Keras, on each replica."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            outputs = self(x, training=True)
            fine_tune = self.compute_loss(x, y, outputs, weight)
            parts = {name: term(x) for name, term in self._terms.values.items()}
            # Keras sums gradients over replicas, and has scaled its own loss for that.
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            total = fine_tune + tf.add_n(list(parts.values())) / replicas
        self.optimizer.minimize(total, self.trainable_variables, tape=tape)
        rows = tf.shape(tf.nest.flatten(x)[0])[0]
        for name, value in parts.items():
            self._means[name].update_state(value, sample_weight=rows)
        logs = dict(self.compute_metrics(x, y, outputs, weight))
        logs[FINE_TUNE] = logs["loss"]
        logs["loss"] = logs[FINE_TUNE] + tf.add_n([logs[name] for name in parts])
        return logs

    def test_step(self, data: Any) -> dict[str, Any]:
        """Evaluate a batch by the task alone."""
        logs = super().test_step(data)
        return {name: value for name, value in logs.items() if name not in self._means}


class _UntrackedTerms:
    """Keeps Keras from tracking what a term holds."""

    def __init__(self, values: Mapping[str, Term]) -> None:
        self.values = values


def pulled(model: Model, terms: Mapping[str, Term]) -> PulledModel:
    """Return a model of the same layers that trains with terms."""
    made = PulledModel(model._nested_inputs, model._nested_outputs, name=model.name)
    made.output_names = list(model.output_names)
    made.give_terms(terms)
    return made


def half_squares(pairs: list[tuple[Any, Any]], strength: float) -> Term:
    """Return ``strength / 2`` times the squared distance of variables from values."""
    fixed = [(variable, tf.constant(value)) for variable, value in pairs]

    def term(inputs: Any) -> Any:
        sums = [tf.reduce_sum(tf.square(variable - value)) for variable, value in fixed]
        return strength / 2 * tf.add_n(sums)

    return term
