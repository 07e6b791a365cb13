"""Read off a model and its labels which loss and metric fit them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.config.schema import Train
from tfopt.data.split import Split
from tfopt.errors import DataError, ModelError, RecipeError
from tfopt.evaluation.metrics import LabelForm, LabelKind, Metric, metric_class
from tfopt.keras2.core import Model, keras
from tfopt.training.losses import PositionCrossentropy, SmoothedSparseCrossentropy
from tfopt.training.token_checks import (
    require_free_length,
    require_known_ids,
    require_known_positions,
)

_SOFTMAX = ("softmax", "softmax_v2")  # tf.nn.softmax calls itself softmax_v2
_PROBABILITIES = (*_SOFTMAX, "sigmoid", "hard_sigmoid")
_REGRESSION = ("mean_squared_error", "mean_absolute_error", "huber")
_SAME_VALUES = (
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.Dropout,
    keras.layers.Permute,
    keras.layers.RepeatVector,
)
_PROBE_ROWS = 8


@dataclass(frozen=True, slots=True)
class Task:
    """What a model is trained for.

    Attributes:
        labels: How the labels are written.
        from_logits: Whether outputs are logits rather than probabilities.
        loss: ``cross_entropy`` or a regression loss.
        label_smoothing: Share of the target moved to all classes, in ``[0, 1)``.
        metric: The reported metric.
    """

    labels: LabelForm
    from_logits: bool
    loss: str
    label_smoothing: float
    metric: Metric

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells tasks apart, as run folders of version 0.1.0 have it."""
        return {
            "kind": self.labels.kind,
            "from_logits": self.from_logits,
            "one_hot": self.labels.one_hot,
            "loss": self.loss,
            "label_smoothing": self.label_smoothing,
            "metric": {"name": self.metric.name, "threshold": self.metric.threshold},
            "classes": self.labels.classes,
            "by_position": self.labels.by_position,
        }

    def keras_loss(self) -> Any:
        """Return the loss for ``compile``."""
        if self.loss in _REGRESSION:
            return {
                "mean_squared_error": keras.losses.MeanSquaredError(),
                "mean_absolute_error": keras.losses.MeanAbsoluteError(),
                "huber": keras.losses.Huber(),
            }[self.loss]
        if self.labels.kind == "binary":
            return keras.losses.BinaryCrossentropy(
                from_logits=self.from_logits, label_smoothing=self.label_smoothing
            )
        if self.labels.one_hot:
            return keras.losses.CategoricalCrossentropy(
                from_logits=self.from_logits, label_smoothing=self.label_smoothing
            )
        if self.labels.by_position:
            return PositionCrossentropy(self.from_logits, self.label_smoothing)
        if self.label_smoothing:
            return SmoothedSparseCrossentropy(self.from_logits, self.label_smoothing)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=self.from_logits)

    def keras_metrics(self) -> list[Any]:
        """Return the metric for ``compile``, under the name of the task metric."""
        return [self.metric.training_metric(self.labels)]


