"""The weights at the beginning of a stage, and what may and must have happened to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tfopt.errors import VerificationError
from tfopt.keras2.core import Layer


class InitialWeights:
    """The variables of layers, and what was in them."""

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        # As tuples, since a layer lists its weights in another order when it is frozen.
        self._variables = {name: tuple(layer.weights) for name, layer in layers.items()}
        self._trainable = {
            # Whether it may train at all, not whether its layer is frozen now.
            name: {id(variable) for variable in layer.weights if variable.trainable}
            for name, layer in layers.items()
        }
        self._values: dict[str, list[npt.NDArray[Any]]] = {
            name: [variable.numpy() for variable in variables]
            for name, variables in self._variables.items()
        }

    @property
    def parameters(self) -> int:
        """Return the number of weights."""
        return sum(value.size for values in self._values.values() for value in values)

    def value_of(self, name: str, variable: Any) -> npt.NDArray[Any]:
        """Return what was in a variable of a layer."""
        place = [id(one) for one in self._variables[name]].index(id(variable))
        return self._values[name][place]

    def require_unchanged(self, names: Iterable[str]) -> None:
        """Raise unless the weights of frozen layers are the same, bit for bit.

        Raises:
            VerificationError: Naming the first one that is not.
        """
        for name in names:
            for variable, before in zip(self._variables[name], self._values[name], strict=True):
                if variable.numpy().tobytes() != before.tobytes():
                    raise VerificationError(
                        f"Layer {name!r} was to stay frozen, but its weight "
                        f"{_name(variable)!r} changed. Something beside the optimizer writes to "
                        "it, such as the layer itself or a callback."
                    )

    def require_moved(self, names: Iterable[str]) -> None:
        """Raise unless a weight of every trained layer has changed.

        Raises:
            VerificationError: Naming the first layer that has not.
        """
        for name in names:
            if self.is_unmoved(name):
                raise VerificationError(
                    f"Layer {name!r} was to train, but none of its weights changed: no gradient "
                    "reaches it, or the learning rate is too small. Freeze it, or raise the rate."
                )

    def is_unmoved(self, name: str) -> bool:
        """Return whether no trainable weight of a layer has changed."""
        return all(
            np.array_equal(variable.numpy(), before)
            for variable, before in zip(self._variables[name], self._values[name], strict=True)
            if id(variable) in self._trainable[name]
        )

    def squares(self, name: str) -> tuple[float, float]:
        """Return the sums of squares of the change and of the start, over a layer's weights."""
        moved = origin = 0.0
        for variable, before in zip(self._variables[name], self._values[name], strict=True):
            if id(variable) in self._trainable[name]:
                moved += float(np.sum(np.square(variable.numpy().astype(np.float64) - before)))
                origin += float(np.sum(np.square(before.astype(np.float64))))
        return moved, origin


def _name(variable: Any) -> str:
    return str(variable.name).removesuffix(":0")
