"""tfmot's pruning wrapper, with exact masks, masks through padding, and a config that holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.compression.layers.base import SeeThrough
from tfopt.compression.tfmot import ConstantSparsity, PruneLowMagnitude, Pruning
from tfopt.keras2 import graph
from tfopt.keras2.core import Layer, keras

_PRUNABLE_KERNEL = {
    keras.layers.SeparableConv1D: "pointwise_kernel",
    keras.layers.SeparableConv2D: "pointwise_kernel",
}


class ExactMasks(Pruning):
    """tfmot's masks, but of exactly as many entries as asked.

    tfmot keeps every entry as large as the smallest one kept, so it prunes too little
    where magnitudes repeat: in a constant or an already clustered kernel.
    """

    def _update_mask(self, weights: Any) -> tuple[Any, Any]:
        """Return the magnitude of the smallest entry kept, and the mask."""
        sparsity = self._pruning_schedule(self._step_fn())[1]
        magnitudes = tf.reshape(tf.abs(weights), (-1,))
        size = magnitudes.shape[0]
        kept = tf.round(size * (1 - tf.cast(sparsity, tf.float64)))
        # A stable sort breaks ties by position, so zeros stay where they are.
        order = tf.argsort(magnitudes, direction="DESCENDING", stable=True)
        kept = tf.maximum(tf.cast(kept, tf.int32), 1)
        places = tf.range(size) < kept
        mask = tf.scatter_nd(order[:, None], tf.cast(places, weights.dtype), (size,))
        threshold = tf.gather(magnitudes, tf.gather(order, kept - 1))
        return tf.cast(threshold, weights.dtype), tf.reshape(mask, weights.shape)


class PrunedLayer(SeeThrough, PruneLowMagnitude):
    """A layer whose kernels are masked, on a schedule or as they are."""

    pruning_obj: Any

    def __init__(self, layer: Layer, *args: Any, **settings: Any) -> None:
        if not hasattr(layer, "get_prunable_weights"):
            layer.get_prunable_weights = lambda: list(prunable_kernels(layer).values())
        super().__init__(layer, *args, **{"dtype": layer.dtype_policy, **settings})
        self.show_layer()

    def build(self, input_shape: Any) -> None:
        """Add masks, and the object that sets them."""
        super().build(input_shape)
        own = self.pruning_obj
        self.pruning_obj = ExactMasks(
            training_step_fn=own._step_fn,
            pruning_vars=self.pruning_vars,
            pruning_schedule=self.pruning_schedule,
            block_size=self.block_size,
            block_pooling_type=self.block_pooling_type,
            sparsity_m_by_n=self.sparsity_m_by_n,
        )

    def call(self, inputs: Any, training: Any = None, mask: Any = None, **arguments: Any) -> Any:
        """Return the outputs of the layer with masked kernels."""
        return super().call(inputs, training=training, **self.mask_arguments(mask), **arguments)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments; tfmot's own forgets ``sparsity_m_by_n``."""
        return {**super().get_config(), "sparsity_m_by_n": self.sparsity_m_by_n}

    def mask_present_zeros(self) -> None:
        """Set every mask to the entries that are not zero now."""
        for kernel, mask, _ in self.pruning_vars:
            mask.assign(tf.cast(tf.not_equal(kernel, 0), mask.dtype))

    def settle(self, plain: Layer) -> None:
        """Copy the weights into a plain layer of the same config, masks multiplied in."""
        masks = {id(kernel): mask.numpy() for kernel, mask, _ in self.pruning_vars}
        plain.set_weights(
            [weight.numpy() * masks.get(id(weight), 1) for weight in self.layer.weights]
        )

    def is_at_target(self) -> bool:
        """Return whether every mask has its final number of zeros."""
        return all(
            np.count_nonzero(mask.numpy() == 0) >= fewest_zeros(mask.shape, self._target())
            for _, mask, _ in self.pruning_vars
        )

    def _target(self) -> float:
        if self.sparsity_m_by_n:
            return 0.5
        schedule = self.pruning_schedule
        name = "final_sparsity" if hasattr(schedule, "final_sparsity") else "target_sparsity"
        return float(getattr(schedule, name))


def keeping_zeros(layer: Layer) -> PrunedLayer:
    """Return an unbuilt layer wrapped so that its zeros stay, once its masks are set."""
    # A schedule that ends before the first step never changes a mask.
    never = ConstantSparsity(0.0, begin_step=0, end_step=0, frequency=1)
    return PrunedLayer(layer, pruning_schedule=never)


def prunable_kernels(layer: Layer) -> Mapping[str, Any]:
    """Return the kernels of a layer that pruning masks, attribute path to variable."""
    kernels = graph.kernels_of(layer)
    only = _PRUNABLE_KERNEL.get(type(layer))
    return {name: variable for name, variable in kernels.items() if only in (None, name)}


def fewest_zeros(shape: Any, share: float) -> int:
    """Return the zeros that a kernel pruned to a share must hold; one entry is always kept.

    Rounding to whole entries may go either way where it is close, as the share was
    computed in float32.

    Example:
        >>> fewest_zeros((4, 5), 0.9), fewest_zeros((2,), 0.99)
        (18, 1)
    """
    size = math.prod(shape)
    kept = math.floor(size * (1 - share) + 0.5 + 1e-3 + 1e-6 * size)
    return size - max(kept, 1)


CUSTOM_OBJECTS: Mapping[str, Any] = {"PrunedLayer": PrunedLayer}
"""Classes that a saved model in the middle of pruning needs to load."""
