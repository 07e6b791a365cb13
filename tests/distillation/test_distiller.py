from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf

import tfopt
from tfopt.compression.base import StepContext
from tfopt.compression.layers.masked import PrunedLayer
from tfopt.compression.layers.quantized import SchemedLayer
from tfopt.compression.pruning.magnitude import Prune
from tfopt.compression.quantization.qat import Quantize
from tfopt.config.schema import PruneStep, QuantizeStep
from tfopt.distillation import (
    AttentionLoss,
    ContrastiveLoss,
    CosineLoss,
    Distiller,
    FeatureLoss,
    LinearSchedule,
    RelationLoss,
    SoftTargets,
    snapshot,
)
from tfopt.errors import DataError, InputError, ModelError, VerificationError
from tfopt.keras2.core import Model, keras

L = keras.layers
Maker = Callable[..., Model]
Rows = tuple[np.ndarray, np.ndarray]

FEATURES = [
    FeatureLoss("relu", "relu", projection=True),
    CosineLoss("pool", "pool", projection=True),
    AttentionLoss("relu", "relu"),
    ContrastiveLoss("pool", "pool", projection=True),
]


def values(distiller: Distiller, x: Any, y: Any = None, **settings: Any) -> dict[str, float]:
    return distiller.evaluate(x, y, verbose=0, return_dict=True, **settings)


def kl(teacher: np.ndarray, student: np.ndarray, temperature: float) -> float:
    soft = [tf.nn.softmax(a / temperature).numpy().astype(np.float64) for a in (teacher, student)]
    return float((soft[0] * np.log(soft[0] / soft[1])).sum(-1).mean() * temperature**2)


def test_it_is_offered_by_tfopt() -> None:
    assert tfopt.Distiller is Distiller
    assert issubclass(tfopt.Distiller, keras.Model)


def test_the_loss_is_the_one_of_hinton(dense: Maker, rows: Rows, logits_loss: Any) -> None:
    x, y = rows
    student, teacher = dense(3), dense(8)
    distiller = Distiller(student, teacher, losses=SoftTargets(3.0), alpha=0.25)
    distiller.compile("sgd", logits_loss)
    found = values(distiller, x, y)
    soft = kl(teacher(x).numpy(), student(x).numpy(), 3.0)
    hard = float(logits_loss(y, student(x)))
    assert found["soft_targets"] == pytest.approx(soft, rel=1e-4)
    assert found["student_loss"] == pytest.approx(hard, rel=1e-5)
    assert found["loss"] == pytest.approx(0.25 * hard + 0.75 * soft, rel=1e-5)


def test_training_brings_the_student_to_the_teacher(dense: Maker, rows: Rows) -> None:
    distiller = Distiller(dense(8), dense(8), losses=SoftTargets(2.0))
    distiller.compile(keras.optimizers.Adam(0.02))
    history = distiller.fit(rows[0], epochs=60, verbose=0).history
    assert history["loss"][-1] < 0.05 * history["loss"][0]
    # Without labels there are no numbers of labels.
    assert set(history) == {"loss", "soft_targets"}


