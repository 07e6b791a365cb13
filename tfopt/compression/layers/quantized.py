"""The layers that tfopt wraps around, or puts between, those of a model to quantize it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfopt.compression.layers.base import SeeThrough
from tfopt.compression.layers.fake_quant import ActivationQuantizer, KernelQuantizer
from tfopt.compression.tfmot import QuantizeConfig, QuantizeLayer, Quantizer, QuantizeWrapperV2
from tfopt.keras2.core import Layer


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


class SchemedLayer(SeeThrough, QuantizeWrapperV2):
    """A layer whose kernels pass through a ``KernelScheme`` on every call.

    Regularizers and constraints of a kernel that is gathered from shared values act on
    the kernel it replaces, and so on nothing; all others work as before.
    """

    def __init__(self, layer: Layer, *args: Any, **settings: Any) -> None:
        super().__init__(layer, *args, **{"dtype": layer.dtype_policy, **settings})
        self.show_layer()

    def call(self, inputs: Any, training: Any = None, mask: Any = None, **arguments: Any) -> Any:
        """Return the outputs of the layer with its effective kernels."""
        return super().call(inputs, training=training, **self.mask_arguments(mask), **arguments)

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

    def rounded_kernels(self) -> dict[str, np.ndarray]:
        """Return each kernel as the layer computes with it, after rounding."""
        return {
            name: np.asarray(quantizer(kernel, training=False, weights=state))
            for name, (kernel, quantizer, state) in self.kernels().items()
        }


def _without(weights: Sequence[Any], removed: Sequence[Any]) -> list[Any]:
    ids = {id(weight) for weight in removed}
    return [weight for weight in weights if id(weight) not in ids]


class RangeLayer(QuantizeLayer):
    """A layer that emulates an 8-bit tensor, built once and configured by nothing."""

    def __init__(self, **settings: Any) -> None:
        # Fake quantization has no float16 kernel, so a mixed global policy must not reach it.
        super().__init__(ActivationQuantizer(), **{"dtype": "float32", **settings})
        self.supports_masking = True

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
