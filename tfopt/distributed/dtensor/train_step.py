"""Training steps on weights that DTensor divides over devices.

A twin of the model lives on the devices. Between epochs its weights and its optimizer's are
copied into the plain model, so that everything around, checkpoints too, sees a plain model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.experimental import dtensor

from tfopt.distributed.dtensor import sharding
from tfopt.distributed.lost_peers import reason_of
from tfopt.errors import ModelError, VerificationError
from tfopt.keras2.core import keras

_GRADIENT_TOLERANCE = 1e-3


class ShardedSteps:
    """Takes steps on a mesh; see ``Steps`` for the contract.

    Args:
        model: The compiled plain model, with a built optimizer.
        mesh: Devices by batch and model axis.

    Raises:
        ModelError: If DTensor cannot train a layer of the model.
    """

    def __init__(self, model: Any, mesh: Any) -> None:
        sharding.require_divisible(model)
        self._model, self._mesh = model, mesh
        layouts = keras.dtensor.experimental.LayoutMap(mesh=mesh)
        for name, layout in sharding.divided_weights(model, mesh).items():
            layouts[name] = layout
        with layouts.scope():
            self._twin = keras.models.clone_model(model)
        self._optimizer = _optimizer_like(model, self._twin, mesh)
        self._is_behind, self._is_checked = True, False
        # Two functions: in one, gradients come out wrong, with a batch axis, even when relaid.
        self._gradients = tf.function(self._look)
        self._apply = tf.function(self._update)
        self._test = tf.function(model.test_step, reduce_retracing=True)
        model.make_train_function = self._make
        self._make()

    @property
    def weights(self) -> list[Any]:
        """Return the divided weights."""
        return list(self._twin.weights)

    def train(self, batch: Any) -> Mapping[str, Any]:
        """Take a step, and add to the metrics of the plain model."""
        if self._is_behind:
            self._push()
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        rows = len(tf.nest.flatten(y)[0])
        placed = self._placed(x, y, weight, rows)
        try:
            outputs, loss, penalty, gradients = self._gradients(*placed)
            if not self._is_checked:
                self._require_same_gradients(gradients, batch)
            self._apply(gradients)
        except tf.errors.UnknownError as error:
            raise ModelError(
                f"DTensor cannot divide a step of model {self._model.name!r}: "
                f"{reason_of(error).rpartition(' error: ')[2]} Choose another strategy."
            ) from error
        predicted = sharding.whole(outputs, self._mesh)[:rows]
        added = [tf.constant(sharding.whole(penalty, self._mesh))]
        self._model.train_tf_function(y, tf.constant(predicted), weight, added)
        return {"loss": float(sharding.whole(loss, self._mesh))}

    def judge(self, batch: Any) -> None:
        """Judge a batch by the plain model, which ``logs`` has brought up to date."""
        self._test(batch)

    def logs(self) -> dict[str, float]:
        """Bring the plain model up to date, and return its metrics."""
        if not self._is_behind:
            self._pull()
        return {metric.name: float(metric.result()) for metric in self._model.metrics}

    def _make(self, *, force: bool = False) -> None:
        """Build what adds to the metrics; no step of this strategy draws random numbers."""

        def add(y: Any, predicted: Any, weight: Any, penalty: Any) -> None:
            self._model.compiled_loss(y, predicted, weight, regularization_losses=penalty)
            self._model.compiled_metrics.update_state(y, predicted, weight)

        self._model.train_tf_function = tf.function(add, reduce_retracing=True)

    def _placed(self, x: Any, y: Any, weight: Any, rows: int) -> tuple[Any, Any, Any]:
        """Return a batch on the mesh, filled up with rows of weight 0 so that it divides."""
        parts = self._mesh.dim_size(sharding.BATCH)
        filled = -(-rows // parts) * parts
        own = np.ones(rows, np.float32) if weight is None else np.asarray(weight, np.float32)
        if own.ndim > 1:
            raise ModelError("model_parallel takes one weight a row; these rows have several.")
        weights = np.zeros(filled, np.float32)
        weights[:rows] = own * (filled / rows)
        places = tf.range(filled) % rows
        x, y = tf.nest.map_structure(lambda t: tf.gather(t, places), (x, y))
        placed: tuple[Any, Any, Any] = tf.nest.map_structure(
            lambda tensor: sharding.spread_rows(tensor, self._mesh), (x, y, tf.constant(weights))
        )
        return placed

    def _update(self, gradients: list[Any]) -> None:
        pairs = list(zip(gradients, self._twin.trainable_variables, strict=True))
        self._optimizer.apply_gradients(pairs)

    def _look(self, x: Any, y: Any, weight: Any) -> tuple[Any, Any, Any, list[Any]]:
        variables = self._twin.trainable_variables
        with tf.GradientTape() as tape:
            outputs = self._twin(x, training=True)
            penalty = tf.add_n(self._twin.losses) if self._twin.losses else tf.zeros(())
            loss = self._model.loss(y, outputs, weight) + penalty
        found = tape.gradient(loss, variables)
        gradients = [
            dtensor.relayout(tf.convert_to_tensor(gradient), variable.layout)
            for gradient, variable in zip(found, variables, strict=True)
        ]
        return outputs, loss, penalty, gradients

    def _require_same_gradients(self, gradients: list[Any], batch: Any) -> None:
        """Raise unless the first gradients are those of one device; no weight has changed yet."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            outputs = self._model(x, training=True)
            loss = self._model.loss(y, outputs, weight) + sum(self._model.losses)
        plain = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, variables)]
        limit = _GRADIENT_TOLERANCE * max(float(tf.reduce_max(tf.abs(one))) for one in plain)
        for variable, one, divided in zip(variables, plain, gradients, strict=True):
            apart = float(np.abs(sharding.whole(divided, self._mesh) - one.numpy()).max())
            if not apart <= limit:
                raise VerificationError(
                    f"The gradient of {variable.name!r} on {self._mesh.size} devices is off by "
                    f"{apart:.3g} from that on one (the limit is {limit:.3g}): DTensor computes a "
                    "layer of this model wrongly. Choose another strategy."
                )
        self._is_checked = True

    def _push(self) -> None:
        """Give the twin what the plain model and its optimizer hold."""
        for plain, divided in self._pairs():
            value = sharding.on_all(tf.constant(plain.numpy()), self._mesh)
            divided.assign(dtensor.relayout(value, divided.layout))
        self._is_behind = False

    def _pull(self) -> None:
        for plain, divided in self._pairs():
            plain.assign(sharding.whole(divided, self._mesh))
        self._is_behind = True

    def _pairs(self) -> list[tuple[Any, Any]]:
        own = [*self._model.weights, *_variables_of(self._model.optimizer)]
        others = [*self._twin.weights, *_variables_of(self._optimizer)]
        return list(zip(own, others, strict=True))


def _optimizer_like(model: Any, twin: Any, mesh: Any) -> Any:
    plain = model.optimizer
    made = type(plain)(**{**_arguments(plain), "mesh": mesh})
    kept: set[str] = getattr(plain, "_exclude_from_weight_decay", set())
    pairs = zip(model.trainable_variables, twin.trainable_variables, strict=True)
    made.exclude_from_weight_decay([other for own, other in pairs if plain._var_key(own) in kept])
    made.build(twin.trainable_variables)
    return made


def _arguments(optimizer: Any) -> dict[str, Any]:
    config = optimizer.get_config()
    rate = optimizer._learning_rate
    is_schedule = isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
    given = rate if is_schedule else float(rate.numpy())
    return {**config, "learning_rate": given, "is_legacy_optimizer": False}


def _variables_of(optimizer: Any) -> list[Any]:
    """Return all variables; ``variables`` lacks the learning rate and a product of Nadam."""
    listed = list(optimizer.variables)
    known = {id(variable) for variable in listed}
    own = [value for value in vars(optimizer).values() if isinstance(value, tf.Variable)]
    return [*listed, *(variable for variable in own if id(variable) not in known)]