@pytest.mark.parametrize("side", ["student", "teacher", "both"])
def test_probabilities_are_no_double_softmax(dense: Maker, rows: Rows, side: str) -> None:
    x, _ = rows
    weights = dense(3).get_weights(), dense(8).get_weights()
    steps = []
    for is_plain in (True, False):
        student = dense(3, activation="softmax" if side != "teacher" and not is_plain else None)
        teacher = dense(8, activation="softmax" if side != "student" and not is_plain else None)
        student.set_weights(weights[0])
        teacher.set_weights(weights[1])
        distiller = Distiller(student, teacher, losses=SoftTargets(2.0))
        distiller.compile(keras.optimizers.SGD(0.5))
        distiller.fit(x, verbose=0, batch_size=24)
        steps.append(student.get_weights())
    for one, other in zip(*steps, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert np.abs(steps[0][0] - weights[0][0]).max() > 1e-3, "nothing was learned"


def test_a_softmax_in_a_lambda_is_seen_by_its_numbers(dense: Maker, rows: Rows) -> None:
    x, _ = rows
    student, teacher = dense(3), dense(8)
    hidden = keras.Model(
        teacher.input, L.Lambda(lambda t: tf.exp(tf.nn.log_softmax(t)))(teacher.output)
    )
    found = []
    for one in (teacher, hidden):
        distiller = Distiller(student, one)
        distiller.compile("sgd")
        found.append(values(distiller, x)["loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_a_stated_form_that_is_not_so_is_refused(dense: Maker, rows: Rows) -> None:
    distiller = Distiller(
        dense(3), dense(8, activation="softmax"), losses=SoftTargets(teacher_form="logits")
    )
    distiller.compile("sgd")
    with pytest.raises(InputError, match="said to give logits, but .* sum to 1"):
        distiller.fit(rows[0], verbose=0)


@pytest.mark.parametrize(("activation", "from_logits"), [("softmax", True), (None, False)])
def test_a_hard_loss_of_the_other_form_is_refused(
    dense: Maker, rows: Rows, activation: str | None, from_logits: bool
) -> None:
    student = dense(3, activation=activation)
    before = student.get_weights()
    distiller = Distiller(student, dense(8))
    distiller.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits))
    with pytest.raises(ModelError, match=f"from_logits={from_logits}"):
        distiller.fit(*rows, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, student.get_weights(), strict=True))


def test_other_class_counts_name_both(dense: Maker, rows: Rows) -> None:
    distiller = Distiller(dense(3, units=4), dense(8, units=5))
    distiller.compile("sgd")
    with pytest.raises(
        ModelError, match=r"'out' of the student .*\(rows, 4\).*teacher.*\(rows, 5\)"
    ):
        distiller.fit(rows[0], verbose=0)


def test_features_of_another_shape_are_not_broadcast(dense: Maker, rows: Rows) -> None:
    # Width 1 would broadcast without a word.
    distiller = Distiller(dense(1), dense(8), losses=FeatureLoss("hidden", "hidden"))
    distiller.compile("sgd")
    with pytest.raises(ModelError, match=r"\(rows, 1\).*\(rows, 8\).*projection=True"):
        distiller.fit(rows[0], verbose=0)


def test_a_projection_does_not_mend_other_positions(convolution: Maker, images: Rows) -> None:
    losses = FeatureLoss("pool", "relu", projection=True)
    distiller = Distiller(convolution(3), convolution(3), losses=losses)
    distiller.compile("sgd")
    with pytest.raises(ModelError, match="A projection changes the last axis only"):
        distiller.fit(images[0], verbose=0)


def test_a_layer_that_is_not_there_is_named(dense: Maker) -> None:
    with pytest.raises(ModelError, match="student .* has no layer 'hiden'. Did you mean 'hidden'"):
        Distiller(dense(3), dense(8), losses=FeatureLoss("hiden", "hidden"))


def test_the_teacher_stays_as_it_is(convolution: Maker, images: Rows, logits_loss: Any) -> None:
    x, y = images
    teacher = convolution(6)
    teacher.get_layer("conv").trainable = False
    flags = [layer.trainable for layer in teacher.layers]
    before = [w.numpy().copy() for w in teacher.weights]
    distiller = Distiller(convolution(3), teacher, losses=[SoftTargets(), *FEATURES])
    distiller.compile("adam", logits_loss)
    distiller.fit(x, y, epochs=2, verbose=0, batch_size=8)
    distiller.evaluate(x, y, verbose=0)
    assert [layer.trainable for layer in teacher.layers] == flags
    for one, other in zip(before, teacher.weights, strict=True):
        np.testing.assert_array_equal(one, other.numpy())
    mine = {id(w) for w in [*distiller.weights, *distiller.trainable_variables]}
    assert not mine & {id(w) for w in teacher.weights}
    assert teacher.trainable


