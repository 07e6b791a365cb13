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
    from tfopt.api import Distiller as Distiller
    from tfopt.api import DistributedGradientTape as DistributedGradientTape
    from tfopt.api import DistributedOptimizer as DistributedOptimizer
    from tfopt.api import Elastic as Elastic
    from tfopt.api import ElasticResult as ElasticResult
    from tfopt.api import cache_teacher as cache_teacher
    from tfopt.api import cluster as cluster
    from tfopt.api import conversion_of as conversion_of
    from tfopt.api import distill as distill
    from tfopt.api import export_litert as export_litert
    from tfopt.api import fine_tune as fine_tune
    from tfopt.api import fit_elastic as fit_elastic
    from tfopt.api import initialization_of as initialization_of
    from tfopt.api import load as load
    from tfopt.api import load_transformer as load_transformer
    from tfopt.api import prune as prune
    from tfopt.api import quantize as quantize
    from tfopt.api import save as save
    from tfopt.api import sequence_log_likelihood as sequence_log_likelihood
    from tfopt.api import strip as strip
    from tfopt.api import to_keras3 as to_keras3
    from tfopt.api import to_tf_keras as to_tf_keras
    from tfopt.api import tokenize as tokenize

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
        return getattr(importlib.import_module("tfopt.api"), name)
    if name in _MODULES:
        return importlib.import_module(f"tfopt.{name}")
    raise AttributeError(f"module 'tfopt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_FUNCTIONS, *_MODULES])
