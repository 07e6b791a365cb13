"""The second half of the table in layer_cases.py: everything without a kernel of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers as L  # noqa: N812  # as every Keras user writes it
from layer_case import Case, Shape, on


def _normalizations() -> list[Case]:
    image = (5, 4, 6)
    cases = on(
        "BatchNormalization",
        {},
        {"scale": False, "momentum": 0.5, "epsilon": 1e-2},
        {"center": False, "axis": 1},
        {"trainable": False},
        {"gamma_regularizer": "l2", "beta_constraint": "non_neg"},
        at=image,
    )
    cases += on("BatchNormalization", at=(6, 3), masked=True)
    cases += on("BatchNormalization", {"renorm": True}, at=image)
    cases += on("LayerNormalization", {}, {"axis": (1, 2), "scale": False}, {"axis": 1}, at=image)
    cases += on(
        "GroupNormalization",
        {"groups": 3},
        {"groups": -1, "center": False},
        {"groups": 1},
        at=image,
    )
    cases += on("UnitNormalization", {}, {"axis": (1, 2)}, at=image)
    cases += on("RMSNormalization", {}, {"axis": (-2, -1)}, at=image, how="fallback")
    cases += on(
        "SpectralNormalization",
        lambda: {"layer": L.Conv2D(3, 2), "power_iterations": 2},
        lambda: {"layer": L.Dense(3)},
        at=image,
        how="fallback",
    )
    cases += on(
        "Normalization",
        {"mean": 3.0, "variance": 2.0},
        {"mean": [1.0, 2.0, 3.0, 1.0, 2.0, 3.0], "variance": [2.0] * 6},
        {"mean": 3.0, "variance": 2.0, "invert": True, "axis": None},
        _adapted_normalization,
        at=image,
    )
    return cases


def _adapted_normalization() -> Mapping[str, Any]:
    data = np.random.default_rng(0).normal(2, 3, size=(20, 5, 4, 6)).astype("float32")
    layer = L.Normalization(axis=-1)
    layer.adapt(data)
    return {"axis": -1, "mean": np.ravel(layer.mean), "variance": np.ravel(layer.variance)}


def _merging_and_shapes() -> list[Case]:
    two = [(5, 4), (5, 4)]
    cases = []
    for name in ("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"):
        cases += on(name, at=two, joined=True)
    cases += on("Add", at=[(5, 4), (1, 4), (4,)], joined=True)
    # compute_mask() of tf_keras cannot broadcast the masks.
    cases += on("Multiply", at=[(5, 4), (1, 1)], joined=True, masked=True, how="fallback")
    cases += on("Concatenate", {}, {"axis": 1}, at=two, joined=True)
    cases += on("Concatenate", at=two, joined=True, masked=True)
    cases += on("Dot", {"axes": 2}, {"axes": (1, 1), "normalize": True}, at=two, joined=True)
    cases += on("Flatten", at=(3, 4, 2))
    cases += on("Permute", {"dims": (3, 1, 2)}, at=(3, 4, 2))
    cases += on("Reshape", {"target_shape": (4, -1)}, {"target_shape": (24,)}, at=(3, 4, 2))
    cases += on("RepeatVector", {"n": 3}, at=(4,))
    cases += on("Identity", at=(4,))
    cases += on("Masking", {}, {"mask_value": 1.0}, at=(5, 4))
    cases += on("Lambda", lambda: {"function": lambda x: x * 2 + 1}, at=(4,))
    cases += on("Activation", {"activation": "relu"}, {"activation": "hard_sigmoid"}, at=(4,))
    cases += on("ActivityRegularization", {"l1": 0.1, "l2": 0.2}, at=(4,))
    cases += on("ReLU", {}, {"max_value": 1.0, "negative_slope": 0.1, "threshold": 0.2}, at=(4,))
    cases += on("LeakyReLU", {}, {"negative_slope": 0.05}, at=(4,))
    cases += on("PReLU", {}, {"shared_axes": [1]}, at=(3, 4))
    cases += on("ELU", {"alpha": 0.5}, at=(4,))
    cases += on("Softmax", {}, {"axis": 1}, {"axis": (1, 2)}, at=(3, 4))
    for name in ("Dropout", "AlphaDropout", "GaussianDropout"):
        cases += on(name, {"rate": 0.4}, at=(5, 4))
    cases += on("GaussianNoise", {"stddev": 0.3}, at=(5, 4))
    cases += on("Dropout", {"rate": 0.4, "noise_shape": (None, 1, 4)}, at=(5, 4))
    cases += on("InputLayer", at=(4,))
    return cases


def _pictures() -> list[Case]:
    image = (8, 6, 3)
    cases = on("Rescaling", {"scale": 1 / 255}, {"scale": 0.5, "offset": -1.0}, at=image)
    cases += on("Rescaling", {"scale": 1 / 255}, at=image, dtype="uint8")
    cases += on(
        "Resizing",
        {"height": 4, "width": 9},
        {"height": 4, "width": 9, "interpolation": "nearest"},
        {"height": 4, "width": 4, "interpolation": "bicubic", "crop_to_aspect_ratio": True},
        {"height": 12, "width": 12, "interpolation": "area"},
        at=image,
    )
    cases += on("Resizing", {"height": 4, "width": 4, "antialias": True}, at=image, how="fallback")
    cases += on(
        "Resizing",
        {"height": 9, "width": 9, "pad_to_aspect_ratio": True},
        at=image,
        how="fallback",
    )
    cases += on("CenterCrop", {"height": 3, "width": 4}, {"height": 10, "width": 9}, at=image)
    cases += on("RandomCrop", {"height": 3, "width": 4}, at=image, how="fallback")
    cases += on("RandomFlip", {}, {"mode": "vertical"}, at=image)
    cases += on("RandomRotation", {"factor": 0.2, "fill_mode": "reflect"}, at=image)
    cases += on("RandomZoom", {"height_factor": 0.2}, at=image)
    cases += on("RandomTranslation", {"height_factor": 0.2, "width_factor": 0.1}, at=image)
    cases += on("RandomContrast", {"factor": 0.2}, at=image)
    cases += on("RandomBrightness", {"factor": 0.2}, at=image)
    for name, settings in _AUGMENTATIONS.items():
        cases += on(name, settings, at=image, how="fallback")
    for name in ("MixUp", "CutMix"):
        cases += on(name, at=[image, (4,)], how="fallback", wrap=_as_labelled)
    cases += on(
        "MaxNumBoundingBoxes",
        {"max_number": 4, "bounding_box_format": "xyxy"},
        at=[image, (6, 4), (6,)],
        wrap=_as_boxes,
        how="fallback",
    )
    return cases


_AUGMENTATIONS: Mapping[str, Mapping[str, Any]] = {
    "AugMix": {},
    "AutoContrast": {},
    "ContrastLimitedAdaptiveHistogramEqualization": {"tile_grid_size": (2, 2)},
    "Pipeline": lambda: {"layers": [L.AutoContrast(), L.RandomInvert(0.5)]},  # type: ignore[dict-item]
    "RandAugment": {},
    "RandomColorDegeneration": {"factor": 0.3},
    "RandomColorJitter": {"brightness_factor": 0.2},
    "RandomElasticTransform": {"factor": 0.3},
    "RandomErasing": {},
    "RandomGaussianBlur": {},
    "RandomGrayscale": {},
    "RandomHue": {"factor": 0.3},
    "RandomInvert": {},
    "RandomPerspective": {},
    "RandomPosterization": {"factor": 4},
    "RandomSaturation": {"factor": 0.3},
    "RandomSharpness": {"factor": 0.3},
    "RandomShear": {"x_factor": (0.0, 0.2), "y_factor": (0.0, 0.3)},
    "Solarization": {},
}


def _as_labelled(tensors: list[Any]) -> Sequence[Any]:
    return [{"images": tensors[0], "labels": tensors[1]}]


def _as_boxes(tensors: list[Any]) -> Sequence[Any]:
    images, boxes, labels = tensors
    return [{"images": images, "bounding_boxes": {"boxes": boxes, "labels": labels}}]


def _features() -> list[Case]:
    words = ["the", "quick", "brown", "fox"]
    cases = []
    for mode in ("one_hot", "multi_hot", "count"):
        cases += on(
            "CategoryEncoding",
            {"num_tokens": 7, "output_mode": mode},
            at=(1,) if mode == "one_hot" else (5,),
            dtype="int32",
        )
        cases += on(
            "StringLookup", {"vocabulary": words, "output_mode": mode}, at=(1,), dtype="string"
        )
        cases += on(
            "IntegerLookup", {"vocabulary": [1, 5, 9], "output_mode": mode}, at=(1,), dtype="int64"
        )
    cases += on(
        "StringLookup",
        {"vocabulary": words},
        {"vocabulary": words, "num_oov_indices": 3, "mask_token": "a"},
        {"vocabulary": [*words, "a", "b", "1", "7"], "num_oov_indices": 0},
        {"vocabulary": words, "oov_token": "<?>", "output_mode": "multi_hot", "name": "oov"},
        at=(5,),
        dtype="string",
    )
    cases += on(
        "StringLookup",
        {"vocabulary": words, "output_mode": "tf_idf", "idf_weights": [0.1, 0.2, 0.3, 0.4]},
        at=(5,),
        dtype="string",
    )
    cases += on(
        "StringLookup",
        {"vocabulary": ["[UNK]", *words], "invert": True},
        at=(5,),
        dtype="int64",
    )
    cases += on(
        "IntegerLookup",
        {"vocabulary": [1, 5, 9]},
        {"vocabulary": [1, 5, 9], "num_oov_indices": 2, "mask_token": 0},
        at=(5,),
        dtype="int64",
    )
    cases += on(
        "TextVectorization",
        {"vocabulary": words},
        {"vocabulary": words, "output_sequence_length": 4, "standardize": "lower"},
        {"vocabulary": words, "output_mode": "count", "split": "character", "ngrams": 2},
        {"vocabulary": words, "output_mode": "tf_idf", "idf_weights": [0.1, 0.2, 0.3, 0.4]},
        at=(1,),
        dtype="string",
    )
    borders = {"bin_boundaries": [-1.0, 0.0, 0.5]}
    for mode in ("int", "multi_hot", "count"):
        cases += on("Discretization", {**borders, "output_mode": mode}, at=(5,))
    # One-hot rows of rank 3 are more than tf_keras makes.
    rows = {"output_mode": "one_hot"}
    cases += on("Discretization", {**borders, **rows}, at=(5,), how="fallback")
    cases += on("Discretization", {**borders, **rows}, at=(1,))
    cases += on(
        "Hashing",
        {"num_bins": 7},
        {"num_bins": 7, "salt": 13},
        {"num_bins": 7, "mask_value": "a"},
        {"num_bins": 7, "output_mode": "multi_hot"},
        at=(5,),
        dtype="string",
    )
    cases += on("Hashing", {"num_bins": 7, "salt": [3, 4]}, at=(5,), dtype="int32")
    cases += on(
        "HashedCrossing",
        {"num_bins": 7},
        {"num_bins": 7, "output_mode": "one_hot"},
        at=[(1,), (1,)],
        dtype="string",
        joined=True,
    )
    cases += on("MelSpectrogram", {"fft_length": 64, "num_mel_bins": 8}, at=(400,), how="fallback")
    cases += on(
        "STFTSpectrogram",
        {"frame_length": 16, "frame_step": 8},
        {"mode": "real", "frame_length": 16, "frame_step": 8},
        at=(100, 2),
        how="fallback",
    )
    return cases


def _base_classes() -> list[Case]:
    """Return cases of the classes that are there to be subclassed, and of what is refused."""
    cases = on("Layer", lambda: {"factor": 3.0}, at=(4,), how="fallback", made_by=Scale)
    cases += on("Wrapper", lambda: {"layer": L.Dense(3)}, at=(4,), how="fallback", made_by=Twice)
    cases += on("TFSMLayer", _saved_model, at=(4,), how="refused")
    # Keras 3.15 cannot load a RandomShear of these settings from its own config, and cannot put
    # Equalization into a graph (its output is its input). The others run on another backend.
    cases += on("RandomShear", {"x_factor": 0.2}, at=(8, 6, 3), how="refused")
    cases += on("Equalization", at=(8, 6, 3), how="refused")
    cases += on("JaxLayer", lambda: {"call_fn": lambda x: x}, at=(4,), how="refused")
    for name in ("FlaxLayer", "TorchModuleWrapper"):
        cases += on(name, lambda: {"module": object()}, at=(4,), how="refused")
    return cases


@keras.saving.register_keras_serializable("tfopt_layer_cases")
class Scale(L.Layer):
    """A layer of the user's own with weights, one of them a state."""

    def __init__(self, factor: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.factor = factor

    def build(self, shape: Shape) -> None:
        """Make the weights."""
        self.scale = self.add_weight(name="scale", shape=(shape[-1],), initializer="ones")
        self.calls = self.add_weight(name="calls", shape=(), trainable=False, initializer="zeros")

    def call(self, x: Any, *, training: bool = False) -> Any:
        """Multiply, and count the calls in training."""
        if training:
            self.calls.assign_add(1.0)
        return x * self.scale * self.factor

    def get_config(self) -> dict[str, Any]:
        """Return the settings."""
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable("tfopt_layer_cases")
class Twice(L.Wrapper):
    """A wrapper of the user's own."""

    def call(self, x: Any) -> Any:
        """Add the layer's output to itself."""
        return 2 * self.layer(x)


def _saved_model() -> Mapping[str, Any]:
    folder = tempfile.mkdtemp()
    module = tf.Module()
    module.serve = tf.function(lambda x: 2 * x, input_signature=[tf.TensorSpec((None, 4))])
    tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
    return {"filepath": folder, "call_endpoint": "serving_default"}


OTHERS: Sequence[Case] = (
    *_normalizations(),
    *_merging_and_shapes(),
    *_pictures(),
    *_features(),
    *_base_classes(),
)