def test_a_teacher_that_drops_out_does_not(rows: Rows, dense: Maker) -> None:
    inputs = keras.Input((6,))
    teacher = keras.Model(inputs, L.Dense(4)(L.Dropout(0.9)(inputs)))
    distiller = Distiller(dense(3), teacher)
    distiller.compile(keras.optimizers.SGD(0.0))
    found = [distiller.fit(rows[0], verbose=0).history["loss"][0] for _ in range(2)]
    assert found[0] == pytest.approx(values(distiller, rows[0])["loss"], rel=1e-5)
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_a_teacher_that_moves_in_inference_is_refused(images: Rows, convolution: Maker) -> None:
    inputs = keras.Input((8, 8, 2))
    normalized = L.BatchNormalization(name="moving")(inputs, training=True)
    teacher = keras.Model(inputs, L.Dense(4)(L.Flatten()(normalized)))
    distiller = Distiller(convolution(3), teacher)
    distiller.compile("sgd")
    with pytest.raises(ModelError, match="changes 'moving/moving_mean:0'.*training=True"):
        distiller.fit(images[0], verbose=0)


def test_a_teacher_that_something_else_trains_is_noticed(dense: Maker, rows: Rows) -> None:
    teacher = dense(8)

    class Meddle(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            teacher.weights[0].assign_add(teacher.weights[0])

    distiller = Distiller(dense(3), teacher)
    distiller.compile("sgd")
    with pytest.raises(VerificationError, match="changed during fit"):
        distiller.fit(rows[0], verbose=0, callbacks=[Meddle()])


def test_the_student_itself_is_no_teacher_but_its_snapshot_is(dense: Maker, rows: Rows) -> None:
    student = dense(3)
    with pytest.raises(ModelError, match="shares 4 weights with the student.*snapshot"):
        Distiller(student, student)
    distiller = Distiller(student, snapshot(student))
    distiller.compile("sgd")
    assert values(distiller, rows[0])["loss"] == pytest.approx(0, abs=1e-6)


def test_born_again(dense: Maker, rows: Rows) -> None:
    teacher = dense(3)
    for _ in range(2):
        distiller = Distiller(dense(3), teacher)
        distiller.compile("adam")
        distiller.fit(rows[0], verbose=0)
        teacher = distiller.student
    assert isinstance(teacher, keras.Model)


def test_batch_statistics_move_once_a_step_and_never_in_evaluate(
    convolution: Maker, images: Rows, logits_loss: Any
) -> None:
    x, y = images
    student = convolution(3)
    distiller = Distiller(student, convolution(6), losses=[SoftTargets(), *FEATURES])
    distiller.compile(keras.optimizers.SGD(0.0), logits_loss)
    norm = student.get_layer("bn")
    distiller.evaluate(x, y, verbose=0)
    np.testing.assert_array_equal(norm.moving_mean.numpy(), 0)
    distiller.fit(x, y, verbose=0, batch_size=16)
    batch = student.get_layer("conv")(x).numpy().mean(axis=(0, 1, 2))
    np.testing.assert_allclose(norm.moving_mean.numpy(), 0.5 * batch, atol=1e-5)


def test_regularization_is_kept(convolution: Maker, images: Rows) -> None:
    x, _ = images
    student = convolution(3, kernel_regularizer=keras.regularizers.L2(10.0))
    found = {}
    for name, losses in (("outputs", SoftTargets()), ("inside", AttentionLoss("relu", "relu"))):
        distiller = Distiller(student, convolution(6), losses=losses)
        distiller.compile(keras.optimizers.SGD(1e-3))
        parts = values(distiller, x)
        found[name] = parts["loss"] - parts[losses.label]
    wanted = 10 * float(tf.reduce_sum(student.get_layer("conv").kernel ** 2))
    assert wanted > 1
    assert found == {name: pytest.approx(wanted, rel=1e-4) for name in found}
    before = np.abs(student.get_layer("conv").kernel.numpy()).sum()
    distiller.fit(x, epochs=5, verbose=0)
    assert np.abs(student.get_layer("conv").kernel.numpy()).sum() < 0.95 * before


def test_losses_that_were_added_as_tensors_are_kept(rows: Rows, dense: Maker) -> None:
    inputs = keras.Input((6,))
    hidden = L.Dense(3, name="hidden")(inputs)
    student = keras.Model(inputs, L.Dense(4)(hidden))
    student.add_loss(7.0 * tf.reduce_mean(hidden**2))
    losses = FeatureLoss("hidden", "hidden", projection=True)
    distiller = Distiller(student, dense(8), losses=losses)
    distiller.compile("sgd")
    found = values(distiller, rows[0], batch_size=24)
    hidden_values = keras.Model(inputs, hidden)(rows[0]).numpy()
    added = found["loss"] - found["feature_hidden"]
    assert added == pytest.approx(7 * (hidden_values**2).mean(), rel=1e-4)


ALL_LOSSES = [SoftTargets(), *FEATURES[:3]]


@pytest.mark.parametrize("loss", ALL_LOSSES, ids=lambda loss: loss.label)
def test_rows_of_weight_zero_teach_nothing(
    convolution: Maker, images: Rows, logits_loss: Any, loss: Any
) -> None:
    x, y = images
    weight = np.r_[np.ones(8), np.zeros(8)].astype(np.float32)
    other = x.copy()
    other[8:] *= -5
    distiller = Distiller(convolution(3), convolution(6), losses=loss, alpha=0.5)
    distiller.compile("sgd", logits_loss)
    same = [values(distiller, a, y, sample_weight=weight, batch_size=16) for a in (x, other)]
    assert same[0]["loss"] == pytest.approx(same[1]["loss"], rel=1e-5)
    assert same[0][loss.label] == pytest.approx(same[1][loss.label], rel=1e-5)
    double = values(distiller, x, y, sample_weight=2 * weight, batch_size=16)
    assert double["loss"] == pytest.approx(2 * same[0]["loss"], rel=1e-5)
    assert values(distiller, x, y)[loss.label] != pytest.approx(same[0][loss.label], rel=1e-3)


def test_weights_scale_the_contrast_too(convolution: Maker, images: Rows) -> None:
    distiller = Distiller(convolution(3), convolution(6), losses=FEATURES[3])
    distiller.compile("sgd")
    x = tf.data.Dataset.from_tensor_slices(images).batch(16)
    plain = values(distiller, x)["loss"]
    tripled = values(distiller, x.map(lambda a, b: (a, b, 3 * tf.ones(16))))["loss"]
    assert tripled == pytest.approx(3 * plain, rel=1e-5)


def test_class_weights_reach_every_part(dense: Maker, rows: Rows, logits_loss: Any) -> None:
    x, y = rows
    by_class = {0: 0.0, 1: 1.0, 2: 2.0, 3: 5.0}
    found = []
    for given in ({"class_weight": by_class}, {"sample_weight": np.vectorize(by_class.get)(y)}):
        distiller = Distiller(dense(3), dense(8), alpha=0.5)
        distiller.compile(keras.optimizers.SGD(0.0), logits_loss)
        distiller.student.set_weights([np.full(w.shape, 0.1) for w in distiller.student.weights])
        distiller._setup.teachers[0].model.set_weights(
            [
                np.full(w.shape, 0.3) * np.arange(w.shape[-1])
                for w in distiller._setup.teachers[0].model.weights
            ]
        )
        found.append(distiller.fit(x, y, verbose=0, batch_size=24, **given).history)
    assert found[0]["soft_targets"] == pytest.approx(found[1]["soft_targets"], rel=1e-5)
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-5)


