from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.distillation import (
    CallableTeacher,
    Distiller,
    FeatureLoss,
    SoftTargets,
    TeacherCache,
    Views,
    cache_teacher,
)
from tfopt.distillation import cache as module
from tfopt.errors import DataError, InputError
from tfopt.keras2.core import Model, keras

Maker = Callable[..., Model]
Rows = tuple[np.ndarray, np.ndarray]


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHARD_ROWS", 10)  # 24 rows: shards of 10, 10 and 4


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.shard"))


def outputs(cache: TeacherCache) -> np.ndarray:
    return np.concatenate([next(iter(taught[0].outputs.values())) for _, _, taught in cache])


def losses_of(distiller: Distiller, data: Any, *more: Any) -> dict[str, float]:
    return distiller.evaluate(data, *more, verbose=0, return_dict=True)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_student_learns_from_it_as_from_the_teacher(
    dense: Maker, rows: Rows, tmp_path: Path, logits_loss: Any, dtype: Any
) -> None:
    teacher, results = dense(8), []
    first = dense(3).get_weights()
    cache = cache_teacher(teacher, rows, tmp_path, dtype=dtype, batch_size=7, features=["hidden"])
    plain = tf.data.Dataset.from_tensor_slices(rows).batch(7)
    losses = [SoftTargets(), FeatureLoss("hidden", "hidden", projection=True)]
    for data in (plain, cache.dataset(shuffle=False)):
        keras.utils.set_random_seed(0)
        student = dense(3)
        student.set_weights(first)
        distiller = Distiller(student, teacher, losses=losses)
        distiller.compile(keras.optimizers.SGD(0.1), logits_loss)
        distiller.fit(data, epochs=2, verbose=0)
        results.append(student.get_weights())
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6 if dtype == "float32" else 2e-3)
    x, y, taught = next(iter(cache))
    np.testing.assert_array_equal(x, rows[0][:7])
    np.testing.assert_array_equal(y, rows[1][:7])
    assert taught[0].outputs["out"].dtype == np.float32


def test_the_teacher_runs_once(rows: Rows, dense: Maker, tmp_path: Path) -> None:
    seen = []

    def teach(x: Any) -> Any:
        seen.append(len(x))
        return np.asarray(x)[:, :4] * 3

    teacher = CallableTeacher(teach, key="1")
    cache = cache_teacher(teacher, rows[0], tmp_path, batch_size=6)
    assert cache.computed_rows == sum(seen) == 24
    distiller = Distiller(dense(3))
    distiller.compile("sgd")
    distiller.fit(cache.dataset(), epochs=3, verbose=0)
    assert sum(seen) == 24
    assert cache_teacher(teacher, rows[0], tmp_path).computed_rows == 0
    assert sum(seen) == 24


def test_a_killed_run_goes_on_where_it_stopped(rows: Rows, tmp_path: Path) -> None:
    calls = []

    def teach(x: Any) -> Any:
        calls.append(len(x))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return np.asarray(x)[:, :4]

    with pytest.raises(KeyboardInterrupt):
        cache_teacher(CallableTeacher(teach, key="1"), rows[0], tmp_path)
    (tmp_path / ".0.abcd.partial.shard").write_bytes(b"what a kill leaves")
    assert len(shards(tmp_path)) == 2  # one whole, and the rest of a write
    cache = cache_teacher(CallableTeacher(teach, key="1"), rows[0], tmp_path)
    assert cache.computed_rows == 14
    assert len(shards(tmp_path)) == 3
    np.testing.assert_array_equal(outputs(cache), rows[0][:, :4])


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_shard_is_computed_again(
    rows: Rows, dense: Maker, tmp_path: Path, caplog: Any, damage: str
) -> None:
    teacher = dense(8)
    wanted = outputs(cache_teacher(teacher, rows[0], tmp_path))
    path = shards(tmp_path)[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"flip": content, "cut": content[:-9], "empty": b""}[damage])
    with caplog.at_level(logging.WARNING, logger="tfopt"):
        cache = cache_teacher(teacher, rows[0], tmp_path)
    assert "is damaged; its rows are computed again" in caplog.text
    assert cache.computed_rows in (4, 10)
    np.testing.assert_array_equal(outputs(cache), wanted)
    assert cache_teacher(teacher, rows[0], tmp_path).computed_rows == 0


def test_another_teacher_other_rows_and_another_format_are_not_mixed_up(
    rows: Rows, dense: Maker, tmp_path: Path
) -> None:
    x, _ = rows
    teacher = dense(8)
    cache_teacher(teacher, x, tmp_path)
    other = x.copy()
    other[3, 0] += 1  # in the first shard only
    assert cache_teacher(teacher, other, tmp_path).computed_rows == 10
    assert cache_teacher(teacher, x, tmp_path, dtype="float16").computed_rows == 24
    assert cache_teacher(teacher, x, tmp_path, features=["hidden"]).computed_rows == 24
    teacher.weights[0].assign(teacher.weights[0] * 1.01)
    assert cache_teacher(teacher, x, tmp_path).computed_rows == 24
    np.testing.assert_allclose(
        outputs(cache_teacher(teacher, x, tmp_path)), teacher(x).numpy(), atol=1e-6
    )


