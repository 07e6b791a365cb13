"""What a conversion between the two Kerases has shown about itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from tfopt.bridge.to_tf_keras.twin import How


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What became of one layer or operation.

    Attributes:
        name: Its name in the source model.
        class_name: Its class there.
        how: See ``Twin``.
        note: Why it is not native, or what was merged; empty for nothing.
    """

    name: str
    class_name: str
    how: How
    note: str = ""


@dataclass(frozen=True, slots=True)
class Parity:
    """Outputs of both models on the same inputs.

    Attributes:
        rows: Examples compared.
        max_abs_error: Largest difference of any output entry.
        relative_error: That over the largest magnitude of the same output.
        tolerance: Largest allowed ``relative_error``.
        sensitivity: How much the outputs of two examples differ, over their magnitude. Near
            zero equal outputs would say little, so every layer's output was compared.
        calibrated: Whether batch normalization was given the statistics of the random
            inputs for the comparison (and its own back afterwards).
        on_user_data: Whether the inputs are the caller's.
        finite_fraction: Fraction of the floating-point output entries that are not NaN or
            infinite; those that are must be so in both models.
    """

    rows: int
    max_abs_error: float
    relative_error: float
    tolerance: float
    sensitivity: float
    calibrated: bool
    on_user_data: bool
    finite_fraction: float = 1.0


@dataclass(frozen=True, slots=True)
class Conversion:
    """One model converted, with its evidence.

    Attributes:
        to: The Keras that it was converted to.
        layers: What became of each layer, in the order they run, nested ones included.
        weights: Weights mapped one to one.
        parameters: Entries of those weights.
        parity: The comparisons; random inputs first.
        notices: What the conversion could not take along.
    """

    to: Literal["tf_keras", "keras3"]
    layers: tuple[LayerReport, ...]
    weights: int
    parameters: int
    parity: tuple[Parity, ...]
    notices: tuple[str, ...] = ()

    @property
    def relative_error(self) -> float:
        """Return the largest relative difference of any comparison."""
        return max((one.relative_error for one in self.parity), default=0.0)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return a line for every layer that runs as it is, and the notices."""
        as_they_are = tuple(
            f"{layer.name} ({layer.class_name}) runs its Keras 3 code: {layer.note or 'its own'}"
            for layer in self.layers
            if layer.how == "fallback"
        )
        return (*as_they_are, *self.notices)

    def __str__(self) -> str:
        """Return one line for a person."""
        kinds = Counter(layer.how for layer in self.layers)
        how = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        return (
            f"{self.weights} weights, {self.parameters:,} parameters; {how}; outputs differ by "
            f"{self.relative_error:.1g} at most (relative)"
        )
