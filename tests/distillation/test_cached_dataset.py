"""Texts with cached teachers keep their buckets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfopt.config.schema import Augment
from tfopt.data.epochs import EpochPlan
from tfopt.data.text.batches import TokenSplit, token_inputs
from tfopt.distillation.cached_dataset import TaughtRows, TaughtTokens, cached_rows, token_axes
from tfopt.distillation.teachers import CallableTeacher, KerasTeacher
from tfopt.keras2.core import keras

L = keras.layers
ROWS, TOKENS = 45, 12


def texts(*, lengths: tuple[int, ...] = (4, 8, TOKENS), by_token: bool = False) -> TokenSplit:
    draws = np.random.default_rng(0)
    ids = draws.integers(0, 30, (ROWS, TOKENS)).astype(np.int32)
    ids[:, 0] = np.arange(ROWS)
    inputs = token_inputs(ids, draws.integers(1, TOKENS + 1, ROWS), None, padding_id=ROWS)
    labels = np.where(inputs["attention_mask"] == 1, ids, -100)
    return TokenSplit(
        inputs, labels if by_token else ids[:, 0], lengths=lengths, labels_by_token=by_token
    )


def teacher_of(tokens: int | None = None) -> KerasTeacher:
    """Return a teacher whose widths and heads are as many as the tokens of the longest text."""
    ids = keras.Input((tokens,), dtype="int32", name="input_ids")
    mask = keras.Input((tokens,), dtype="int32", name="attention_mask")
    hidden = L.Embedding(ROWS + 1, TOKENS, mask_zero=False, name="hidden")(ids)
    scores = L.Dot(2, name="scores")([hidden, hidden])
    real = L.Reshape((-1, 1))(L.Rescaling(1.0, dtype="float32")(mask))
    pooled = L.GlobalAveragePooling1D(name="pooled")(hidden * real)
    model = keras.Model([ids, mask], [hidden, scores, L.Dense(TOKENS, name="out")(pooled)])
    return KerasTeacher(model, ["scores"])


def batches(rows: Any, *, first: int = 0, last: int = 2) -> list[Any]:
    made = rows.training_batches(
        EpochPlan(batch_size=8, seed=3, first_epoch=first, epochs=last, augment=Augment())
    )
    return list(made.as_numpy_iterator())


def cached(split: TokenSplit, teachers: Any, folder: Path) -> TaughtRows:
    return cached_rows(split, teachers, folder, dtype="float32", views=1, augment=Augment(), seed=0)


@pytest.mark.parametrize("by_token", [False, True])
def test_batches_are_those_without_a_cache(by_token: bool, tmp_path: Path) -> None:
    split, teacher = texts(by_token=by_token), teacher_of()
    rows = cached(split, [teacher], tmp_path)
    assert isinstance(rows, TaughtTokens)
    found, plain = batches(rows), batches(split)
    assert {inputs["input_ids"].shape[1] for inputs, _ in plain} == {4, 8, TOKENS}
    for (taught, labels), (inputs, same) in zip(found, plain, strict=True):
        np.testing.assert_array_equal(labels, same)
        for name, array in inputs.items():
            np.testing.assert_array_equal(taught.inputs[name], array)
        outputs, features = teacher(inputs)
        assert list(outputs) == ["hidden", "scores", "out"]
        assert taught.teachers[0].outputs["out"].shape == (len(labels), TOKENS)
        for name in ("hidden", "scores"):
            np.testing.assert_allclose(
                taught.teachers[0].outputs[name], outputs[name], rtol=1e-5, atol=1e-6
            )
        assert taught.teachers[0].features["scores"].shape == features["scores"].shape
    resumed = batches(rows, first=1)
    for (taught, _), (again, _) in zip(found[len(resumed) :], resumed, strict=True):
        np.testing.assert_array_equal(taught.inputs["input_ids"], again.inputs["input_ids"])


def test_the_axes_of_tokens_are_told_from_equal_widths() -> None:
    # In the order of tf.nest.flatten: outputs hidden, out, scores by name, then the feature.
    assert token_axes([teacher_of()], texts()) == ((1,), (), (1, 2), (1, 2))


def test_rows_stay_whole_where_a_teacher_takes_one_length(tmp_path: Path) -> None:
    fixed = teacher_of(TOKENS)
    assert type(cached(texts(), [fixed], tmp_path)) is TaughtRows
    outside = CallableTeacher(lambda inputs: inputs["input_ids"] * 1.0, key="outside")
    assert token_axes([teacher_of(), outside], texts()) is None
    assert token_axes([teacher_of()], texts(lengths=(TOKENS,))) is None
    pair = [keras.Input((None,), name=name) for name in ("attention_mask", "input_ids")]
    both = L.Concatenate()([L.Reshape((-1, 1))(one) for one in pair])
    halved = keras.Model(pair, L.MaxPooling1D(2)(both))
    assert token_axes([KerasTeacher(halved)], texts()) is None
