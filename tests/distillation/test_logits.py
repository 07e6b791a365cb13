from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.distillation.logits import as_logits, endings, form_of
from tfopt.errors import InputError, ModelError
from tfopt.keras2.core import keras

L = keras.layers
SOFT = tf.nn.softmax(np.random.default_rng(0).normal(size=(6, 4))).numpy()


@pytest.mark.parametrize(
    ("tail", "ending"),
    [
        ([L.Dense(4)], "linear"),
        ([L.Dense(4, activation="softmax")], "softmax"),
        ([L.Dense(4), L.Softmax()], "softmax"),
        ([L.Dense(4), L.Activation("softmax"), L.Reshape((2, 2))], "softmax"),
        ([L.Dense(4, activation="sigmoid"), L.Activation("linear")], "sigmoid"),
        ([L.Dense(4, activation="relu")], "unknown"),
        ([keras.Sequential([keras.Input((3,)), L.Dense(4, activation="softmax")])], "softmax"),
        ([L.Reshape((1, 3)), L.TimeDistributed(L.Dense(4, activation="softmax"))], "softmax"),
    ],
)
def test_the_last_layer(tail: list[Any], ending: str) -> None:
    model = keras.Sequential([keras.Input((3,)), *tail])
    assert list(endings(model).values()) == [ending]


def test_the_numbers_decide_where_the_layer_does_not() -> None:
    settings: dict[str, Any] = {"kind": "classes", "stated": None, "what": "x"}
    assert form_of(SOFT, ending="unknown", **settings) == "probabilities"
    assert form_of(np.round(SOFT * 256) / 256, ending="unknown", **settings) == "probabilities"
    assert form_of(SOFT * 2, ending="unknown", **settings) == "logits"
    assert form_of(SOFT - 0.5, ending="unknown", **settings) == "logits"
    assert form_of(np.zeros((2, 4)), ending="linear", **settings) == "logits"
    binary = {**settings, "kind": "binary"}
    assert form_of(SOFT[:, :1], ending="unknown", **binary) == "probabilities"
    assert form_of(SOFT[:, :1], ending="linear", **binary) == "logits"


def test_a_statement_against_the_numbers() -> None:
    with pytest.raises(InputError, match="X is said to give logits"):
        form_of(SOFT, kind="classes", ending="unknown", stated="logits", what="x")
    with pytest.raises(
        InputError, match="X is said to give probabilities, .* are no probabilities"
    ):
        form_of(SOFT - 1, kind="binary", ending="unknown", stated="probabilities", what="x")
    with pytest.raises(ModelError, match="not finite"):
        form_of(SOFT * np.inf, kind="classes", ending="unknown", stated=None, what="x")


def test_logarithms_undo_softmax_and_sigmoid() -> None:
    found = tf.nn.softmax(as_logits(SOFT, kind="classes", form="probabilities"))
    np.testing.assert_allclose(found, SOFT, rtol=1e-5)
    found = tf.sigmoid(as_logits(SOFT, kind="binary", form="probabilities"))
    np.testing.assert_allclose(found, SOFT, rtol=1e-5)
    edges = as_logits(np.array([0.0, 1.0]), kind="binary", form="probabilities")
    assert np.isfinite(edges).all()