def test_several_teachers_with_weights(dense: Maker, rows: Rows) -> None:
    student, first, second = dense(3), dense(8), dense(5)
    found = []
    for teacher, weights in ((first, None), (second, None), ([first, second], [3, 1])):
        distiller = Distiller(student, teacher, teacher_weights=weights)
        distiller.compile("sgd")
        found.append(values(distiller, rows[0])["loss"])
    assert found[2] == pytest.approx(0.75 * found[0] + 0.25 * found[1], rel=1e-5)
    with pytest.raises(InputError, match=r"teacher_weights .* 2 teacher"):
        Distiller(student, [first, second], teacher_weights=[1])
    losses = FeatureLoss("hidden", "hidden", of_teacher=2)
    distiller = Distiller(student, [first, second], losses=losses)
    distiller.compile("sgd")
    with pytest.raises(InputError, match="asks for teacher 2, but there are 2"):
        distiller.fit(rows[0], verbose=0)


def two_heads(width: int, names: tuple[str, str], *, as_dict: bool) -> Model:
    inputs = keras.Input((6,))
    hidden = L.Dense(width)(inputs)
    heads = [L.Dense(4, name=names[0])(hidden), L.Dense(1, name=names[1])(hidden)]
    return keras.Model(inputs, dict(zip(names, heads, strict=True)) if as_dict else heads)


