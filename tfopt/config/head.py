"""A new head on a model that is there already."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tfopt.config.base import Section

AUTO = "auto"


class Head(Section):
    """A new head of logits in place of a model's own.

    Attributes:
        classes: Outputs; ``auto`` is the number of classes of the data, or one number.
        pooling: How feature maps become one vector; ``none`` flattens them.
        dropout: Share of the features dropped in training.
        remove: Name of the first layer that is taken off, with all that follows. ``auto`` takes
            off what follows the last pooling or flattening, and nothing from a model that
            ends in feature maps.
    """

    classes: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    pooling: Literal["average", "max", "none"] = "average"
    dropout: float = Field(0.0, ge=0, lt=1)
    remove: str = Field(AUTO, min_length=1)
