"""Optimizers of both Kerases that average gradients over the ranks of Horovod."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfopt.distributed.horovod.accumulation import Accumulator
from tfopt.distributed.horovod.library import hvd
from tfopt.distributed.horovod.reduction import Compression, Operation, Reduction
from tfopt.errors import InputError
from tfopt.keras2.core import is_keras3, keras

_PLACE = "tfopt_distribution"


@dataclass(slots=True)
class _Distribution:
    """What an optimizer carries, hidden from the tracking of Keras.

    Attributes:
        plain: The class the optimizer had.
        reduction: How gradients become one.
        steps: Batches in an update.
        accumulator: The sums of an update; None if each batch is one.
        is_inside: Whether a LossScaleOptimizer of Keras 3 has taken it in.
    """

    plain: type
    reduction: Reduction
    steps: int
    accumulator: Accumulator | None = None
    is_inside: bool = False


class DistributedOptimizer:
    """Make an optimizer average gradients over all ranks; use it in ``model.compile``.

    What comes back is the optimizer itself, with its state, schedules and settings. It is still an
    instance of its class. Clipping, weight decay, averages of weights and loss scaling happen
    after the averaging, as one process with the whole batch does it. With one rank nothing
    is changed. Every rank must see the same number of batches, of the same number of rows.

    A model compiled with it is saved and loaded with it. Such a file needs tfopt when it is
    loaded, unless with ``compile=False``.

    Args:
        optimizer: Of tf_keras (new or legacy) or Keras 3, or a LossScaleOptimizer around one.
            Under Keras 3, give the LossScaleOptimizer: one around the result would skip a
            step on one rank only.
        op: ``average``, ``sum`` or ``adasum``.
        compression: ``none`` or ``float16``, which is slower on CPUs.
        accumulate_steps: Batches in an update, ``>= 1``: their mean is sent and applied once.
        sparse_as_dense: Send the gradient of an embedding as a whole table.
        groups: Groups of gradients that are sent at once; 0: each on its own.
        process_set: The ranks that take part, as ``horovod.tensorflow.ProcessSet``. None: all.

    Raises:
        BackendMissing: If Horovod is missing, or was built without what is asked for.
        InputError: If it is no such optimizer, or averages already, or a setting is impossible.
    """

    def __new__(  # noqa: PLR0913  # keyword-only options, each with its own default
        cls,
        optimizer: Any,
        *,
        op: Operation = "average",
        compression: Compression = "none",
        accumulate_steps: int = 1,
        sparse_as_dense: bool = False,
        groups: int = 1,
        process_set: Any = None,
    ) -> Any:
        """Return the optimizer, which averages from now on."""
        hvd()
        reduction = Reduction(op, compression, sparse_as_dense, groups, process_set)
        reduction.require_valid()
        return _distribute(optimizer, reduction, accumulate_steps)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> Any:
        """Return what was saved with a model; called by Keras.

        Args:
            config: From ``get_config``.
            custom_objects: The user's own classes, by name.
        """
        settings = dict(config)
        saved = dict(settings.pop("optimizer"))
        if settings.pop("keras") == 3:  # the version
            from tfopt.bridge.keras3 import keras as keras3

            deserialize = keras3.saving.deserialize_keras_object
        elif str(saved["module"]).startswith("keras."):
            # While an .h5 file is read, tf_keras.saving does not know "SGD".
            deserialize = keras.optimizers.deserialize
        else:
            deserialize = keras.saving.deserialize_keras_object
        plain = deserialize(saved, custom_objects=custom_objects)
        steps = settings.pop("accumulate_steps")
        return _distribute(plain, Reduction(**settings), steps)


class _Averaging:
    """What the three kinds of optimizers share."""

    def get_config(self) -> dict[str, Any]:
        """Return the plain optimizer and how it is distributed."""
        held: _Distribution = getattr(self, _PLACE)
        if held.reduction.process_set is not None:
            raise InputError(
                "An optimizer with a process_set cannot be saved: the set belongs to this run. "
                "Save with include_optimizer=False, or the weights alone."
            )
        is_third = is_keras3(self)
        if is_third:
            from tfopt.bridge.keras3 import keras as keras3

            module = keras3.saving
        else:
            module = keras.saving
        averaging = self.__class__
        self.__class__ = held.plain  # what is written is the plain one
        try:
            plain = module.serialize_keras_object(self)
        finally:
            self.__class__ = averaging
        return {
            "keras": 3 if is_third else 2,
            "optimizer": plain,
            "op": held.reduction.op,
            "compression": held.reduction.compression,
            "sparse_as_dense": held.reduction.sparse_as_dense,
            "groups": held.reduction.groups,
            "accumulate_steps": held.steps,
        }


class _Pairs(_Averaging):
    """tf_keras: gradients come as pairs with their variables."""

    def _tfopt_reduce(self, grads_and_vars: Any) -> list[Any]:
        pairs = list(grads_and_vars)
        reduced = getattr(self, _PLACE).reduction([gradient for gradient, _ in pairs])
        return [(gradient, pair[1]) for gradient, pair in zip(reduced, pairs, strict=True)]

    def _tfopt_accumulator(self, *, is_skipped: bool) -> Accumulator | None:
        found: Accumulator | None = getattr(self, _PLACE).accumulator
        if found is not None and is_skipped:
            raise InputError(
                "accumulate_steps does not work where gradients arrive averaged already: under a "
                "LossScaleOptimizer of tf_keras (which mixed_float16 adds by itself), or with "
                "skip_gradients_aggregation. Use accumulate_steps=1, or mixed_bfloat16."
            )
        return found


class _Current(_Pairs):
    """tf_keras' optimizers since Keras 2.11."""

    def aggregate_gradients(self, grads_and_vars: Any) -> list[Any]:
        """Average over ranks; called by ``apply_gradients`` and by a LossScaleOptimizer."""
        return self._tfopt_reduce(grads_and_vars)

    def apply_gradients(
        self,
        grads_and_vars: Any,
        name: Any = None,
        skip_gradients_aggregation: bool = False,  # noqa: FBT001, FBT002  # as in tf_keras
        **settings: Any,
    ) -> Any:
        """Average and apply; see ``tf_keras.optimizers.Optimizer.apply_gradients``."""
        is_skipped = skip_gradients_aggregation or not settings.get(
            "experimental_aggregate_gradients", True
        )
        apply = super().apply_gradients  # type: ignore[misc]  # of the optimizer's own class
        accumulator = self._tfopt_accumulator(is_skipped=is_skipped)
        if accumulator is None:
            return apply(grads_and_vars, name, skip_gradients_aggregation, **settings)
        gradients, variables = zip(*grads_and_vars, strict=True)
        with tf.init_scope():
            self.build(variables)  # type: ignore[attr-defined]  # as above
        accumulator.add(
            gradients, lambda means: apply(zip(means, variables, strict=True), name, **settings)
        )
        return self.iterations  # type: ignore[attr-defined]  # as above


