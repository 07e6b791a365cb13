from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.distillation import (
    AttentionLoss,
    ContrastiveLoss,
    CosineLoss,
    Distiller,
    FeatureLoss,
    RelationLoss,
)
from tfopt.distillation.feature_losses import contrast, log_relations
from tfopt.errors import InputError, ModelError
from tfopt.keras2.core import Model, keras

L = keras.layers
Maker = Callable[..., Model]
Rows = tuple[np.ndarray, np.ndarray]


def part(student: Model, teacher: Model, loss: Any, x: Any) -> float:
    distiller = Distiller(student, teacher, losses=loss)
    distiller.compile("sgd")
    return float(distiller.evaluate(x, verbose=0, return_dict=True)[loss.label])


def inner(model: Model, layer: str, x: Any) -> np.ndarray:
    return keras.Model(model.input, model.get_layer(layer).output)(x).numpy().astype(np.float64)


def test_values_are_those_of_the_papers(convolution: Maker, images: Rows) -> None:
    x, _ = images
    student, teacher = convolution(4), convolution(4)
    ours, theirs = inner(student, "relu", x), inner(teacher, "relu", x)
    squares = ((ours - theirs) ** 2).mean()
    assert part(student, teacher, FeatureLoss("relu", "relu"), x) == pytest.approx(
        squares, rel=1e-4
    )
    maps = [(a**2).mean(-1).reshape(len(x), -1) for a in (ours, theirs)]
    maps = [m / np.linalg.norm(m, axis=1, keepdims=True) for m in maps]
    wanted = ((maps[0] - maps[1]) ** 2).sum(1).mean()
    assert part(student, teacher, AttentionLoss("relu", "relu"), x) == pytest.approx(
        wanted, rel=1e-4
    )
    pools = inner(student, "pool", x), inner(teacher, "pool", x)
    units = [p / np.linalg.norm(p, axis=1, keepdims=True) for p in pools]
    cosine = 1 - (units[0] * units[1]).sum(1).mean()
    assert part(student, teacher, CosineLoss("pool", "pool"), x) == pytest.approx(cosine, rel=1e-3)
    scores = units[0] @ units[1].T / 0.5
    nce = np.mean(np.log(np.exp(scores).sum(1)) - np.diag(scores))
    loss = ContrastiveLoss("pool", "pool", temperature=0.5)
    assert part(student, teacher, loss, x) == pytest.approx(nce, rel=1e-4)


def test_a_projection_is_learned(convolution: Maker, images: Rows) -> None:
    losses = FeatureLoss("relu", "relu", projection=True)
    distiller = Distiller(convolution(2), convolution(6), losses=losses)
    distiller.compile(keras.optimizers.Adam(0.02))
    history = distiller.fit(images[0], epochs=8, verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]
    names = [v.name for v in distiller.trainable_variables]
    assert "feature_relu_projection/kernel:0" in names
    assert len(distiller.student.trainable_variables) == len(names) - 2


def test_relations_are_softmaxes_of_positions() -> None:
    tensor = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    found = tf.exp(log_relations(tensor, heads=2, mask=np.array([[1, 1, 0], [1, 1, 1]]))).numpy()
    assert found.shape == (2, 2, 3, 3)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(found[0, :, :, 2], 0)
    scores = tensor[1, :, 2:] @ tensor[1, :, 2:].T / np.sqrt(2)
    wanted = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(found[1, 1], wanted, rtol=1e-4)


def encoder(width: int, positions: int = 5) -> Model:
    inputs = keras.Input((positions, 3))
    query, key = L.Dense(width, name="query")(inputs), L.Dense(width, name="key")(inputs)
    return keras.Model(inputs, L.Dense(4)(L.Add()([query, key])))


def test_relations_teach_across_widths() -> None:
    x = np.random.default_rng(0).normal(size=(16, 5, 3)).astype(np.float32)
    losses = RelationLoss(["query", "key"], ["query", "key"], heads=2)
    distiller = Distiller(encoder(4), encoder(8), losses=losses)
    distiller.compile(keras.optimizers.Adam(0.02))
    history = distiller.fit(x, epochs=15, verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (RelationLoss(["query"], ["query"], heads=3), "Widths must be multiples of heads=3"),
        (RelationLoss(["query"], ["query"], heads=2, of_teacher=1), "asks for teacher 1"),
        (AttentionLoss("query", "query", projection=True), "need no projection"),
        (CosineLoss("query", "query"), "projection=True"),
    ],
)
def test_what_does_not_fit(loss: Any, message: str) -> None:
    distiller = Distiller(encoder(4), [encoder(8)], losses=loss) if not loss.of_teacher else None
    if distiller is None:
        distiller = Distiller(encoder(4), encoder(8), losses=loss)
    distiller.compile("sgd")
    with pytest.raises((InputError, ModelError), match=message):
        distiller.fit(np.ones((2, 5, 3), np.float32), verbose=0)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(InputError, match="as many tensors of the student"):
        RelationLoss(["a"], ["a", "b"], heads=1)
    with pytest.raises(InputError, match="each a list of names"):
        RelationLoss("a", "b", heads=1)
    with pytest.raises(InputError, match="heads >= 1"):
        RelationLoss(["a"], ["a"], heads=0)
    with pytest.raises(InputError, match="temperature must be above 0"):
        ContrastiveLoss("a", "b", temperature=0)


def test_the_contrast_of_equal_rows_is_the_logarithm_of_their_number() -> None:
    same = tf.ones((8, 3))
    np.testing.assert_allclose(contrast(same, same, 0.1), np.log(8), rtol=1e-5)