@pytest.mark.parametrize("as_dict", [True, False])
def test_several_outputs(rows: Rows, logits_loss: Any, as_dict: bool) -> None:
    x, y = rows
    student = two_heads(3, ("digit", "size"), as_dict=as_dict)
    teacher = two_heads(8, ("digit", "size"), as_dict=as_dict)
    losses = {"digit": SoftTargets(2.0), "size": SoftTargets(kind="numbers", weight=0.5)}
    distiller = Distiller(student, teacher, losses=losses, alpha=0.5)
    distiller.compile("sgd", {"digit": logits_loss, "size": "mse"}, metrics={"digit": ["accuracy"]})
    labels = {"digit": y, "size": x[:, :1]}
    found = values(distiller, x, labels)
    raw = [
        dict(zip(("digit", "size"), tf.nest.flatten(m(x)), strict=True)) for m in (student, teacher)
    ]
    distance = float(np.mean((raw[0]["size"] - raw[1]["size"]) ** 2))
    assert found["soft_targets_size"] == pytest.approx(distance, rel=1e-4)
    assert {"digit_loss", "size_loss", "digit_accuracy", "soft_targets_digit"} <= set(found)
    hard = found["digit_loss"] + found["size_loss"]
    soft = found["soft_targets_digit"] + 0.5 * distance
    assert found["loss"] == pytest.approx(0.5 * hard + 0.5 * soft, rel=1e-4)
    weights = {"digit": np.zeros(24), "size": np.ones(24)}
    weighted = values(distiller, x, labels, sample_weight=weights)
    assert weighted["soft_targets_digit"] == 0
    assert weighted["soft_targets_size"] == pytest.approx(distance, rel=1e-4)
    distiller.fit(x, labels, verbose=0)


def test_outputs_without_common_names_are_not_guessed(rows: Rows) -> None:
    student = two_heads(3, ("digit", "size"), as_dict=False)
    teacher = two_heads(8, ("a", "b"), as_dict=False)
    distiller = Distiller(student, teacher)
    distiller.compile("sgd")
    with pytest.raises(InputError, match=r"\['digit', 'size'\].*\['a', 'b'\].*teacher_output"):
        distiller.fit(rows[0], verbose=0)
    losses = SoftTargets(output="digit", teacher_output="a")
    distiller = Distiller(student, teacher, losses=losses)
    distiller.compile("sgd")
    distiller.fit(rows[0], verbose=0)


def sequence(width: int, *, units: int = 5) -> Model:
    inputs = keras.Input((None,), dtype="int32")
    x = L.Embedding(
        9,
        width,
        mask_zero=True,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0),
        name="embedding",
    )(inputs)
    x = L.Dense(width, name="query")(x)
    return keras.Model(inputs, L.Dense(units, name="out")(x))


SEQUENCE_LOSSES = [
    SoftTargets(2.0),
    FeatureLoss("query", "query", projection=True),
    CosineLoss("query", "query", projection=True),
    AttentionLoss("query", "query", name="maps"),
    RelationLoss(["query"], ["query"], heads=2),
]


