"""One layer of Keras 3 in a model of its own: what layer_cases.py is a table of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import layers as L  # noqa: N812  # as every Keras user writes it

Shape = tuple[int | None, ...]
Settings = Mapping[str, Any] | Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class Case:
    """One layer, in a model of its own.

    Attributes:
        name: Public name of the class.
        settings: Constructor arguments, or a function that makes them.
        inputs: Shapes without the batch.
        dtype: Of every input.
        how: What is expected to become of it.
        call: Further arguments of the call.
        masked: Whether a Masking layer comes first.
        joined: Whether several inputs are passed as one list, not one by one.
        wrap: How the inputs become the arguments; None passes them as they are.
        made_by: A class in place of the public one, which cannot be called by itself.
        step: Whether Keras 3 itself can train it.
    """

    name: str
    settings: Settings
    inputs: tuple[Shape, ...]
    dtype: str = "float32"
    how: str = "native"
    call: Mapping[str, Any] = field(default_factory=dict)
    masked: bool = False
    joined: bool = False
    wrap: Callable[[list[Any]], Sequence[Any]] | None = None
    made_by: Callable[..., Any] | None = None
    step: bool = True

    @property
    def text(self) -> str:
        """Return the settings that are not the plainest, for a table."""
        settings = "..." if callable(self.settings) else self.settings
        parts = [] if settings == "..." else [f"{k}={v!r}" for k, v in settings.items()]
        parts += [f"call:{key}={value!r}" for key, value in self.call.items()]
        parts += ["masked"] * self.masked + [self.dtype] * (self.dtype != "float32")
        return f"{self.name}({', '.join(parts) or settings or ''})".replace("{}", "")

    def layer(self) -> Any:
        """Return a new layer."""
        settings = self.settings() if callable(self.settings) else self.settings
        return (self.made_by or getattr(L, self.name))(**settings)

    def model(self) -> Any:
        """Return a new model of the layer, with weights that are all different."""
        keras.utils.set_random_seed(1)
        inputs = [keras.Input(shape, dtype=self.dtype) for shape in self.inputs]
        tensors = [L.Masking()(one) if self.masked else one for one in inputs]
        arguments: Sequence[Any] = [tensors] if self.joined else tensors
        if self.wrap is not None:
            arguments = self.wrap(tensors)
        is_input = self.name == "InputLayer"  # keras.Input made it
        outputs = tensors if is_input else self.layer()(*arguments, **self.call)
        model = keras.Model(inputs, outputs)
        scatter(model)
        return model


def scatter(model: Any) -> None:
    """Move every float weight a little, so that none of them is 0, 1 or like another."""
    rng = np.random.default_rng(7)
    for weight in model.weights:
        if str(weight.dtype).startswith(("float", "bfloat")):
            noise = rng.uniform(0.01, 0.1, size=tuple(weight.shape)).astype("float32")
            weight.assign(np.asarray(weight, "float32") + noise)


def on(name: str, *settings: Settings, at: Any, **options: Any) -> list[Case]:
    """Return one case for each of several settings; ``at`` is a shape, or a list of them."""
    inputs = tuple(at) if isinstance(at, list) else (at,)
    return [Case(name, one, inputs, **options) for one in settings or ({},)]


def public_layers() -> dict[str, tuple[str, ...]]:
    """Return the public names of each class of ``keras.layers``, under the first of them."""
    names: dict[type, list[str]] = {}
    for name in dir(L):
        value = getattr(L, name)
        if isinstance(value, type) and value is not keras.InputSpec:
            names.setdefault(value, []).append(name)
    return {
        (value.__name__ if value.__name__ in found else found[0]): tuple(found)
        for value, found in names.items()
    }
