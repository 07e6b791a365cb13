"""Say of every layer of a transformer where its weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tfopt.keras2.core import Model

_RECORD = "_tfopt_initialization"


@dataclass(frozen=True, slots=True)
class Initialization:
    """Where the weights of a model come from.

    Attributes:
        checkpoint: Folder of the pretrained model; None if there was none.
        loaded: Layers whose weights are those of the files.
        derived: Layers whose weights are computed from the files, and how.
        new: Layers with random weights, and why.
        unused: Tensors of the files that have no place in the model, and why.
    """

    checkpoint: str | None
    loaded: tuple[str, ...] = ()
    derived: Mapping[str, str] = field(default_factory=dict)
    new: Mapping[str, str] = field(default_factory=dict)
    unused: Mapping[str, str] = field(default_factory=dict)

    def summary(self) -> str:
        """Return one line, such as ``76 layers loaded, 1 new (classifier: a new head)``."""
        parts = [f"{len(self.loaded)} layers loaded"]
        for word, layers in (("derived", self.derived), ("new", self.new)):
            if layers:
                first, why = next(iter(layers.items()))
                more = f", and {len(layers) - 1} more" if len(layers) > 1 else ""
                parts.append(f"{len(layers)} {word} ({first}: {why}{more})")
        return ", ".join(parts)

    def notes(self) -> list[str]:
        """Return lines on where the weights come from, with every layer that is not loaded."""
        if self.checkpoint is None:
            return [f"weights at the beginning: random in all {len(self.new)} layers"]
        lines = [f"weights at the beginning: {len(self.loaded)} layers of {self.checkpoint}"]
        for word, layers in (("derived", self.derived), ("random", self.new)):
            for why in dict.fromkeys(layers.values()):
                names = [name for name, reason in layers.items() if reason == why]
                lines.append(f"weights at the beginning: {word} ({why}): {', '.join(names)}")
        return lines


def initialization_of(model: Model) -> Initialization | None:
    """Return where the weights of a built transformer came from; None for other models."""
    return getattr(model, _RECORD, None)


def remember_initialization(model: Model, record: Initialization) -> None:
    """Keep the record with the model, for this process."""
    setattr(model, _RECORD, record)


def carry_initialization(source: Model, model: Model) -> None:
    """Keep the record of a model with one that has other layers on top of its own."""
    record = initialization_of(source)
    if record is None:
        return
    names = [layer.name for layer in model.layers if layer.weights]
    own = {layer.name for layer in source.layers}
    added = {name: "a new head" for name in names if name not in own}
    kept = {name: why for name, why in record.new.items() if name in names}
    loaded = tuple(name for name in record.loaded if name in names)
    remember_initialization(model, replace(record, loaded=loaded, new={**kept, **added}))
