"""Give each weight its own learning rate and its own first step, inside one optimizer.

The rate is scaled and not the gradient: adaptive optimizers divide a gradient's scale out
again. Every tf_keras optimizer is linear in its learning rate, momentum included, and its
weight decay too, so a scaled rate is a scaled update.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tfopt.keras2.core import keras


@dataclass(frozen=True, slots=True)
class VariableRate:
    """How one variable is updated.

    Attributes:
        variable: The variable.
        multiplier: Of learning rate and weight decay, ``> 0``.
        first_step: Steps of the stage before its first update: Adam's bias correction
            counts from there, or the first updates of a weight that is unfrozen late would
            be up to ``(1 - beta_1) / sqrt(1 - beta_2)``, about three times, too large.
    """

    variable: Any
    multiplier: float
    first_step: int = 0


def with_rates(optimizer_class: type[Any]) -> type[Any]:
    """Return a subclass of a tf_keras optimizer that has ``give_rates``."""
    return type(optimizer_class.__name__, (_OwnRates, optimizer_class), {})


class _OwnRates(keras.optimizers.Optimizer):
    """Mixed into an optimizer: what it reads while it updates a variable is that variable's."""

    _current: VariableRate | None = None

    def give_rates(self, rates: Sequence[VariableRate]) -> None:
        """Set the rates; variables without one are updated as ever."""
        keyed = {self._var_key(rate.variable): rate for rate in rates}
        self._rates = self._no_dependency(keyed)

    @property
    def learning_rate(self) -> Any:
        """Return the rate, times the multiplier of the variable that is being updated."""
        rate = super().learning_rate
        return rate if self._current is None else rate * self._current.multiplier

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        keras.optimizers.Optimizer.learning_rate.fset(self, value)

    @property
    def iterations(self) -> Any:
        """Return the steps done, counted from the first one of the variable being updated."""
        steps = super().iterations
        return steps if self._current is None else steps - self._current.first_step

    @iterations.setter
    def iterations(self, variable: Any) -> None:
        keras.optimizers.Optimizer.iterations.fset(self, variable)

    def update_step(self, gradient: Any, variable: Any) -> None:
        """Update one variable; called by tf_keras."""
        with self._at(variable):
            super().update_step(gradient, variable)

    def _apply_weight_decay(self, variables: Any) -> None:
        for variable in variables:
            with self._at(variable):
                super()._apply_weight_decay([variable])

    @contextmanager
    def _at(self, variable: Any) -> Iterator[None]:
        self._current = self._rates.get(self._var_key(variable))
        try:
            yield
        finally:
            self._current = None
