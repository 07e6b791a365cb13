"""The components a recipe can name, as tables; nothing is imported until asked.

Installed packages add to a ``Table`` by entry points of its group; see ``docs/extending.md``.
"""

from __future__ import annotations

from collections.abc import Mapping

from tfopt.registry import Table

SOURCES = Table(
    "tfopt.sources",
    {
        "mnist5k": "tfopt.data.sources.builtin:load_mnist5k",
        "digits": "tfopt.data.sources.builtin:load_digits_8x8",
        "tweets": "tfopt.data.sources.tweets:load_tweets",
        "npz": "tfopt.data.sources.npz:load_npz",
        "images": "tfopt.data.sources.images:load_images",
        "tfrecord": "tfopt.data.sources.tfrecord:load_tfrecord",
        "csv": "tfopt.data.sources.csv:load_csv",
        "tfds": "tfopt.data.sources.tfds:load_tfds",
    },
)
"""A function from the ``data`` section to ``SourceData``."""

SOURCE_SETTINGS: Mapping[str, frozenset[str]] = {
    "mnist5k": frozenset(),
    "digits": frozenset(),
    "tweets": frozenset({"text"}),
    "npz": frozenset({"path", "text"}),
    "images": frozenset({"path", "image_size", "channels"}),
    "tfrecord": frozenset({"path", "label", "image_feature", "image_size", "channels"}),
    "csv": frozenset({"path", "label", "features", "text"}),
    "tfds": frozenset({"name", "image_size"}),
}
"""The settings of the data section that only some of tfopt's own sources read."""

SOURCES_WITH_VALIDATION = frozenset({"npz", "images", "tweets"})
"""Sources that may bring validation rows of their own, as those of packages and users may."""

DOTTED_SETTINGS = frozenset({"arguments", "text"})
"""The same, for a source that is the user's own function."""

BUILDERS = Table(
    "tfopt.builders",
    {
        "lenet5": "tfopt.models.zoo.lenet:lenet5",
        "lenet300": "tfopt.models.zoo.lenet:lenet300",
        "resnet8": "tfopt.models.zoo.mlperf_tiny:resnet8",
        "dscnn": "tfopt.models.zoo.mlperf_tiny:dscnn",
        "mobilenet_v2": "tfopt.models.zoo.mobilenet:mobilenet_v2",
        "keras_application": "tfopt.models.applications:keras_application",
        "bert": "tfopt.models.transformers.build:bert",
        "gpt2": "tfopt.models.transformers.build:gpt2",
    },
)
"""A function from the arguments that it asks for to a model."""

METRICS = Table(
    "tfopt.metrics",
    {
        "accuracy": "tfopt.evaluation.metrics:Accuracy",
        "top_5_accuracy": "tfopt.evaluation.metrics:Top5Accuracy",
        "macro_f1": "tfopt.evaluation.metrics:MacroF1",
        "mean_squared_error": "tfopt.evaluation.metrics:MeanSquaredError",
        "mean_absolute_error": "tfopt.evaluation.metrics:MeanAbsoluteError",
    },
)
"""A subclass of ``tfopt.evaluation.metrics.Metric``."""

PASSES: Mapping[str, str] = {
    "prune": "tfopt.compression.pruning.magnitude:Prune",
    "cluster": "tfopt.compression.clustering:Cluster",
    "quantize": "tfopt.compression.quantization.qat:Quantize",
}
