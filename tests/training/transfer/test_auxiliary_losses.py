from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from tfopt.errors import InputError
from tfopt.keras2.core import Model, keras
from tfopt.training.transfer.auxiliary_losses import half_squares
from tfopt.training.transfer.fine_tune import Trained

Train = Callable[..., Trained]


def test_the_term_and_its_gradient() -> None:
    variable = tf.Variable([1.0, 4.0])
    term = half_squares([(variable, np.array([0.0, 2.0], np.float32))], 0.5)
    with tf.GradientTape() as tape:
        value = term(None)
    assert float(value) == 0.25 * (1 + 4)
    np.testing.assert_allclose(tape.gradient(value, variable), [0.5, 1.0])


def test_the_loss_is_the_sum_of_its_parts(train: Train, make_conv: Callable[..., Model]) -> None:
    keep = {"l2_sp": 0.3, "head_l2": 0.1}
    history = train(make_conv(), {"keep_pretrained": keep}, judged=True).history
    parts = [np.array(history[f"{name}_loss"]) for name in ("fine_tune", "l2_sp", "head_l2")]
    np.testing.assert_allclose(history["loss"], sum(parts), rtol=1e-5)
    assert all((part > 0).all() for part in parts)
    assert "val_l2_sp_loss" not in history
    assert all(value > 0 for value in history["val_loss"])


def test_a_strong_pull_keeps_the_model_near_its_start(
    train: Train, make_conv: Callable[..., Model]
) -> None:
    distances = []
    for strength in (1e-6, 10.0):
        keep = {"l2_sp": strength, "layers": "conv*"}
        settings = {"optimizer": "sgd", "learning_rate": 0.05, "epochs": 3}
        found = train(make_conv(), {"keep_pretrained": keep}, train=settings)
        rows = {entry.layer: entry.values["distance"] for entry in found.measured.layers}
        distances.append((rows["conv1"], rows["logits"]))
    assert distances[1][0] < 0.5 * distances[0][0]
    assert distances[1][1] > 0.5 * distances[0][1]


def test_a_pull_of_nothing(train: Train, make_conv: Callable[..., Model]) -> None:
    with pytest.raises(InputError, match="no kernel outside of the head trains"):
        train(make_conv(), {"freeze": "backbone", "keep_pretrained": {"l2_sp": 0.1}})


def test_mixed_precision_and_half_of_the_model(
    train: Train, make_conv: Callable[..., Model]
) -> None:
    from tfopt.keras2 import graph

    copied, _ = graph.twin(make_conv(), dtype="mixed_float16")
    transfer = {"keep_pretrained": {"l2_sp": 0.1}, "layer_decay": 0.5}
    history = train(copied, transfer, train={"precision": "mixed_float16"}).history
    assert np.isfinite(history["loss"]).all()
    keras.backend.clear_session()