def test_the_cache_of_another_teacher_is_refused(rows: Rows, dense: Maker, tmp_path: Path) -> None:
    cache = cache_teacher(dense(8), rows[0], tmp_path)
    distiller = Distiller(dense(3), dense(8))
    distiller.compile("sgd")
    with pytest.raises(InputError, match="cached outputs are not those of the teacher"):
        distiller.fit(cache.dataset(), verbose=0)


def test_a_feature_that_was_not_cached(rows: Rows, dense: Maker, tmp_path: Path) -> None:
    teacher = dense(3)
    cache = cache_teacher(teacher, rows[0], tmp_path)
    distiller = Distiller(dense(3), teacher, losses=FeatureLoss("hidden", "hidden"))
    distiller.compile("sgd")
    with pytest.raises(InputError, match=r"no feature 'hidden'.*features=\['hidden'\]"):
        distiller.fit(cache.dataset(), verbose=0)


def noisy(row: Any, seed: Any) -> Any:
    return row + tf.random.stateless_normal(tf.shape(row), seed)


def test_the_student_sees_the_views_that_the_teacher_saw(
    rows: Rows, dense: Maker, tmp_path: Path
) -> None:
    teacher = dense(8)
    cache = cache_teacher(teacher, rows, tmp_path, views=Views(noisy, count=3))
    assert cache.computed_rows == 72
    kinds = set()
    for batch, _ in cache.dataset(24, seed=1).repeat(4):
        found = batch.teachers[0].outputs["out"]
        np.testing.assert_allclose(found, teacher(batch.inputs), atol=1e-5)
        kinds |= {np.round(row[0], 4) for row in batch.inputs.numpy()}
    assert 48 < len(kinds) <= 72
    again = cache_teacher(teacher, rows, tmp_path, views=Views(noisy, count=3))
    assert again.computed_rows == 0
    assert cache_teacher(teacher, rows, tmp_path, views=Views(noisy, 1, seed=5)).computed_rows == 24


def test_an_augmentation_that_ignores_its_seed_is_refused(
    rows: Rows, dense: Maker, tmp_path: Path
) -> None:
    views = Views(lambda row, seed: row + tf.random.normal(tf.shape(row)))
    with pytest.raises(InputError, match="another result each time.*stateless"):
        cache_teacher(dense(8), rows, tmp_path, views=views)


def test_a_dataset_with_weights(rows: Rows, dense: Maker, tmp_path: Path, logits_loss: Any) -> None:
    weight = np.linspace(0, 1, 24).astype(np.float32)
    teacher = dense(8)
    data = tf.data.Dataset.from_tensor_slices((*rows, weight)).batch(5)
    cache = cache_teacher(teacher, data, tmp_path)
    distiller = Distiller(dense(3), teacher)
    distiller.compile("sgd", logits_loss)
    found = losses_of(distiller, cache.dataset(24))
    wanted = distiller.evaluate(*rows, sample_weight=weight, verbose=0, return_dict=True)
    assert found == {name: pytest.approx(value, rel=1e-4) for name, value in wanted.items()}
    distiller.fit(
        cache.dataset(24).map(lambda x, y, w: (x, y)),
        class_weight={0: 2, 1: 1, 2: 1, 3: 0},
        verbose=0,
    )
    assert distiller.predict(cache.dataset(24), verbose=0).shape == (24, 4)


def test_several_teachers_and_inputs_with_names(tmp_path: Path) -> None:
    def make(width: int) -> Model:
        inputs = {"a": keras.Input((3,), name="a"), "b": keras.Input((2,), name="b")}
        joined = keras.layers.Concatenate()([inputs["a"], inputs["b"]])
        return keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Dense(width)(joined)))

    x = {"a": np.ones((9, 3), np.float32), "b": np.arange(18.0).reshape(9, 2)}
    teachers = [make(3), make(5)]
    cache = cache_teacher(teachers, (x,), tmp_path)
    distiller = Distiller(make(2), teachers, teacher_weights=[1, 2])
    distiller.compile("sgd")
    wanted = losses_of(distiller, x)["loss"]
    assert losses_of(distiller, cache.dataset())["loss"] == pytest.approx(wanted, rel=1e-5)


def test_bad_calls(rows: Rows, dense: Maker, tmp_path: Path) -> None:
    x, y = rows
    endless = tf.data.Dataset.from_tensor_slices(x).batch(4).repeat()
    for data, message in (
        (x[:0], "has no rows"),
        ((x, y[:5]), "differ in their rows"),
        (endless, "is endless"),
        (tf.data.Dataset.from_tensor_slices(x).take(0), "has no rows"),
    ):
        with pytest.raises(DataError, match=message):
            cache_teacher(dense(3), data, tmp_path)
    for settings, message in (
        ({"dtype": "int8"}, "dtype must be"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ):
        with pytest.raises(InputError, match=message):
            cache_teacher(dense(3), x, tmp_path, **settings)
    with pytest.raises(InputError, match="key="):
        cache_teacher(lambda x: x, x, tmp_path)
    big = CallableTeacher(lambda x: np.asarray(x) * 1e6, key="big")
    with pytest.raises(DataError, match="beyond float16. Use dtype='float32'"):
        cache_teacher(big, x, tmp_path, dtype="float16")
    broken = CallableTeacher(lambda x: np.asarray(x) * np.nan, key="nan")
    with pytest.raises(DataError, match="not finite"):
        cache_teacher(broken, x, tmp_path)
