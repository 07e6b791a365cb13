"""A whole split is scored in inference mode, one score a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfopt.data.arrays import ArraySplit
from tfopt.errors import VerificationError
from tfopt.evaluation.metrics import Accuracy, MeanSquaredError
from tfopt.keras2.core import keras
from tfopt.training.predict import EVALUATION_BATCH, predictor, row_scores


def test_every_row_has_a_score_in_order(make_model: Any, make_split: Any) -> None:
    model = make_model(keras.layers.Dropout(0.9))
    split = make_split(EVALUATION_BATCH + 5)
    scores = row_scores(model, split, Accuracy())
    expected = np.argmax(model.predict(split.inputs, verbose=0), -1) == split.labels
    np.testing.assert_array_equal(scores, expected)


def test_outputs_that_are_not_finite_are_named(make_model: Any, make_split: Any) -> None:
    model = make_model()
    model.get_layer("logits").bias.assign([0.0, np.inf, 0.0])
    with pytest.raises(VerificationError, match="outputs that are not finite"):
        row_scores(model, make_split(), Accuracy())


def test_several_inputs_of_other_types() -> None:
    left, right = keras.Input((2,), name="left"), keras.Input((2,), name="right")
    model = keras.Model([left, right], keras.layers.Add()([left, right]))
    inputs = (np.ones((3, 2), np.uint8), np.full((3, 2), 2.0))
    np.testing.assert_array_equal(predictor(model)(inputs), np.full((3, 2), 3, np.float32))
    split = ArraySplit(inputs, np.full((3, 2), 2.0, np.float32))
    assert row_scores(model, split, MeanSquaredError()).tolist() == [1.0] * 3


def test_several_outputs_keep_their_structure() -> None:
    inputs = keras.Input((2,))
    model = keras.Model(inputs, {"a": inputs + 1.0, "b": inputs * 2.0})
    outputs = predictor(model)(np.ones((1, 2), np.float32))
    assert {name: values.tolist() for name, values in outputs.items()} == {
        "a": [[2.0, 2.0]],
        "b": [[2.0, 2.0]],
    }
