"""Losses that tf_keras lacks, for ``compile``."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfopt.distributed import replica_context
from tfopt.evaluation.training_metrics import position_weights
from tfopt.keras2.core import keras


class SmoothedSparseCrossentropy(keras.losses.Loss):
    """Cross-entropy of class numbers with label smoothing, which Keras 2 has for one-hot only."""

    def __init__(self, from_logits: bool, label_smoothing: float) -> None:  # noqa: FBT001  # like the Keras losses
        super().__init__(name="smoothed_sparse_crossentropy")
        self.from_logits = from_logits
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each row."""
        y_pred = tf.convert_to_tensor(y_pred)
        classes = y_pred.shape[-1]
        labels = tf.cast(y_true, tf.int32)
        if labels.shape.rank == y_pred.shape.rank:
            labels = tf.squeeze(labels, -1)
        one_hot = tf.one_hot(labels, classes, dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(
            one_hot,
            y_pred,
            from_logits=self.from_logits,
            label_smoothing=self.label_smoothing,
        )


class PositionCrossentropy(keras.losses.Loss):
    """Cross-entropy of a class in each position, over the positions that count.

    A position with a negative label does not count, whatever the model says there. The
    loss is the mean over the others, so that it does not depend on how long a batch is
    padded.
    """

    def __init__(self, from_logits: bool, label_smoothing: float) -> None:  # noqa: FBT001  # like the Keras losses
        super().__init__(name="position_crossentropy")
        self._each = (
            SmoothedSparseCrossentropy(from_logits, label_smoothing).call
            if label_smoothing
            else keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits).call
        )

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the weighted mean loss of the positions that count; 0 if there are none.

        Replicas divide by the positions of all of them, so that together they give the mean
        over the whole batch, however the positions are spread.

        Args:
            y_true: Class numbers, shape ``(rows, ...)``.
            y_pred: Outputs, shape ``(rows, ..., classes)``.
            sample_weight: Weight of each row or position, or None.
        """
        losses = self._each(tf.maximum(y_true, 0), y_pred)
        weights = position_weights(tf.cast(y_true >= 0, losses.dtype), sample_weight)
        # The mean, since Keras divides the loss by the number of replicas, or Horovod their sum.
        rows = tf.cast(tf.shape(losses)[0], losses.dtype)
        total, usual_rows = tf.unstack(
            replica_context.mean(tf.stack([tf.reduce_sum(weights), rows]))
        )
        # Validation batches may be unevenly divided, and the logs weigh a loss by its rows.
        share = usual_rows / rows
        return share * tf.math.divide_no_nan(tf.reduce_sum(losses * weights), total)
