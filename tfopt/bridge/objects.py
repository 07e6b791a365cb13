"""Every class and function of ours that a converted tf_keras model is saved with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfopt.bridge import fallback, mask_layers, operations, settings, transformers

OBJECTS: Mapping[str, Any] = {
    **settings.OBJECTS,
    **fallback.OBJECTS,
    **mask_layers.OBJECTS,
    **operations.OBJECTS,
    **transformers.OBJECTS,
}
