"""The components a recipe can name, as literal tables; nothing is imported until asked."""

from __future__ import annotations

from collections.abc import Mapping

SOURCES: Mapping[str, str] = {
    "mnist5k": "tfopt.data.builtin:load_mnist5k",
    "digits": "tfopt.data.builtin:load_digits_8x8",
    "npz": "tfopt.data.npz:load_npz",
    "images": "tfopt.data.images:load_images",
    "tfrecord": "tfopt.data.tfrecord:load_tfrecord",
    "csv": "tfopt.data.csv_file:load_csv",
    "tfds": "tfopt.data.tfds:load_tfds",
}

BUILDERS: Mapping[str, str] = {
    "lenet5": "tfopt.models.lenet:lenet5",
    "lenet300": "tfopt.models.lenet:lenet300",
    "resnet8": "tfopt.models.tiny:resnet8",
    "dscnn": "tfopt.models.tiny:dscnn",
    "mobilenet_v2": "tfopt.models.mobilenet:mobilenet_v2",
}

PASSES: Mapping[str, str] = {
    "prune": "tfopt.compression.prune:Prune",
    "cluster": "tfopt.compression.cluster:Cluster",
    "quantize": "tfopt.compression.quantize:Quantize",
}

EXPORTERS: Mapping[str, str] = {
    "litert": "tfopt.export.litert:export_litert",
}
