"""The tfmot quantizers and configs that tfopt puts into a model.

tfmot's own quantizers start at ranges of +-6, keep masks and clusters as constants that a
reload drops, and share one mutable quantizer between all layers of a kind
(``prune_preserve_quantize_registry.py``, ``cluster_preserve_quantize_registry.py`` of
tfmot 0.8.1). These keep every piece of state in a variable of the wrapper, so a model in
the middle of a step saves, loads and resumes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.compression.tfmot_door import (
    QuantizeConfig,
    QuantizeLayer,
    Quantizer,
    QuantizeWrapperV2,
    quant_ops,
)
from tfopt.legacy_keras import Layer

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
                f"{name}_{end}", shape=(), initializer="zeros", trainable=False
            )
            for end in ("min", "max")
        }

    def __call__(self, inputs: Any, training: Any, weights: Mapping[str, Any], **_: Any) -> Any:
        """Return ``inputs`` rounded to 256 levels within the range."""
        if self.observing:
            self.seen.append((float(tf.reduce_min(inputs)), float(tf.reduce_max(inputs))))
            return inputs
        return quant_ops.MovingAvgQuantize(
            inputs,
            weights["min_var"],
            weights["max_var"],
            ema_decay=EMA_DECAY,
            is_training=training,
            num_bits=8,
            symmetric=False,
            narrow_range=False,
        )

    def get_config(self) -> dict[str, Any]:
        """Return an empty config: all state is in variables."""
        return {}


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
            kernel = tf.reshape(kernel, (-1, shape[-2] * shape[-1]))
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


class KernelScheme(QuantizeConfig):
    """How the kernels of one layer are quantized or shared; activations are left alone.

    Args:
        kernels: Kernel attribute, such as ``kernel``, to the config of its quantizer.
    """

    def __init__(self, kernels: Mapping[str, Mapping[str, Any]]) -> None:
        self.kernels = {name: dict(config) for name, config in kernels.items()}
        self.quantizers = {name: KernelQuantizer(**config) for name, config in kernels.items()}

    def get_weights_and_quantizers(self, layer: Layer) -> list[tuple[Any, Quantizer]]:
        """Return each kernel with its quantizer."""
        return [(getattr(layer, name), self.quantizers[name]) for name in self.kernels]

    def get_activations_and_quantizers(self, layer: Layer) -> list[tuple[Any, Quantizer]]:
        """Return nothing: activations are quantized by layers of their own."""
        return []

    def set_quantize_weights(self, layer: Layer, quantize_weights: Sequence[Any]) -> None:
        """Put the effective kernels in place of the layer's own."""
        for name, weight in zip(self.kernels, quantize_weights, strict=True):
            setattr(layer, name, weight)

    def set_quantize_activations(self, layer: Layer, quantize_activations: Sequence[Any]) -> None:
        """Do nothing: activations are quantized by layers of their own."""
        return  # AutoGraph cannot read a function that is only a docstring

    def get_output_quantizers(self, layer: Layer) -> list[Quantizer]:
        """Return nothing: activations are quantized by layers of their own."""
        return []

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"kernels": self.kernels}


class SchemedLayer(QuantizeWrapperV2):
    """A layer whose kernels pass through a ``KernelScheme`` on every call."""

    @property
    def trainable_weights(self) -> list[Any]:
        """Return the weights that training changes; a gathered kernel is not one of them."""
        replaced = {
            id(weight)
            for weight, quantizer, _ in getattr(self, "_weight_vars", ())
            if quantizer.shared
        }
        if not self.trainable:
            return []
        return [weight for weight in super().trainable_weights if id(weight) not in replaced]

    @property
    def non_trainable_weights(self) -> list[Any]:
        """Return the other weights, each once."""
        trained = {id(weight) for weight in self.trainable_weights}
        every = [*self._trainable_weights, *self.layer.weights, *self._non_trainable_weights]
        return self._dedup_weights([weight for weight in every if id(weight) not in trained])

    def kernels(self) -> dict[str, tuple[Any, KernelQuantizer, dict[str, Any]]]:
        """Return, for each kernel attribute, its variable, quantizer and quantizer state."""
        return dict(zip(self.quantize_config.kernels, self._weight_vars, strict=True))

    def take_weights(self, original: Layer) -> None:
        """Copy the weights of a plain layer of the same config, and set what follows."""
        kernels = self.kernels()
        for name, (kernel, _, _) in kernels.items():
            kernel.assign(getattr(original, name))
        theirs = _without(original.weights, [getattr(original, name) for name in kernels])
        ours = _without(self.layer.weights, [kernel for kernel, _, _ in kernels.values()])
        for own, other in zip(ours, theirs, strict=True):
            own.assign(other)
        self.prepare()

    def give_weights(self, plain: Layer) -> None:
        """Copy the settled weights into a plain layer of the same config."""
        settled = self.settled_kernels()
        for name, values in settled.items():
            getattr(plain, name).assign(values)
        theirs = _without(plain.weights, [getattr(plain, name) for name in settled])
        ours = _without(self.layer.weights, [kernel for kernel, _, _ in self.kernels().values()])
        for own, other in zip(ours, theirs, strict=True):
            other.assign(own)

    def prepare(self) -> None:
        """Set masks, shared values and kernel ranges from the layer's present kernels."""
        for kernel, quantizer, state in self.kernels().values():
            values = kernel.numpy()
            if quantizer.masked:
                state["mask"].assign((values != 0).astype(np.float32))
            if quantizer.bits:
                quantizer(kernel, training=True, weights=state)

    def share(self, name: str, values: np.ndarray, indices: np.ndarray) -> None:
        """Set the shared values of a kernel and which entry takes which value."""
        _, _, state = self.kernels()[name]
        state["values"].assign(values)
        state["indices"].assign(indices)

    def settled_kernels(self) -> dict[str, np.ndarray]:
        """Return each kernel as the layer computes with it, before rounding."""
        return {
            name: np.asarray(quantizer.effective(kernel, state))
            for name, (kernel, quantizer, state) in self.kernels().items()
        }


def _without(weights: Sequence[Any], removed: Sequence[Any]) -> list[Any]:
    ids = {id(weight) for weight in removed}
    return [weight for weight in weights if id(weight) not in ids]


class RangeLayer(QuantizeLayer):
    """A layer that emulates an 8-bit tensor, built once and configured by nothing."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(ActivationQuantizer(), **settings)

    def build(self, input_shape: Any) -> None:
        """Add the range; tfmot's layer does not say that it is built, and a load adds it twice."""
        super().build(input_shape)
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {key: value for key, value in super().get_config().items() if key != "quantizer"}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RangeLayer:
        """Return a layer with the same settings."""
        return cls(**config)


CUSTOM_OBJECTS: Mapping[str, Any] = {
    "ActivationQuantizer": ActivationQuantizer,
    "KernelQuantizer": KernelQuantizer,
    "KernelScheme": KernelScheme,
    "SchemedLayer": SchemedLayer,
    "RangeLayer": RangeLayer,
}
"""Classes that a saved model in the middle of a step needs to load."""
