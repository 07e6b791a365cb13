"""Loss and metric are read off model and labels, and misfits are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.config.schema import Train
from tfopt.data.arrays import ArraySplit
from tfopt.errors import DataError, ModelError, RecipeError
from tfopt.keras2.core import Model, keras
from tfopt.training.task import Task, read_task, require_inputs

LOGITS = np.array([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]], np.float32)


def model_of(units: int, *after: Callable[[Any], Any], shape: tuple[int, ...] = (4,)) -> Model:
    inputs = keras.Input(shape)
    x = keras.layers.Dense(units)(inputs)
    for layer in after:
        x = layer(x)
    return keras.Model(inputs, x, name="toy")


def split_of(labels: Any, *, shape: tuple[int, ...] = (4,)) -> ArraySplit:
    labels = np.asarray(labels)
    draws = np.random.default_rng(0).normal(size=(len(labels), *shape))
    return ArraySplit(draws.astype(np.float32), labels)


def task_of(model: Model, labels: Any, *, classes: int | None, **options: Any) -> Task:
    shape = tuple(model.inputs[0].shape[1:])
    return read_task(model, split_of(labels, shape=shape), classes=classes, **options)


def cross_entropy(targets: np.ndarray, logits: np.ndarray) -> float:
    log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return float(-(targets * log).sum(-1).mean())


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("from_logits", [False, True])
def test_cross_entropy_of_classes(smoothing: float, one_hot: bool, from_logits: bool) -> None:
    numbers = np.array([0, 2])
    labels = np.eye(3, dtype=np.float32)[numbers] if one_hot else numbers
    model = model_of(3, *(() if from_logits else (keras.layers.Softmax(),)))
    task = task_of(model, labels, classes=3, train=Train(label_smoothing=smoothing))
    assert (task.labels.kind, task.labels.one_hot, task.from_logits) == (
        "classes",
        one_hot,
        from_logits,
    )
    outputs = LOGITS if from_logits else tf.nn.softmax(LOGITS)
    targets = np.eye(3)[numbers] * (1 - smoothing) + smoothing / 3
    expected = pytest.approx(cross_entropy(targets, LOGITS), rel=1e-5)
    assert float(task.keras_loss()(labels, outputs)) == expected
    if not one_hot:
        assert float(task.keras_loss()(labels[:, None], outputs)) == expected


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("ends", ["logits", "sigmoid", "tf.sigmoid"])
def test_one_output(smoothing: float, ends: str) -> None:
    last: dict[str, tuple[Any, ...]] = {
        "logits": (),
        "sigmoid": (keras.layers.Activation("sigmoid"), keras.layers.Dropout(0.1)),
        "tf.sigmoid": (tf.sigmoid,),
    }
    model = model_of(1, *last[ends])
    labels = np.array([1, 0])
    task = task_of(model, labels, classes=2, train=Train(label_smoothing=smoothing))
    assert (task.labels.kind, task.from_logits) == ("binary", ends == "logits")
    logits = np.array([[1.5], [0.4]], np.float32)
    outputs = logits if ends == "logits" else tf.sigmoid(logits)
    p = 1 / (1 + np.exp(-logits[:, 0]))
    targets = labels * (1 - smoothing) + smoothing / 2
    expected = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean()
    assert float(task.keras_loss()(labels[:, None], outputs)) == pytest.approx(expected, rel=1e-4)
    # Both rows are called class 1; one is.
    assert float(task.keras_metrics()[0](labels[:, None], outputs)) == 0.5
    assert task.metric.rows(np.asarray(outputs), labels).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    "ends",
    [
        tf.nn.softmax,
        keras.layers.Softmax(),
        keras.layers.Activation(tf.nn.softmax),
        keras.layers.Lambda(lambda x: tf.exp(x) / tf.reduce_sum(tf.exp(x), -1, keepdims=True)),
        keras.Sequential([keras.layers.Softmax(), keras.layers.Reshape((3,))]),
        keras.layers.Dense(3, activation="softmax"),
    ],
    ids=["tf.nn", "layer", "activation", "hidden", "nested", "dense"],
)
def test_a_softmax_is_found_wherever_it_is(ends: Any) -> None:
    assert not task_of(model_of(3, ends), [0, 1, 2], classes=3).from_logits


def test_softmax_inside_a_wrapper() -> None:
    last = keras.layers.TimeDistributed(keras.layers.Dense(3, activation="softmax"))
    model = model_of(5, last, shape=(6, 4))
    task = task_of(model, np.zeros((2, 6), np.int64), classes=3)
    assert (task.labels.kind, task.from_logits, task.labels.one_hot) == ("classes", False, False)


def test_logits_are_no_probabilities() -> None:
    assert task_of(model_of(3), [0, 1, 2], classes=3).from_logits
    assert task_of(model_of(3, keras.layers.ReLU()), [0, 1, 2], classes=3).from_logits


@pytest.mark.parametrize("loss", ["auto", "mean_squared_error", "mean_absolute_error", "huber"])
def test_regression(loss: Any) -> None:
    labels = np.array([[1.0, 2.0], [0.0, 4.0]], np.float32)
    task = task_of(model_of(2), labels, classes=None, train=Train(loss=loss))
    assert (task.labels.kind, task.metric.name) == ("numbers", "mean_squared_error")
    difference = {"mean_absolute_error": 2.0, "huber": 1.5}.get(loss, 4.0)
    assert float(task.keras_loss()(labels, labels + 2)) == pytest.approx(difference)


def test_a_column_of_labels_fits_a_flat_output() -> None:
    assert task_of(model_of(1), np.ones(3, np.float32), classes=None).labels.kind == "numbers"


@pytest.mark.parametrize(
    ("metric", "classes", "outputs", "value"),
    [
        ("auto", 8, np.eye(8)[[1, 2]], 0.5),
        ("top_5_accuracy", 8, np.tile(np.arange(8.0), (2, 1)), 0.5),
        ("mean_absolute_error", None, np.full((2, 8), 1.0), 0.75),
    ],
)
def test_training_and_reported_metric_agree(
    metric: Any, classes: int | None, outputs: np.ndarray, value: float
) -> None:
    labels = np.array([1, 4]) if classes else np.tile([1.0, 2.0, 1.0, 1.5], (2, 2))
    labels = labels if classes else np.asarray(labels + np.array([[0.0], [0.75]]), np.float32)
    task = task_of(model_of(8), labels, classes=classes, metric=metric)
    outputs = outputs.astype(np.float32)
    (own,) = task.keras_metrics()
    assert own.name == task.metric.name
    reported = float(task.metric.rows(outputs, labels).mean())
    assert float(own(labels, outputs)) == pytest.approx(reported)
    assert reported == pytest.approx(value)


MISFITS: list[tuple[Model, Any, int | None, dict[str, Any], type[Exception], str]] = [
    (model_of(3), [0, 1, 5], 6, {}, DataError, "has 3 outputs, but the labels have 6 classes"),
    (model_of(1), [0, 1, 2], 3, {}, DataError, "one output, which tells two classes apart"),
    (model_of(1, keras.layers.Softmax()), [0, 1], 2, {}, ModelError, "softmax over one output"),
    (model_of(1), np.eye(2)[[0, 1]], 2, {}, DataError, r"Labels of shape \(2,\) do not fit"),
    (model_of(3, shape=(6, 4)), [0, 1], 3, {}, DataError, r"one class for each of \(6,\)"),
    (model_of(3), np.zeros((2, 7), int), 3, {}, DataError, r"Labels of shape \(7,\) do not fit"),
    (model_of(2), np.ones((2, 3)), None, {}, DataError, r"Labels of shape \(3,\) do not fit"),
    (
        model_of(3),
        [0, 1],
        3,
        {"train": Train(loss="huber")},
        RecipeError,
        "'huber' does not fit labels that are classes",
    ),
    (
        model_of(1),
        np.ones(2),
        None,
        {"train": Train(loss="cross_entropy")},
        RecipeError,
        "does not fit labels that are numbers",
    ),
    (
        model_of(1),
        np.ones(2),
        None,
        {"train": Train(label_smoothing=0.1)},
        RecipeError,
        "label_smoothing needs classes",
    ),
    (model_of(3), [0, 1], 3, {"metric": "top_5_accuracy"}, RecipeError, "more than five outputs"),
    (model_of(1), [0, 1], 2, {"metric": "top_5_accuracy"}, RecipeError, "more than five outputs"),
    (
        model_of(3),
        [0, 1],
        3,
        {"metric": "mean_squared_error"},
        RecipeError,
        "'mean_squared_error' does not fit labels that are classes",
    ),
]


@pytest.mark.parametrize("case", MISFITS, ids=lambda case: case[-1][:30])
def test_misfits_are_refused(case: Any) -> None:
    model, labels, classes, options, error, message = case
    with pytest.raises(error, match=message):
        task_of(model, labels, classes=classes, **options)


def test_vectors_of_length_1_are_no_scores_of_classes() -> None:
    model = model_of(5, lambda x: tf.math.l2_normalize(x, axis=-1))
    with pytest.raises(ModelError, match="vectors of length 1, not scores.*head: classification"):
        task_of(model, np.zeros(6, np.int64), classes=3)


def test_several_outputs_and_missing_labels() -> None:
    model = model_of(3)
    two = keras.Model(model.inputs, [model.output, model.output], name="two")
    with pytest.raises(ModelError, match="'two' has 2"):
        task_of(two, [0, 1], classes=3)
    with pytest.raises(DataError, match="has no labels"):
        read_task(model, ArraySplit(np.zeros((2, 4), np.float32)), classes=None)
    labels = {"a": np.zeros(2), "b": np.zeros(2)}
    with pytest.raises(DataError, match="Labels must be one array"):
        read_task(model, ArraySplit(np.zeros((2, 4), np.float32), labels), classes=2)


def two_inputs() -> Model:
    left, right = keras.Input((4,), name="left"), keras.Input((2,), name="right")
    both = keras.layers.Concatenate()([left, right])
    return keras.Model({"left": left, "right": right}, keras.layers.Dense(3)(both), name="pair")


def test_inputs_must_fit() -> None:
    four, two = np.zeros((5, 4), np.float32), np.zeros((5, 2), np.float32)
    require_inputs(two_inputs(), ArraySplit({"left": four, "right": two}), what="data")
    with pytest.raises(
        DataError, match=r"data has inputs \['left', 'up'\], but .* \['left', 'right"
    ):
        require_inputs(two_inputs(), ArraySplit({"left": four, "up": two}), what="data")
    with pytest.raises(DataError, match=r"data has 1 inputs, but model 'pair' has 2"):
        require_inputs(two_inputs(), ArraySplit(four), what="data")
    with pytest.raises(DataError, match=r"shape \(2,\), but input .* takes \(4,\)"):
        require_inputs(model_of(3), ArraySplit(two), what="data")
    labels = np.array([0, 1, 2, 0, 1])
    split = ArraySplit({"left": four, "right": two}, labels)
    assert read_task(two_inputs(), split, classes=3).from_logits


def test_class_numbers_stored_as_floats_are_pointed_to_the_setting() -> None:
    floats = np.array([0.0, 2.0], np.float32)
    with pytest.raises(DataError, match=r"output \(3,\) of model 'toy'.*data.task: classification"):
        task_of(model_of(3), floats, classes=None)
    with pytest.raises(DataError, match=r"output \(3,\) of model 'toy'\.$"):
        task_of(model_of(3), np.zeros((2, 2), np.float32), classes=None)