def read_task(
    model: Model,
    split: Split,
    *,
    classes: int | None,
    train: Train | None = None,
    metric: str = "auto",
) -> Task:
    """Return the loss and metric for a model on labelled data.

    Args:
        model: A built model with one output.
        split: Labelled examples.
        classes: Number of classes, or None if labels are numbers.
        train: Settings of the float training, for loss and label smoothing.
        metric: Name of the metric, or ``auto``.

    Raises:
        DataError: If there are no labels, or they do not fit the output.
        ModelError: If the model has several outputs, or gives vectors of length 1 for classes.
        RecipeError: If loss, label smoothing or metric does not fit the labels.
    """
    train = train or Train()
    if len(model.outputs) != 1:
        raise ModelError(
            f"A recipe trains models with one output; {model.name!r} has {len(model.outputs)}: "
            f"{', '.join(model.output_names)}."
        )
    if split.label_spec is None:
        raise DataError("The data has no labels, so the model can be neither trained nor scored.")
    if not isinstance(split.label_spec, tf.TensorSpec):
        raise DataError(
            f"Labels must be one array; these are a {type(split.label_spec).__name__} of several."
        )
    kind, one_hot = _kind(model, split.label_spec.shape, classes)
    if kind == "binary" and split.class_numbers is not None and split.class_numbers.min() < 0:
        raise DataError(
            f"Labels below 0, which do not count, need as many outputs as classes; model "
            f"{model.name!r} has one output. Give it two."
        )
    from_logits = kind != "numbers" and not _gives_probabilities(model, split, kind)
    labels = LabelForm(
        kind=kind,
        one_hot=one_hot,
        by_position=kind == "classes" and not one_hot and model.outputs[0].shape.rank > 2,
        classes=None if kind == "numbers" else model.outputs[0].shape[-1],
    )
    return Task(
        labels=labels,
        from_logits=from_logits,
        loss=_loss(kind, train),
        label_smoothing=train.label_smoothing,
        metric=_metric(model, kind, metric)(threshold=0.0 if from_logits else 0.5),
    )


def require_inputs(model: Model, split: Split, *, what: str) -> None:
    """Raise unless the examples fit the model's inputs.

    Raises:
        DataError: If the number, names or shapes of the inputs differ, or an input holds
            numbers that its embedding has no row for.
    """
    spec = split.input_spec
    given = tf.nest.flatten(spec)
    if isinstance(spec, dict):
        wanted = {tensor._keras_history.layer.name for tensor in model.inputs}
        if set(spec) != wanted:
            raise DataError(
                f"The {what} has inputs {sorted(spec)}, but model {model.name!r} has "
                f"{sorted(wanted)}."
            )
        given = [spec[tensor._keras_history.layer.name] for tensor in model.inputs]
    if len(given) != len(model.inputs):
        raise DataError(
            f"The {what} has {len(given)} inputs, but model {model.name!r} has {len(model.inputs)}."
        )
    for entry, tensor in zip(given, model.inputs, strict=True):
        expected = tensor.shape[1:]
        if not expected.is_compatible_with(entry.shape):
            raise DataError(
                f"The {what} has examples of shape {tuple(entry.shape)}, but input "
                f"{tensor._keras_history.layer.name!r} of model {model.name!r} takes "
                f"{tuple(expected)}."
            )
    require_free_length(model, split, what=what)
    require_known_positions(model, split, what=what)
    require_known_ids(model, split, what=what)


def _kind(model: Model, labels: Any, classes: int | None) -> tuple[LabelKind, bool]:
    output = model.outputs[0].shape
    if classes is None:
        # A column of labels and a flat row of outputs mean the same.
        if tuple(output[1:]) != tuple(labels) and (tuple(output[1:]), tuple(labels)) != ((1,), ()):
            is_number_each = labels.rank == output.rank - 2 and output[-1] > 1
            hint = (
                " Floats are taken as numbers to predict; if these are class numbers, set "
                "data.task: classification, or store them as integers."
            )
            raise DataError(
                f"Labels of shape {tuple(labels)} do not fit the output {tuple(output[1:])} of "
                f"model {model.name!r}.{hint if is_number_each else ''}"
            )
        return "numbers", False
    units = output[-1]
    if units == 1:
        _require_binary(model, labels, classes)
        return "binary", False
    if units is None or classes > units:
        raise DataError(
            f"Model {model.name!r} has {units} outputs, but the labels have {classes} classes."
        )
    if _activation(_last_layer(model)).startswith("l2_normalize"):
        raise ModelError(
            f"Model {model.name!r} gives vectors of length 1, not scores of the {classes} classes "
            "that the data has. With builder bert or gpt2, use head: classification."
        )
    one_hot = labels.rank == output.rank - 1 and labels.rank > 0 and labels[-1] == units
    _require_positions(model, labels[:-1] if one_hot else labels, output[1:-1])
    return "classes", one_hot


