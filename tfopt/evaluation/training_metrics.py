"""Metrics logged in training that tf_keras lacks: those over positions, and macro F1."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfopt.keras2.core import keras


class PositionAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """Accuracy over the positions whose label is not negative."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Add a batch."""
        counted = tf.cast(y_true >= 0, self.dtype)
        return super().update_state(y_true, y_pred, position_weights(counted, sample_weight))


class PositionTopFive(keras.metrics.SparseTopKCategoricalAccuracy):
    """Top-5 accuracy over the positions whose label is not negative."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Add a batch."""
        counted = tf.cast(y_true >= 0, self.dtype)
        return super().update_state(
            tf.maximum(y_true, 0), y_pred, position_weights(counted, sample_weight)
        )


class MacroF1Score(keras.metrics.Metric):
    """Mean over classes of ``2 hits / (predicted + true)``, as ``MacroF1`` defines it.

    Labels are class numbers or one-hot rows; outputs one or several a row. Weights of rows
    count as so many rows.
    """

    def __init__(self, name: str, *, classes: int, threshold: float) -> None:
        super().__init__(name)
        self.threshold = threshold
        self.classes = classes
        self.counts = self.add_weight("counts", shape=(3, classes), initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch."""
        y_pred = tf.convert_to_tensor(y_pred)
        y_true = tf.convert_to_tensor(y_true)
        if y_pred.shape[-1] == 1:
            predicted = tf.cast(y_pred[..., 0] > self.threshold, tf.int64)
        else:
            predicted = tf.argmax(y_pred, -1)
        if y_true.shape.rank == y_pred.shape.rank:
            y_true = y_true[..., 0] if y_true.shape[-1] == 1 else tf.argmax(y_true, -1)
        true = tf.reshape(tf.cast(y_true, tf.int64), tf.shape(predicted))
        weights = position_weights(tf.cast(true >= 0, self.dtype), sample_weight)
        predicted, true = (
            tf.one_hot(part, self.classes, dtype=self.dtype) for part in (predicted, true)
        )
        axes = list(range(true.shape.rank - 1))
        sums = [
            tf.reduce_sum(part * weights[..., None], axes)
            for part in (predicted * true, predicted, true)
        ]
        self.counts.assign_add(tf.stack(sums))

    def reset_state(self) -> None:
        """Forget all batches; Keras' own assigns a scalar."""
        self.counts.assign(tf.zeros_like(self.counts))

    def result(self) -> Any:
        """Return the mean over the classes that are predicted or true."""
        hits, predicted, true = tf.unstack(self.counts)
        occurs = tf.cast(predicted + true > 0, self.dtype)
        scores = tf.math.divide_no_nan(2 * hits, predicted + true)
        return tf.math.divide_no_nan(tf.reduce_sum(scores), tf.reduce_sum(occurs))


def position_weights(counted: Any, sample_weight: Any) -> Any:
    """Return the weights of positions.

    Args:
        counted: 1 where a position counts, else 0, shape ``(rows, ...)``.
        sample_weight: Weight of each position, of each row (which holds for all its
            positions), or None.
    """
    if sample_weight is None:
        return counted
    weights = tf.cast(sample_weight, counted.dtype)
    missing = counted.shape.rank - weights.shape.rank
    return counted * tf.reshape(weights, [-1, *[1] * missing]) if missing > 0 else counted * weights
