"""Weights divided over devices with DTensor, and batches over groups of them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import tensorflow as tf
from tensorflow.experimental import dtensor

from tfopt.config.distributed import StrategySettings as Settings
from tfopt.distributed.base import Spread
from tfopt.distributed.dtensor import sharding
from tfopt.distributed.dtensor.train_step import ShardedSteps
from tfopt.distributed.environment import Place
from tfopt.distributed.single import Single
from tfopt.distributed.tf_distribute.strategy import devices_of_process


class ModelParallel(Single):
    """One process on a mesh of devices; see ``Strategy`` for the contract.

    Args:
        mesh: Devices by batch and model axis.
    """

    name = "model_parallel"

    def __init__(self, mesh: Any) -> None:
        self._mesh = mesh
        self._steps: ShardedSteps | None = None

    def scope(self) -> AbstractContextManager[Any]:
        """Return a context that does nothing: the model stays plain, and a twin is trained."""
        return nullcontext()

    def steps_of(self, model: Any) -> ShardedSteps:
        """Return what trains a divided twin of the model."""
        self._steps = ShardedSteps(model, self._mesh)
        return self._steps

    def spread(self) -> Spread:
        """Return the mesh, and the bytes of weights on a device, off what lies there."""
        weights = self._steps.weights if self._steps is not None else []
        held = sharding.bytes_by_device(weights)
        whole = sum(sharding.whole(weight, self._mesh).nbytes for weight in weights)
        return Spread(
            {
                "devices": self._mesh.size,
                "model_devices": self._mesh.dim_size(sharding.MODEL),
                "weight_bytes": whole,
                "weight_bytes_per_device": max(held, default=0),
            }
        )


def open_model_parallel(settings: Settings, place: Place) -> ModelParallel:
    """Return the strategy of a mesh of this process's devices.

    Raises:
        InputError: If there are not as many devices.
    """
    devices = devices_of_process(settings)
    parts = settings.model_devices or len(devices)
    shape = [(sharding.BATCH, len(devices) // parts), (sharding.MODEL, parts)]
    tf.config.list_logical_devices()  # DTensor asks for devices that TensorFlow has set up
    return ModelParallel(dtensor.create_mesh(shape, devices=devices))
