from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.distillation import Distiller, SoftTargets
from tfopt.distillation.soft_targets import loss_name, soft_target_loss
from tfopt.errors import InputError, ModelError
from tfopt.keras2.core import Model, keras

L = keras.layers
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(16, 6)).astype(np.float32)


def one(units: int, activation: Any = None) -> Model:
    return keras.Sequential([keras.Input((6,)), L.Dense(units, activation=activation)])


def test_the_binary_form_is_the_one_of_two_classes() -> None:
    student, teacher = RANDOM.normal(size=(2, 5, 1)).astype(np.float32)
    pairs = [tf.constant(np.concatenate([np.zeros_like(a), a], -1)) for a in (student, teacher)]
    one_unit = soft_target_loss(
        tf.constant(student), tf.constant(teacher), kind="binary", temperature=3.0
    )
    two_units = soft_target_loss(*pairs, kind="classes", temperature=3.0)
    np.testing.assert_allclose(one_unit, two_units, rtol=1e-4, atol=1e-6)


def test_the_gradient_does_not_shrink_with_temperature() -> None:
    logits = tf.constant(RANDOM.normal(size=(4, 5)), tf.float32)
    sizes = []
    for temperature in (10.0, 100.0):
        student = tf.Variable(tf.zeros((4, 5)))
        with tf.GradientTape() as tape:
            loss = soft_target_loss(student, logits, kind="classes", temperature=temperature)
        sizes.append(float(tf.norm(tape.gradient(loss, student))))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


def test_extreme_outputs_stay_finite() -> None:
    sure = keras.Sequential([keras.Input((6,)), L.Dense(3), L.Rescaling(1e4), L.Softmax()])
    for student, teacher in ((one(3, "softmax"), sure), (sure, one(3))):
        distiller = Distiller(student, teacher)
        distiller.compile(keras.optimizers.SGD(0.1))
        assert np.isfinite(distiller.fit(X, epochs=2, verbose=0).history["loss"]).all()
        assert all(np.isfinite(w).all() for w in student.get_weights())


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_sigmoid_is_seen_on_either_side(side: str) -> None:
    plain = one(1), one(1)
    squashed = [one(1, "sigmoid"), one(1, "sigmoid")]
    for a, b in zip(plain, squashed, strict=True):
        b.set_weights(a.get_weights())
    found = []
    for pair in (plain, (squashed[0], plain[1]) if side == "student" else (plain[0], squashed[1])):
        distiller = Distiller(*pair, losses=SoftTargets(2.0, kind="binary"))
        distiller.compile("sgd")
        found.append(distiller.evaluate(X, verbose=0))
    assert found[0] == pytest.approx(found[1], rel=1e-3)
    distiller = Distiller(one(1, "sigmoid"), one(1))  # the kind is read off the sigmoid
    distiller.compile("sgd", "binary_crossentropy")
    distiller.fit(X, np.arange(16) % 2, verbose=0)


def test_numbers_are_compared_as_they_are() -> None:
    student, teacher = one(2), one(2)
    distiller = Distiller(student, teacher, alpha=0.0)
    distiller.compile("sgd", "mse")
    found = distiller.evaluate(X, np.zeros((16, 2)), verbose=0, return_dict=True)
    wanted = float(np.mean((student(X).numpy() - teacher(X).numpy()) ** 2))
    assert found["soft_targets"] == found["loss"] == pytest.approx(wanted, rel=1e-5)


def test_one_unit_is_not_guessed() -> None:
    distiller = Distiller(one(1), one(1))
    distiller.compile("sgd")
    with pytest.raises(InputError, match="logit of a class or a number.*kind='binary'"):
        distiller.fit(X, verbose=0)
    distiller = Distiller(one(1), one(1), losses=SoftTargets(kind="classes"))
    distiller.compile("sgd")
    with pytest.raises(InputError, match="a softmax over one is always 1"):
        distiller.fit(X, verbose=0)
    distiller = Distiller(one(1, "softmax"), one(1))
    distiller.compile("sgd")
    with pytest.raises(ModelError, match="ends in a softmax over one unit"):
        distiller.fit(X, verbose=0)


def test_a_column_is_no_flat_row() -> None:
    distiller = Distiller(one(1), lambda x: np.zeros(len(x)), losses=SoftTargets(kind="numbers"))
    distiller.compile("sgd")
    with pytest.raises(ModelError, match=r"\(rows, 1\), but .*\(rows\)"):
        distiller.fit(X, verbose=0)


def test_outputs_that_are_not_finite() -> None:
    distiller = Distiller(one(3), lambda x: np.full((len(x), 3), np.nan, np.float32))
    distiller.compile("sgd")
    with pytest.raises(ModelError, match="not finite on the first batch"):
        distiller.fit(X, verbose=0)


def test_names_of_losses() -> None:
    assert loss_name("mse") == loss_name(keras.losses.MeanSquaredError(name="x"))
    assert loss_name("mse") == "mean_squared_error"
    assert loss_name(None) == ""