def test_padding_teaches_nothing() -> None:
    x = np.random.default_rng(0).integers(1, 9, (8, 6)).astype(np.int32)
    longer = np.concatenate([x, np.zeros((8, 3), np.int32)], axis=1)
    distiller = Distiller(sequence(4), sequence(8), losses=SEQUENCE_LOSSES)
    distiller.compile("sgd")
    short, padded = values(distiller, x), values(distiller, longer)
    assert set(short) == set(padded)
    for name, value in short.items():
        assert padded[name] == pytest.approx(value, rel=1e-4), name
    per_position = np.zeros((8, 9), np.float32)
    data = tf.data.Dataset.from_tensor_slices((longer, longer, per_position)).batch(8)
    assert values(distiller, data)["soft_targets"] == 0


def test_a_mask_among_the_inputs(rows: Rows) -> None:
    def make(width: int) -> Model:
        inputs = {
            "ids": keras.Input((6,), dtype="int32", name="ids"),
            "real": keras.Input((6,), dtype="int32", name="real"),
        }
        x = L.Embedding(9, width)(inputs["ids"])
        return keras.Model(inputs, L.Dense(5)(x))

    ids = np.random.default_rng(0).integers(1, 9, (8, 6)).astype(np.int32)
    real = np.ones((8, 6), np.int32)
    real[:, 4:] = 0
    other = ids.copy()
    other[:, 4:] = 8
    distiller = Distiller(make(3), make(7), mask="real")
    distiller.compile("sgd")
    found = [values(distiller, {"ids": i, "real": real})["loss"] for i in (ids, other)]
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    distiller = Distiller(make(3), make(7), mask="rael")
    distiller.compile("sgd")
    with pytest.raises(DataError, match="no input 'rael'.*'ids', 'real'"):
        distiller.fit({"ids": ids, "real": real}, verbose=0)


def test_schedules_follow_the_steps(dense: Maker, rows: Rows, logits_loss: Any) -> None:
    x, y = rows
    distiller = Distiller(dense(3), dense(8), alpha=LinearSchedule(1.0, 0.0, steps=3))
    distiller.compile(keras.optimizers.SGD(0.0), logits_loss)
    found = distiller.fit(x, y, epochs=5, batch_size=24, verbose=0).history
    hard, soft = found["student_loss"][0], found["soft_targets"][0]
    wanted = [a * hard + (1 - a) * soft for a in (1, 2 / 3, 1 / 3, 0, 0)]
    assert found["loss"] == pytest.approx(wanted, rel=1e-4)


def test_saving_is_refused_and_the_student_saved(dense: Maker, rows: Rows, tmp_path: Path) -> None:
    distiller = Distiller(dense(3), dense(8))
    distiller.compile("sgd")
    distiller.fit(rows[0], verbose=0)
    for save in (distiller.save, lambda p: keras.models.save_model(distiller, p)):
        with pytest.raises(ModelError, match=r"distiller\.student\.save\(path\)"):
            save(str(tmp_path / "whole.keras"))
    distiller.student.save(tmp_path / "student.keras")
    again = keras.models.load_model(tmp_path / "student.keras")
    np.testing.assert_array_equal(
        again.predict(rows[0], verbose=0), distiller.predict(rows[0], verbose=0)
    )
    distiller.save_weights(str(tmp_path / "weights"))


def test_keras_3_models(rows: Rows) -> None:
    def make(width: int) -> Any:
        layers = [keras3.Input((6,)), keras3.layers.Dense(width), keras3.layers.Dense(4)]
        return keras3.Sequential(layers)

    student, teacher = make(3), make(8)
    distiller = Distiller(student, teacher)
    distiller.compile("sgd")
    assert isinstance(distiller.student, keras.Model)
    wanted = kl(np.asarray(teacher(rows[0])), np.asarray(student(rows[0])), 4.0)
    assert values(distiller, rows[0])["loss"] == pytest.approx(wanted, rel=1e-3)
    distiller.fit(rows[0], verbose=0)
    assert tfopt.to_keras3(distiller.student).count_params() == student.count_params()


