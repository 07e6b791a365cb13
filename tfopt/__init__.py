"""tfopt makes Keras models small and fast, and proves it on the exported file.

Importing it imports nothing heavy and changes nothing in the process; each name below
loads what it needs when it is first used.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from tfopt.version import __version__

_PUBLIC: Mapping[str, str] = {
    "Distiller": "tfopt.distillation.distiller",
    "DistributedGradientTape": "tfopt.distributed.horovod.tape",
    "DistributedOptimizer": "tfopt.distributed.horovod.optimizer",
    "Elastic": "tfopt.distributed.elastic.settings",
    "ElasticResult": "tfopt.distributed.elastic.settings",
    "cache_teacher": "tfopt.distillation.cache",
    "callbacks": "tfopt.callbacks",
    "cluster": "tfopt.api.compress",
    "conversion_of": "tfopt.bridge.provenance",
    "distill": "tfopt.api.distill",
    "export_litert": "tfopt.api.export",
    "fine_tune": "tfopt.api.fine_tune",
    "fit_elastic": "tfopt.distributed.elastic.fit",
    "initialization_of": "tfopt.models.transformers.initialization",
    "load": "tfopt.api.models",
    "load_transformer": "tfopt.api.models",
    "prune": "tfopt.api.compress",
    "quantize": "tfopt.api.compress",
    "save": "tfopt.api.models",
    "sequence_log_likelihood": "tfopt.models.transformers.likelihood",
    "strip": "tfopt.api.models",
    "to_keras3": "tfopt.bridge.to_keras3.convert",
    "to_tf_keras": "tfopt.bridge.to_tf_keras.convert",
    "tokenize": "tfopt.data.text.load",
}
"""Each public name and its module; ``__init__.pyi`` says the same to type checkers."""

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tfopt' has no attribute {name!r}")
    module = importlib.import_module(_PUBLIC[name])
    return module if module.__name__ == f"tfopt.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
