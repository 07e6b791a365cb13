"""Run a model over a whole split, outside of ``fit``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfopt.data.split import Split
from tfopt.errors import VerificationError
from tfopt.evaluation.metrics import Metric
from tfopt.keras2.core import Model

EVALUATION_BATCH = 256
"""Rows in an evaluation batch; the result does not depend on it beyond rounding."""


def predictor(model: Model) -> Callable[[Any], Any]:
    """Return a function from a batch of inputs to NumPy outputs, in inference mode."""

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def run(inputs: Any) -> Any:
        return model(inputs, training=False)

    def predict(inputs: Any) -> Any:
        tensors = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        outputs = tf.nest.map_structure(lambda tensor: tensor.numpy(), run(tensors))
        flat = tf.nest.flatten(outputs)
        return flat[0] if len(flat) == 1 else outputs

    return predict


def row_scores(model: Model, split: Split, metric: Metric) -> npt.NDArray[np.float64]:
    """Return what each row of a split adds to a metric, in order; see ``Metric.rows``.

    Args:
        model: A model with one output.
        split: Labelled examples.
        metric: How a row is scored.

    Raises:
        VerificationError: If the model's outputs are not finite.
    """
    predict = predictor(model)
    scores = []
    for inputs, labels in split.numpy_batches(EVALUATION_BATCH):
        outputs = predict(inputs)
        if not np.isfinite(outputs).all():
            raise VerificationError(
                f"Model {model.name!r} gives outputs that are not finite on evaluation data."
            )
        scores.append(metric.rows(outputs, np.asarray(labels)))
    return np.concatenate(scores)
