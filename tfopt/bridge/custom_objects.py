"""Every class and function of ours that a converted tf_keras model is saved with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfopt.bridge.to_tf_keras import layer_config, mask_layers, operations, wrapped_layer
from tfopt.bridge.to_tf_keras.blocks import transformers

OBJECTS: Mapping[str, Any] = {
    **layer_config.OBJECTS,
    **wrapped_layer.OBJECTS,
    **mask_layers.OBJECTS,
    **operations.OBJECTS,
    **transformers.OBJECTS,
}