def test_a_pruned_student_keeps_its_masks(
    convolution: Maker, images: Rows, logits_loss: Any
) -> None:
    x, y = images
    step = Prune(PruneStep(sparsity=0.75, epochs=4))
    context = StepContext(8, lambda: iter([x]))
    student = step.wrap(convolution(4), context)
    distiller = Distiller(
        student, convolution(6), losses=[SoftTargets(), AttentionLoss("relu", "relu")]
    )
    distiller.compile("adam", logits_loss)
    distiller.fit(x, y, epochs=4, batch_size=8, verbose=0, callbacks=step.callbacks())
    assert step.at_target(distiller.student)
    plain = step.unwrap(distiller.student)
    assert np.mean(plain.get_layer("conv").kernel.numpy() == 0) == pytest.approx(0.75, abs=0.02)
    assert any(isinstance(layer, PrunedLayer) for layer in student.layers)


def test_a_student_in_8_bits_is_distilled(
    convolution: Maker, images: Rows, logits_loss: Any
) -> None:
    x, y = images
    step = Quantize(QuantizeStep(epochs=1))
    student = step.wrap(convolution(4), StepContext(2, lambda: iter([x])))
    assert any(isinstance(layer, SchemedLayer) for layer in student.layers)
    before = student.get_weights()
    distiller = Distiller(student, convolution(6))
    distiller.compile("adam", logits_loss)
    distiller.fit(x, y, batch_size=8, verbose=0)
    changed = [not np.array_equal(a, b) for a, b in zip(before, student.get_weights(), strict=True)]
    assert any(changed)
    assert step.unwrap(distiller.student).predict(x, verbose=0).shape == (16, 4)


def test_half_precision_trains(rows: Rows, dense: Maker) -> None:
    inputs = keras.Input((6,))
    policy = keras.mixed_precision.Policy("mixed_float16")
    hidden = L.Dense(8, name="hidden", dtype=policy)(inputs)
    student = keras.Model(inputs, L.Dense(4, dtype=policy)(hidden))
    distiller = Distiller(
        student, dense(8), losses=[SoftTargets(), FeatureLoss("hidden", "hidden")]
    )
    optimizer = keras.mixed_precision.LossScaleOptimizer(keras.optimizers.Adam(0.01))
    distiller.compile(optimizer)
    history = distiller.fit(rows[0], epochs=20, verbose=0).history["loss"]
    assert history[-1] < 0.8 * history[0]


def test_every_kind_of_data(dense: Maker, rows: Rows) -> None:
    x, _ = rows

    class Batches(keras.utils.Sequence):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, number: int) -> Any:
            return x[number * 8 : number * 8 + 8], None

    def generator() -> Any:
        for number in range(3):
            yield (x[number * 8 : number * 8 + 8],)

    dataset = tf.data.Dataset.from_tensor_slices(x).batch(8)
    student, teacher = dense(3), dense(8)
    found = []
    for data in (x, dataset, generator(), Batches()):
        distiller = Distiller(student, teacher)
        distiller.compile(keras.optimizers.SGD(0.0))
        found.append(distiller.fit(data, verbose=0).history["loss"][0])
    # A generator gives back the batch that was looked at.
    assert found == [pytest.approx(found[0], rel=1e-5)] * 4
    for empty in (x[:0], dataset.take(0), iter(())):
        distiller = Distiller(student, teacher)
        distiller.compile("sgd")
        with pytest.raises(DataError, match="has no (rows|batches)"):
            distiller.fit(empty, verbose=0)


def test_bad_settings(dense: Maker, rows: Rows) -> None:
    student, teacher = dense(3), dense(8)
    for settings, message in (
        ({"losses": []}, "at least one distillation loss"),
        ({"losses": "mse"}, "Distillation losses are SoftTargets"),
        ({"losses": [SoftTargets(), SoftTargets()]}, "'soft_targets' .* is taken"),
        ({"losses": SoftTargets(weight=-1)}, "weight must be a number >= 0"),
        ({"losses": SoftTargets(name="loss")}, "'loss' .* is taken"),
        ({"losses": {"out": FeatureLoss("hidden", "hidden")}}, "must be a loss on that output"),
        ({"alpha": 1.5}, "alpha must be from 0 to 1"),
        ({"alpha": float("nan")}, "alpha must be from 0 to 1"),
    ):
        with pytest.raises(InputError, match=message):
            Distiller(student, teacher, **settings)
    distiller = Distiller(student)
    distiller.compile("sgd")
    with pytest.raises(InputError, match="no teacher, and the data holds no outputs"):
        distiller.fit(rows[0], verbose=0)
    with pytest.raises(InputError, match="temperature must be from"):
        SoftTargets(0.0)


