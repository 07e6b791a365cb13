"""tfopt makes Keras models small and fast, and proves it on the exported file.

Importing it imports nothing heavy and changes nothing in the process; each name below
loads what it needs when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tfopt import callbacks as callbacks
    from tfopt.api.compress import Distiller as Distiller
    from tfopt.api.compress import DistributedGradientTape as DistributedGradientTape
    from tfopt.api.compress import DistributedOptimizer as DistributedOptimizer
    from tfopt.api.compress import Elastic as Elastic
    from tfopt.api.compress import ElasticResult as ElasticResult
    from tfopt.api.compress import cache_teacher as cache_teacher
    from tfopt.api.compress import cluster as cluster
    from tfopt.api.compress import conversion_of as conversion_of
    from tfopt.api.compress import distill as distill
    from tfopt.api.compress import export_litert as export_litert
    from tfopt.api.compress import fine_tune as fine_tune
    from tfopt.api.compress import fit_elastic as fit_elastic
    from tfopt.api.compress import initialization_of as initialization_of
    from tfopt.api.compress import load as load
    from tfopt.api.compress import load_transformer as load_transformer
    from tfopt.api.compress import prune as prune
    from tfopt.api.compress import quantize as quantize
    from tfopt.api.compress import save as save
    from tfopt.api.compress import sequence_log_likelihood as sequence_log_likelihood
    from tfopt.api.compress import strip as strip
    from tfopt.api.compress import to_keras3 as to_keras3
    from tfopt.api.compress import to_tf_keras as to_tf_keras
    from tfopt.api.compress import tokenize as tokenize

_FUNCTIONS = (
    "Distiller",
    "DistributedGradientTape",
    "DistributedOptimizer",
    "Elastic",
    "ElasticResult",
    "cache_teacher",
    "cluster",
    "conversion_of",
    "distill",
    "export_litert",
    "fine_tune",
    "fit_elastic",
    "initialization_of",
    "load",
    "load_transformer",
    "prune",
    "quantize",
    "save",
    "sequence_log_likelihood",
    "strip",
    "to_keras3",
    "to_tf_keras",
    "tokenize",
)

_MODULES = ("callbacks",)

__all__ = ["__version__", *_FUNCTIONS, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module("tfopt.api.compress"), name)
    if name in _MODULES:
        return importlib.import_module(f"tfopt.{name}")
    raise AttributeError(f"module 'tfopt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_FUNCTIONS, *_MODULES])