class _Legacy(_Pairs):
    """tf_keras' optimizers before Keras 2.11."""

    def _aggregate_gradients(self, grads_and_vars: Any) -> list[Any]:
        return self._tfopt_reduce(grads_and_vars)

    def apply_gradients(
        self,
        grads_and_vars: Any,
        name: Any = None,
        experimental_aggregate_gradients: bool = True,  # noqa: FBT001, FBT002  # as in tf_keras
    ) -> Any:
        """Average and apply; see ``tf_keras.optimizers.legacy.Optimizer.apply_gradients``."""
        apply = super().apply_gradients  # type: ignore[misc]  # of the optimizer's own class
        is_skipped = not experimental_aggregate_gradients
        accumulator = self._tfopt_accumulator(is_skipped=is_skipped)
        if accumulator is None:
            return apply(grads_and_vars, name, experimental_aggregate_gradients)
        gradients, variables = zip(*grads_and_vars, strict=True)
        with tf.init_scope():
            self._create_all_weights(list(variables))  # type: ignore[attr-defined]  # as above
        accumulator.add(
            gradients, lambda means: apply(list(zip(means, variables, strict=True)), name)
        )
        return self.iterations  # type: ignore[attr-defined]  # as above


class _Keras3(_Averaging):
    """Keras 3: whatever path a step takes, it ends in ``apply`` of the outermost optimizer."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "loss_scale_factor":
            # The first thing a LossScaleOptimizer does to the optimizer that it takes in.
            getattr(self, _PLACE).is_inside = value is None
        super().__setattr__(name, value)

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Average and apply; see ``keras.optimizers.Optimizer.apply``."""
        held: _Distribution = getattr(self, _PLACE)
        if held.is_inside:
            raise InputError(
                "This optimizer is inside a LossScaleOptimizer, which would skip a step on one "
                "rank and not on another. Wrap the other way round: tfopt.DistributedOptimizer("
                "keras.optimizers.LossScaleOptimizer(optimizer)). Under mixed_float16, compile() "
                "adds one by itself unless it is there."
            )
        apply = super().apply  # type: ignore[misc]  # of the optimizer's own class
        if held.accumulator is None:
            apply(held.reduction(grads), trainable_variables)
            return
        variables = None if trainable_variables is None else list(trainable_variables)
        if variables is not None and not self.built:  # type: ignore[has-type]  # as above
            with tf.init_scope():
                self.build(variables)  # type: ignore[attr-defined]  # as above
                self.built = True
        held.accumulator.add(list(grads), lambda means: apply(held.reduction(means), variables))