def test_inputs_that_do_not_fit_name_who_cannot_take_them(dense: Maker, rows: Rows) -> None:
    distiller = Distiller(dense(3), keras.Sequential([keras.Input((7,)), L.Dense(4)], name="big"))
    distiller.compile("sgd")
    with pytest.raises(ModelError, match=r"teacher 'big' cannot take the inputs .*\(24, 6\)"):
        distiller.fit(rows[0], verbose=0)


def test_the_optimizer_is_asked_to_aggregate_once_a_step(dense: Maker, rows: Rows) -> None:
    """Horovod optimizers average over ranks there."""

    class Averaging(keras.optimizers.SGD):
        asked: list[int]

        def aggregate_gradients(self, grads_and_vars: Any) -> Any:
            pairs = list(grads_and_vars)
            self.asked.append(len(pairs))
            return [(gradient * 0, variable) for gradient, variable in pairs]

    optimizer = Averaging(1.0)
    optimizer.asked = []
    student = dense(3)
    before = student.get_weights()
    distiller = Distiller(student, dense(8))
    distiller.compile(optimizer, run_eagerly=True)
    distiller.fit(rows[0], batch_size=12, verbose=0)
    assert optimizer.asked == [4, 4]
    assert all(np.array_equal(a, b) for a, b in zip(before, student.get_weights(), strict=True))


def test_it_runs_as_keras_models_do(
    dense: Maker, rows: Rows, logits_loss: Any, tmp_path: Path
) -> None:
    x, y = rows
    distiller = Distiller(dense(3), dense(8))
    with pytest.raises(RuntimeError, match="compile"):
        distiller.fit(x, y, verbose=0)
    distiller.compile("adam", logits_loss, metrics=["accuracy"], steps_per_execution=2)
    saver = keras.callbacks.ModelCheckpoint(
        str(tmp_path / "best"), "val_accuracy", save_best_only=True, save_weights_only=True
    )
    history = distiller.fit(
        x, y, 6, epochs=2, verbose=0, validation_data=(x, y), callbacks=[saver]
    ).history
    assert {"val_loss", "val_accuracy", "val_soft_targets", "val_student_loss"} <= set(history)
    distiller.compile("adam", logits_loss)
    assert set(distiller.train_on_batch(x, y, return_dict=True)) == set(
        distiller.test_on_batch(x, y, return_dict=True)
    )
    # Compiled again for other labels, it is checked again.
    distiller.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    distiller.fit(x, np.eye(4)[y], verbose=0)
    distiller.compile("sgd", "mse")
    assert "soft_targets" in distiller.evaluate(x, np.eye(4)[y], verbose=0, return_dict=True)
    distiller.compile("sgd")
    assert "student_loss" not in distiller.evaluate(x, y, verbose=0, return_dict=True)


@pytest.fixture(scope="module")
def replicas() -> dict[str, float]:
    """Differences of weights after a step on one CPU and on two, by case."""
    script = Path(__file__).with_name("two_replicas.py")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", ["even", "uneven", "masked"])
def test_two_replicas_train_as_one(replicas: dict[str, Any], case: str) -> None:
    found = replicas[case]
    assert found["replicas"] == 2
    assert found["moved"] > 1e-3
    for step, difference in enumerate(found["differences"]):
        assert difference <= 1e-6, f"step {step}"
    for name, (one, two) in found["metrics"].items():
        assert two == pytest.approx(one, rel=1e-4), name


def test_a_student_of_another_strategy_is_refused(replicas: dict[str, Any]) -> None:
    assert "different tf.distribute strategies" in replicas["error"]
