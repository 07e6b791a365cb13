"""The one door to tensorflow_model_optimization, which leaves the process as it was.

Importing tfmot 0.8.1 sets ``TF_USE_LEGACY_KERAS=1`` for the whole process
(``python/core/keras/compat.py``) and then touches ``tf.keras``, which is decided by that
variable once, at the first touch. So ``tf.keras`` is touched here before, under the
caller's own setting, and the variable is put back afterwards.
"""

from __future__ import annotations

import os
import warnings

import tensorflow as tf

_VARIABLE = "TF_USE_LEGACY_KERAS"
_before = os.environ.get(_VARIABLE)
_touched = tf.keras.Model
try:
    with warnings.catch_warnings():
        # tfmot compares versions with distutils, which setuptools deprecates.
        warnings.filterwarnings("ignore", "distutils Version classes", DeprecationWarning)
        from tensorflow_model_optimization.python.core.quantization.keras import quant_ops
        from tensorflow_model_optimization.python.core.quantization.keras.quantize_config import (
            QuantizeConfig,
        )
        from tensorflow_model_optimization.python.core.quantization.keras.quantize_layer import (
            QuantizeLayer,
        )
        from tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper import (
            QuantizeWrapperV2,
        )
        from tensorflow_model_optimization.python.core.quantization.keras.quantizers import (
            Quantizer,
        )
        from tensorflow_model_optimization.python.core.sparsity.keras.prune_registry import (
            PruneRegistry,
        )
        from tensorflow_model_optimization.python.core.sparsity.keras.pruning_callbacks import (
            UpdatePruningStep,
        )
        from tensorflow_model_optimization.python.core.sparsity.keras.pruning_impl import Pruning
        from tensorflow_model_optimization.python.core.sparsity.keras.pruning_schedule import (
            ConstantSparsity,
            PolynomialDecay,
        )
        from tensorflow_model_optimization.python.core.sparsity.keras.pruning_wrapper import (
            PruneLowMagnitude,
        )
finally:
    if _before is None:
        os.environ.pop(_VARIABLE, None)
    else:
        os.environ[_VARIABLE] = _before

__all__ = [
    "ConstantSparsity",
    "PolynomialDecay",
    "PruneLowMagnitude",
    "PruneRegistry",
    "Pruning",
    "QuantizeConfig",
    "QuantizeLayer",
    "QuantizeWrapperV2",
    "Quantizer",
    "UpdatePruningStep",
    "quant_ops",
]