def _require_binary(model: Model, labels: Any, classes: int) -> None:
    if classes > 2:
        raise DataError(
            f"Model {model.name!r} has one output, which tells two classes apart; the labels "
            f"have {classes}."
        )
    if _activation(_last_layer(model)) in _SOFTMAX:
        raise ModelError(
            f"Model {model.name!r} ends in a softmax over one output, which is always 1. Use a "
            "sigmoid, or as many outputs as classes."
        )
    _require_positions(model, labels, model.outputs[0].shape[1:-1])


def _require_positions(model: Model, labels: Any, positions: Any) -> None:
    """Raise unless there is one label for each position of the output, beside its last axis."""
    fits = positions.is_compatible_with(labels) or (
        labels.rank and labels[-1] == 1 and positions.is_compatible_with(labels[:-1])
    )
    if not fits:
        raise DataError(
            f"Labels of shape {tuple(labels)} do not fit the output "
            f"{tuple(model.outputs[0].shape[1:])} of model {model.name!r}: it takes one class for "
            f"each of {tuple(positions) or '()'}."
        )


def _loss(kind: LabelKind, train: Train) -> str:
    loss = train.loss
    if loss == "auto":
        loss = "mean_squared_error" if kind == "numbers" else "cross_entropy"
    if (loss == "cross_entropy") != (kind != "numbers"):
        raise RecipeError(
            f"train.loss {loss!r} does not fit labels that are "
            f"{'numbers' if kind == 'numbers' else 'classes'}. Leave it at auto."
        )
    if train.label_smoothing and kind == "numbers":
        raise RecipeError("train.label_smoothing needs classes; these labels are numbers.")
    return loss


def _metric(model: Model, kind: LabelKind, name: str) -> type[Metric]:
    if name == "auto":
        name = "mean_squared_error" if kind == "numbers" else "accuracy"
    metric = metric_class(name)
    if kind not in metric.label_kinds:
        raise RecipeError(
            f"metric {name!r} does not fit labels that are "
            f"{'numbers' if kind == 'numbers' else 'classes'}. Leave it at auto."
        )
    reason = metric().unsuitable(model.outputs[0].shape[-1])
    if reason is not None:
        raise RecipeError(f"metric {name!r}, with model {model.name!r}, {reason}.")
    return metric


def _gives_probabilities(model: Model, split: Split, kind: LabelKind) -> bool:
    """Return whether outputs are probabilities: by the last layer, or because they sum to one."""
    if _activation(_last_layer(model)) in _PROBABILITIES:
        return True
    if kind == "binary":
        return False
    # A softmax may hide in a Lambda or in the user's own layer. Logits do not sum to one.
    inputs = tf.nest.map_structure(tf.convert_to_tensor, split.sample_inputs(_PROBE_ROWS, seed=0))
    outputs = np.asarray(model(inputs, training=False), np.float64)
    return bool(np.all(outputs >= 0) and np.allclose(outputs.sum(axis=-1), 1, atol=1e-3))


def _last_layer(model: Model) -> Any:
    """Return the layer that computes the output, layers that change no value skipped."""
    tensor = model.outputs[0]
    while True:
        layer = tensor._keras_history.layer
        if isinstance(layer, keras.Model):
            tensor = layer.outputs[tensor._keras_history.tensor_index]
        elif isinstance(layer, _SAME_VALUES) or _activation(layer) == "linear_only":
            tensor = layer.input
        elif isinstance(layer, keras.layers.Wrapper):
            return layer.layer
        else:
            return layer


def _activation(layer: Any) -> str:
    """Return the name of a layer's activation, or of the operator a layer stands for."""
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    function = getattr(layer, "activation", None) or getattr(layer, "function", None)
    name = str(getattr(function, "__name__", ""))
    is_linear = isinstance(layer, keras.layers.Activation) and name == "linear"
    return "linear_only" if is_linear else name
