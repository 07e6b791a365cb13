"""The model of a recipe: where it comes from, and what stands before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from tfopt.config.base import Section
from tfopt.config.head import Head

Initializer = Literal[
    "he_normal", "he_uniform", "glorot_normal", "glorot_uniform", "lecun_normal", "orthogonal"
]


class Preprocess(Section):
    """Layers put before the model, inside the exported graph, in this order.

    Attributes:
        grey: Turn three colour channels into one (ITU-R BT.601 luma).
        crop: Height and width of a centre crop.
        resize: Height and width after resizing (bilinear).
        scale: Multiply every value, for example ``0.00392157`` for bytes.
        mean: Subtract after scaling; one number or one a channel.
        std: Divide after subtracting; one number or one a channel.
    """

    grey: bool = False
    crop: tuple[int, int] | None = None
    resize: tuple[int, int] | None = None
    scale: float | None = None
    mean: float | tuple[float, ...] | None = None
    std: float | tuple[float, ...] | None = None


class Model(Section):
    """The model: built by name, by the user's own function, or read from a file.

    Attributes:
        builder: A built-in name or a dotted path ``package.module:function``.
        path: A ``.keras`` or ``.h5`` file of Keras 3 or Keras 2, or a SavedModel of Keras 2.
        trust: Whether Python code in that file (a Lambda) may run.
        arguments: Keyword arguments for the builder.
        initializer: Kernel initializer of the built-in builders.
        preprocess: Layers put before the model.
        head: A new head in place of the model's own.
    """

    builder: str | None = None
    path: Path | None = None
    trust: bool = False
    arguments: dict[str, Any] = Field(default_factory=dict)
    initializer: Initializer | None = None
    preprocess: Preprocess | None = None
    head: Head | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Model:
        if (self.builder is None) == (self.path is None):
            raise ValueError("set exactly one of builder and path")
        return self
