"""Round activations and kernels to 8 bits in training, as the integer kernels of LiteRT do.

tfmot's own quantizers start at ranges of +-6, keep masks and clusters as constants that a
reload drops, and share one mutable quantizer between all layers of a kind
(``prune_preserve_quantize_registry.py``, ``cluster_preserve_quantize_registry.py`` of
tfmot 0.8.1). These keep every piece of state in a variable of the wrapper, so a model in
the middle of a step saves, loads and resumes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfopt.compression.tfmot import Quantizer, quant_ops
from tfopt.distributed import replica_context
from tfopt.keras2.core import Layer

EMA_DECAY = 0.99
"""Decay of activation ranges. tfmot's 0.999 is for ranges that start at +-6; these start
calibrated and only have to follow the weights."""


class ActivationQuantizer(Quantizer):
    """Emulate 8-bit activations, with a range that is first observed, then averaged.

    Attributes:
        observing: While true, values pass unchanged and each batch's smallest and
            largest value are kept in ``seen``.
        seen: ``(min, max)`` of each observed batch.
    """

    def __init__(self) -> None:
        self.observing = False
        self.seen: list[tuple[float, float]] = []

    def build(self, tensor_shape: Any, name: str, layer: Layer) -> dict[str, Any]:
        """Add the range to the layer; an uncalibrated range is empty, not +-6."""
        return {
            f"{end}_var": layer.add_weight(
                f"{name}_{end}",
                shape=(),
                initializer="zeros",
                trainable=False,
                # Each replica of tf.distribute assigns to its own copy; all assign the same.
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            for end in ("min", "max")
        }

    def __call__(self, inputs: Any, training: Any, weights: Mapping[str, Any], **_: Any) -> Any:
        """Return ``inputs`` rounded to 256 levels within the range."""
        if self.observing:
            self.seen.append((float(tf.reduce_min(inputs)), float(tf.reduce_max(inputs))))
            return inputs
        low, high = weights["min_var"], weights["max_var"]
        if training:
            low, high = _follow(inputs, low, high)
        return tf.quantization.fake_quant_with_min_max_vars(inputs, low, high, num_bits=8)

    def get_config(self) -> dict[str, Any]:
        """Return an empty config: all state is in variables."""
        return {}


def _follow(inputs: Any, low: Any, high: Any) -> tuple[Any, Any]:
    """Move a range towards that of a batch, and return it.

    A batch that is zero throughout says nothing about the range, and an empty range
    takes the first batch that does: a tensor that is dead for a while keeps a range. The batch
    is that of all replicas, one small exchange for each tensor: the next layer computes
    with the range, so that the exchanges of a step cannot wait for each other.
    """
    # How far it reaches below and above zero.
    ends = tf.maximum(tf.stack([-tf.reduce_min(inputs), tf.reduce_max(inputs)]), 0.0)
    below, batch_high = tf.unstack(replica_context.largest(ends))
    batch_low = -below
    is_empty = tf.equal(low, high)
    step = tf.where(is_empty, 1.0, 1.0 - EMA_DECAY)
    step = tf.where(batch_high > batch_low, step, 0.0)
    return (
        low.assign(low + step * (batch_low - low)),
        high.assign(high + step * (batch_high - high)),
    )


class KernelQuantizer(Quantizer):
    """Emulate an 8-bit kernel, and keep the zeros and shared values it came with.

    Args:
        bits: 8, or None to share values without rounding (the ``cluster`` step).
        channels: Where the ranges are: ``none`` gives the kernel one; ``last`` one for
            each entry of the last axis; ``depthwise`` one for each pair of the last two
            axes (input channel, multiplier). tfmot 0.8.1 gives a depthwise kernel as
            many ranges as its multiplier, which is one; LiteRT has one a channel.
        masked: Zeros of the kernel stay zero.
        shared: Number of distinct values the kernel is gathered from; 0 trains every
            entry on its own.
    """

    def __init__(
        self,
        *,
        bits: int | None = 8,
        channels: str = "none",
        masked: bool = False,
        shared: int = 0,
    ) -> None:
        self.bits = bits
        self.channels = channels
        self.masked = masked
        self.shared = shared

    def build(self, tensor_shape: Any, name: str, layer: Layer) -> dict[str, Any]:
        """Add range, mask, shared values and their indices to the layer."""
        weights: dict[str, Any] = {}

        def add(key: str, shape: Any, *, trainable: bool = False, dtype: str = "float32") -> None:
            initial = "ones" if key == "mask" else "zeros"
            weights[key] = layer.add_weight(
                f"{name}_{key}", shape=shape, initializer=initial, trainable=trainable, dtype=dtype
            )

        if self.bits:
            counted = {"none": 0, "last": 1, "depthwise": 2}[self.channels]
            ends = (math.prod(tensor_shape[-counted:]),) if counted else ()
            add("min_var", ends)
            add("max_var", ends)
        if self.masked:
            add("mask", tensor_shape)
        if self.shared:
            add("values", (self.shared,), trainable=True)
            add("indices", tensor_shape, dtype="int32")
        return weights

    def __call__(self, inputs: Any, training: Any, weights: Mapping[str, Any], **_: Any) -> Any:
        """Return the kernel that the layer computes with."""
        kernel = self.effective(inputs, weights)
        if not self.bits:
            return kernel
        shape = kernel.shape
        if self.channels == "depthwise":
            # Four axes: the converter folds no other reshape of a rounded kernel.
            kernel = tf.reshape(kernel, (*shape[:-2], 1, shape[-2] * shape[-1]))
        rounded = quant_ops.LastValueQuantize(
            kernel,
            weights["min_var"],
            weights["max_var"],
            is_training=training,
            num_bits=self.bits,
            per_channel=self.channels != "none",
            symmetric=True,
            narrow_range=True,
        )
        return tf.reshape(rounded, shape)

    def effective(self, inputs: Any, weights: Mapping[str, Any]) -> Any:
        """Return the kernel before rounding: gathered from its values, zeros kept."""
        kernel = tf.gather(weights["values"], weights["indices"]) if self.shared else inputs
        return kernel * weights["mask"] if self.masked else kernel

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        names = ("bits", "channels", "masked", "shared")
        return {name: getattr(self, name) for name in names}
