"""The components a recipe can name, as literal tables; nothing is imported until asked."""

from __future__ import annotations

from collections.abc import Mapping

SOURCES: Mapping[str, str] = {
    "mnist5k": "tfopt.data.sources.builtin:load_mnist5k",
    "digits": "tfopt.data.sources.builtin:load_digits_8x8",
    "tweets": "tfopt.data.sources.tweets:load_tweets",
    "npz": "tfopt.data.sources.npz:load_npz",
    "images": "tfopt.data.sources.images:load_images",
    "tfrecord": "tfopt.data.sources.tfrecord:load_tfrecord",
    "csv": "tfopt.data.sources.csv:load_csv",
    "tfds": "tfopt.data.sources.tfds:load_tfds",
}

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
"""The settings of the data section that only some sources read."""

SOURCES_WITH_VALIDATION = frozenset({"npz", "images", "tweets"})
"""Sources that may bring validation rows of their own, as the user's functions may."""

DOTTED_SETTINGS = frozenset({"arguments", "text"})
"""The same, for a source that is the user's own function."""

BUILDERS: Mapping[str, str] = {
    "lenet5": "tfopt.models.zoo.lenet:lenet5",
    "lenet300": "tfopt.models.zoo.lenet:lenet300",
    "resnet8": "tfopt.models.zoo.mlperf_tiny:resnet8",
    "dscnn": "tfopt.models.zoo.mlperf_tiny:dscnn",
    "mobilenet_v2": "tfopt.models.zoo.mobilenet:mobilenet_v2",
    "keras_application": "tfopt.models.applications:keras_application",
    "bert": "tfopt.models.transformers.build:bert",
    "gpt2": "tfopt.models.transformers.build:gpt2",
}

METRICS: Mapping[str, str] = {
    "accuracy": "tfopt.evaluation.metrics:Accuracy",
    "top_5_accuracy": "tfopt.evaluation.metrics:Top5Accuracy",
    "macro_f1": "tfopt.evaluation.metrics:MacroF1",
    "mean_squared_error": "tfopt.evaluation.metrics:MeanSquaredError",
    "mean_absolute_error": "tfopt.evaluation.metrics:MeanAbsoluteError",
}

PASSES: Mapping[str, str] = {
    "prune": "tfopt.compression.pruning.magnitude:Prune",
    "cluster": "tfopt.compression.clustering:Cluster",
    "quantize": "tfopt.compression.quantization.qat:Quantize",
}
