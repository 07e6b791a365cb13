"""Losses and training metrics that tf_keras lacks, for ``compile``."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfopt.distributed import replica_context
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
        weights = _weights(tf.cast(y_true >= 0, losses.dtype), sample_weight)
        # The mean, since Keras divides the loss by the number of replicas, or Horovod their sum.
        rows = tf.cast(tf.shape(losses)[0], losses.dtype)
        total, usual_rows = tf.unstack(
            replica_context.mean(tf.stack([tf.reduce_sum(weights), rows]))
        )
        # Validation batches may be unevenly divided, and the logs weigh a loss by its rows.
        share = usual_rows / rows
        return share * tf.math.divide_no_nan(tf.reduce_sum(losses * weights), total)


class PositionAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """Accuracy over the positions whose label is not negative."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Add a batch."""
        counted = tf.cast(y_true >= 0, self.dtype)
        return super().update_state(y_true, y_pred, _weights(counted, sample_weight))


class PositionTopFive(keras.metrics.SparseTopKCategoricalAccuracy):
    """Top-5 accuracy over the positions whose label is not negative."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Add a batch."""
        counted = tf.cast(y_true >= 0, self.dtype)
        return super().update_state(tf.maximum(y_true, 0), y_pred, _weights(counted, sample_weight))


class MacroF1(keras.metrics.Metric):
    """Mean over classes of 2 hits / (said + true), as ``TaskMetric`` defines it.

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
            said = tf.cast(y_pred[..., 0] > self.threshold, tf.int64)
        else:
            said = tf.argmax(y_pred, -1)
        if y_true.shape.rank == y_pred.shape.rank:
            y_true = y_true[..., 0] if y_true.shape[-1] == 1 else tf.argmax(y_true, -1)
        true = tf.reshape(tf.cast(y_true, tf.int64), tf.shape(said))
        weights = _weights(tf.cast(true >= 0, self.dtype), sample_weight)
        said, true = (tf.one_hot(part, self.classes, dtype=self.dtype) for part in (said, true))
        axes = list(range(true.shape.rank - 1))
        sums = [
            tf.reduce_sum(part * weights[..., None], axes) for part in (said * true, said, true)
        ]
        self.counts.assign_add(tf.stack(sums))

    def reset_state(self) -> None:
        """Forget all batches; Keras' own assigns a scalar."""
        self.counts.assign(tf.zeros_like(self.counts))

    def result(self) -> Any:
        """Return the mean over the classes that are said or true."""
        hits, said, true = tf.unstack(self.counts)
        occurs = tf.cast(said + true > 0, self.dtype)
        scores = tf.math.divide_no_nan(2 * hits, said + true)
        return tf.math.divide_no_nan(tf.reduce_sum(scores), tf.reduce_sum(occurs))


def _weights(counted: Any, sample_weight: Any) -> Any:
    """Return weights of positions; those of rows hold for all their positions."""
    if sample_weight is None:
        return counted
    weights = tf.cast(sample_weight, counted.dtype)
    missing = counted.shape.rank - weights.shape.rank
    return counted * tf.reshape(weights, [-1, *[1] * missing]) if missing > 0 else counted * weights
