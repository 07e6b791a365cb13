"""Classes that a model in the middle of a step is saved with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfopt.compression.pruning.magnitude import CUSTOM_OBJECTS as PRUNE_OBJECTS
from tfopt.compression.quantization.qat import CUSTOM_OBJECTS as QUANTIZE_OBJECTS

STEP_OBJECTS: Mapping[str, Any] = {**PRUNE_OBJECTS, **QUANTIZE_OBJECTS}
"""Class name to class, for ``custom_objects`` of tf_keras."""
