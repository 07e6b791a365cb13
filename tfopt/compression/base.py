"""The contract that prune, cluster and quantize share."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from tfopt.errors import InputError
from tfopt.keras2.core import Model
from tfopt.registry import did_you_mean
from tfopt.results import LayerDecision

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class StepContext:
    """What a pass needs to know beyond its settings.

    Attributes:
        total_steps: Training steps of this pass: epochs times steps an epoch.
        calibration: Returns batches of training inputs, the same ones each time.
    """

    total_steps: int
    calibration: Callable[[], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a pass achieved, measured on the finished model.

    Attributes:
        evidence: Numbers of the whole model.
        layers: One decision and measurement for each layer with weights.
        notes: Anything the user should know.
    """

    evidence: Mapping[str, Any]
    layers: Sequence[LayerDecision]
    notes: Sequence[str] = field(default=())


class CompressionPass(Protocol):
    """One way to make a model smaller: wrap, train, unwrap, measure.

    Implementations keep no state between calls, so a pass can be applied to two
    models, or resumed in another process.
    """

    name: str

    def decide(self, model: Model) -> list[LayerDecision]:
        """Return, for each layer with weights, what will be done or why not.

        Raises:
            InputError: If a layer pattern of the settings matches nothing.
        """

    def wrap(self, model: Model, context: StepContext) -> Model:
        """Return a trainable copy of ``model`` with this pass inserted."""

    def callbacks(self) -> list[Any]:
        """Return the callbacks that ``fit`` needs while ``wrap`` is in force."""

    def at_target(self, wrapped: Model) -> bool:
        """Return whether the wrapped model is as compressed as promised."""

    def unwrap(self, wrapped: Model) -> Model:
        """Return the model with the training-only parts of this pass removed."""

    def measure(self, before: Model, after: Model, context: StepContext) -> Measurement:
        """Return what this pass achieved on an unwrapped model.

        Raises:
            VerificationError: If it is not what the settings promised.
        """


def by_pattern(
    patterns: Mapping[str, Value], reasons: Mapping[str, str], default: Value, *, setting: str
) -> dict[str, Value]:
    """Return each layer's value: of the last pattern that matches it, or the default.

    Args:
        patterns: Shell-style pattern (``conv*``) to value.
        reasons: Layer name to why the step cannot change the layer; empty if it can.
        default: Value of layers that no pattern matches.
        setting: The setting's name, for the message.

    Returns:
        Name to value of every layer that the step can change.

    Raises:
        InputError: If a pattern matches no layer that the step can change.

    Example:
        >>> by_pattern({"conv*": 0.5}, {"conv1": "", "dense": ""}, 0.9, setting="prune.layers")
        {'conv1': 0.5, 'dense': 0.9}
    """
    able = [name for name, reason in reasons.items() if not reason]
    require_matches(patterns, able, setting=setting, unable=reasons)
    values = dict.fromkeys(able, default)
    for pattern, value in patterns.items():
        values.update(dict.fromkeys(matching(able, pattern), value))
    return values


def require_matches(
    patterns: Iterable[str],
    names: Sequence[str],
    *,
    setting: str,
    unable: Mapping[str, str] | None = None,
) -> None:
    """Raise unless every pattern matches a name.

    Args:
        patterns: Shell-style patterns.
        names: Names of the layers that the step can change.
        setting: The setting's name, for the message.
        unable: Name to why a layer cannot be changed, for the message.

    Raises:
        InputError: If a pattern matches no name; the message lists the names.
    """
    for pattern in patterns:
        if matching(names, pattern):
            continue
        reasons = unable or {}
        why = [f"{name}: {reasons[name]}" for name in matching(reasons, pattern)]
        if why:
            raise InputError(
                f"{setting}: the pattern {pattern!r} matches only layers that this step cannot "
                f"change ({'; '.join(why)})."
            )
        raise InputError(
            f"{setting}: the pattern {pattern!r} matches no layer this step can change."
            f"{did_you_mean(pattern, names)} Layers: {', '.join(names) or 'none'}."
        )


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Return the names that a shell-style pattern matches, in order."""
    return [name for name in names if fnmatch.fnmatchcase(name, pattern)]