def _distribute(optimizer: Any, reduction: Reduction, steps: int) -> Any:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError(f"accumulate_steps must be a whole number >= 1. Received: {steps!r}.")
    if not is_keras3(optimizer) and isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
        if steps > 1:
            raise InputError(
                "accumulate_steps does not work with a LossScaleOptimizer of tf_keras, which "
                "checks gradients before they are complete. Use accumulate_steps=1, or "
                "mixed_bfloat16."
            )
        _distribute(optimizer.inner_optimizer, reduction, steps)
        return optimizer
    kind = _kind_of(optimizer)
    plain: Any = type(optimizer)
    metaclass: Any = type(plain)
    # Named and placed as the public class, which is what Keras writes to a file and finds again.
    averaging = metaclass(
        DistributedOptimizer.__name__,
        (kind, plain),
        {"__module__": DistributedOptimizer.__module__, "__doc__": plain.__doc__},
    )
    accumulator = Accumulator(steps) if steps > 1 else None
    setattr(optimizer, _PLACE, _Distribution(plain, reduction, steps, accumulator))
    optimizer.__class__ = averaging
    return optimizer


def _kind_of(optimizer: Any) -> type:
    """Return the class that makes an optimizer average."""
    kind = type(optimizer)
    origin = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(optimizer, _Averaging) or kind.__module__.startswith("horovod"):
        raise InputError(f"The optimizer averages over ranks already ({origin}). Wrap it once.")
    if is_keras3(optimizer):
        from tfopt.bridge.keras3 import keras as keras3
        from tfopt.bridge.keras3 import require_tensorflow_backend

        require_tensorflow_backend()
        if isinstance(optimizer, keras3.optimizers.Optimizer):
            return _Keras3
    elif isinstance(optimizer, keras.optimizers.legacy.Optimizer):
        return _Legacy
    elif isinstance(optimizer, keras.optimizers.Optimizer):
        return _Current
    raise InputError(
        "DistributedOptimizer takes an optimizer object of tf_keras or Keras 3, such as "
        f"tf_keras.optimizers.Adam(1e-3). Received: {origin} ({optimizer!r:.60})."
    )
