"""Every public class of ``keras.layers`` with the settings it is converted with.

One table for benchmarks/bridge_coverage.py and for the tests of tfopt/bridge/native.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers as L  # noqa: N812  # as every Keras user writes it

Shape = tuple[int | None, ...]
Settings = Mapping[str, Any] | Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class Case:
    """One layer, in a model of its own.

    Attributes:
        name: Public name of the class.
        settings: Constructor arguments, or a function that makes them.
        inputs: Shapes without the batch.
        dtype: Of every input.
        how: What is expected to become of it.
        call: Further arguments of the call.
        masked: Whether a Masking layer comes first.
        joined: Whether several inputs are passed as one list, not one by one.
        wrap: How the inputs become the arguments; None passes them as they are.
        made_by: A class in place of the public one, which cannot be called by itself.
        step: Whether Keras 3 itself can train it.
    """

    name: str
    settings: Settings
    inputs: tuple[Shape, ...]
    dtype: str = "float32"
    how: str = "native"
    call: Mapping[str, Any] = field(default_factory=dict)
    masked: bool = False
    joined: bool = False
    wrap: Callable[[list[Any]], Sequence[Any]] | None = None
    made_by: Callable[..., Any] | None = None
    step: bool = True

    @property
    def text(self) -> str:
        """Return the settings that are not the plainest, for a table."""
        settings = "..." if callable(self.settings) else self.settings
        parts = [] if settings == "..." else [f"{k}={v!r}" for k, v in settings.items()]
        parts += [f"call:{key}={value!r}" for key, value in self.call.items()]
        parts += ["masked"] * self.masked + [self.dtype] * (self.dtype != "float32")
        return f"{self.name}({', '.join(parts) or settings or ''})".replace("{}", "")

    def layer(self) -> Any:
        """Return a new layer."""
        settings = self.settings() if callable(self.settings) else self.settings
        return (self.made_by or getattr(L, self.name))(**settings)

    def model(self) -> Any:
        """Return a new model of the layer, with weights that are all different."""
        keras.utils.set_random_seed(1)
        inputs = [keras.Input(shape, dtype=self.dtype) for shape in self.inputs]
        tensors = [L.Masking()(one) if self.masked else one for one in inputs]
        arguments: Sequence[Any] = [tensors] if self.joined else tensors
        if self.wrap is not None:
            arguments = self.wrap(tensors)
        is_input = self.name == "InputLayer"  # keras.Input made it
        outputs = tensors if is_input else self.layer()(*arguments, **self.call)
        model = keras.Model(inputs, outputs)
        scatter(model)
        return model


def scatter(model: Any) -> None:
    """Move every float weight a little, so that none of them is 0, 1 or like another."""
    rng = np.random.default_rng(7)
    for weight in model.weights:
        if str(weight.dtype).startswith(("float", "bfloat")):
            noise = rng.uniform(0.01, 0.1, size=tuple(weight.shape)).astype("float32")
            weight.assign(np.asarray(weight, "float32") + noise)


def _on(name: str, *settings: Settings, at: Any, **options: Any) -> list[Case]:
    """Return one case for each of several settings; ``at`` is a shape, or a list of them."""
    inputs = tuple(at) if isinstance(at, list) else (at,)
    return [Case(name, one, inputs, **options) for one in settings or ({},)]


def _pooling() -> list[Case]:
    cases = []
    for number, side in ((1, (12,)), (2, (9, 8)), (3, (7, 6, 5))):
        at = (*side, 3)
        for kind in ("Max", "Average"):
            cases += _on(
                f"{kind}Pooling{number}D",
                {"pool_size": 2},
                {"pool_size": 3, "strides": 2, "padding": "same"},
                {"pool_size": 3, "strides": 1},
                at=at,
            )
            cases += _on(f"Global{kind}Pooling{number}D", {}, {"keepdims": True}, at=at)
            cases += _on(
                f"Adaptive{kind}Pooling{number}D", {"output_size": 3}, at=at, how="fallback"
            )
        cases += _on(f"UpSampling{number}D", {"size": 3 if number == 1 else (2,) * number}, at=at)
        ends = {1: (1, 2), 2: ((1, 0), (0, 2)), 3: ((1, 0), (0, 2), (1, 1))}[number]
        cases += _on(f"ZeroPadding{number}D", {}, {"padding": ends}, at=at)
        cases += _on(f"Cropping{number}D", {}, {"cropping": ends}, at=at)
        cases += _on(f"SpatialDropout{number}D", {"rate": 0.5}, at=at)
    cases += _on(
        "UpSampling2D",
        *({"size": (2, 3), "interpolation": one} for one in ("bilinear", "bicubic", "lanczos3")),
        at=(5, 4, 3),
    )
    cases += _on("GlobalAveragePooling1D", at=(6, 3), masked=True)
    cases += _on("GlobalMaxPooling2D", at=(None, None, 3))
    return cases


def _convolutions() -> list[Case]:
    cases = []
    for number, side in ((1, (12,)), (2, (9, 8)), (3, (7, 6, 5))):
        at = (*side, 4)
        cases += _on(
            f"Conv{number}D",
            {"filters": 4, "kernel_size": 3},
            {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same", "groups": 2},
            {"filters": 3, "kernel_size": 2, "dilation_rate": 2, "use_bias": False},
            {
                **{"filters": 3, "kernel_size": 3, "padding": "same", "activation": "hard_silu"},
                **{"kernel_regularizer": "l2", "bias_constraint": "non_neg"},
            },
            at=at,
        )
        cases += _on(
            f"Conv{number}DTranspose",
            {"filters": 5, "kernel_size": 3},
            {"filters": 5, "kernel_size": 3, "strides": 2, "padding": "same"},
            {"filters": 5, "kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 1},
            {"filters": 5, "kernel_size": 3, "strides": 2, "use_bias": False},
            at=at,
        )
    cases += _on("Conv3D", {"filters": 2, "kernel_size": (1, 2, 3), "strides": (2, 1, 2)}, at=(7,) * 4)
    cases += _on("Conv1D", {"filters": 3, "kernel_size": 3, "padding": "causal"}, at=(12, 4))
    cases += _on("Conv1DTranspose", {"filters": 3, "kernel_size": 3, "dilation_rate": 2}, at=(9, 4))
    cases += _on("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "dilation_rate": 2}, at=(9, 8, 4))
    cases += _on("Conv2D", {"filters": 4, "kernel_size": 3, "name": "open"}, at=(None, None, 3))
    for number, at in ((1, (12, 4)), (2, (9, 8, 4))):
        cases += _on(
            f"SeparableConv{number}D",
            {"filters": 5, "kernel_size": 3},
            {
                **{"filters": 5, "kernel_size": 3, "strides": 2, "padding": "same"},
                **{"depth_multiplier": 2, "activation": "relu6"},
            },
            {"filters": 5, "kernel_size": 3, "dilation_rate": 2, "use_bias": False},
            at=at,
        )
        cases += _on(
            f"DepthwiseConv{number}D",
            {"kernel_size": 3},
            {"kernel_size": 3, "strides": 2, "padding": "same", "depth_multiplier": 2},
            {"kernel_size": 3, "dilation_rate": 2, "use_bias": False, "activation": "gelu"},
            at=at,
        )
    return cases


def _dense() -> list[Case]:
    cases = _on(
        "Dense",
        {"units": 5},
        {"units": 5, "use_bias": False, "activation": "swish", "kernel_constraint": "max_norm"},
        {"units": 5, "activity_regularizer": "l2", "kernel_initializer": "orthogonal"},
        {"units": 5, "trainable": False},
        at=(3, 7),
    )
    cases += _on(
        "EinsumDense",
        {"equation": "abc,cd->abd", "output_shape": (None, 6)},
        {"equation": "abc,cde->abde", "output_shape": (None, 2, 3), "bias_axes": "de"},
        {"equation": "...x,xy->...y", "output_shape": 4, "bias_axes": "y", "activation": "tanh"},
        at=(3, 7),
    )
    cases += _on(
        "Embedding",
        {"input_dim": 11, "output_dim": 4},
        {"input_dim": 11, "output_dim": 4, "mask_zero": True, "embeddings_regularizer": "l2"},
        {"input_dim": 11, "output_dim": 4, "name": "small_integers"},
        at=(6,),
        dtype="int32",
    )
    cases += _on("Embedding", {"input_dim": 11, "output_dim": 4}, at=(6,))
    cases += _on(
        "ReversibleEmbedding",
        {"input_dim": 11, "output_dim": 4},
        {"input_dim": 11, "output_dim": 4, "tie_weights": False, "mask_zero": True},
        at=(6,),
        dtype="int32",
        how="decomposed",
    )
    return cases


def _recurrent() -> list[Case]:
    at, cases = (6, 4), []
    for kind in ("SimpleRNN", "GRU", "LSTM"):
        cases += _on(
            kind,
            {"units": 3},
            {"units": 3, "return_sequences": True, "return_state": True},
            {"units": 3, "go_backwards": True, "unroll": True, "return_sequences": True},
            {"units": 3, "dropout": 0.3, "recurrent_dropout": 0.2},
            {"units": 3, "use_bias": False, "activation": "relu", "kernel_regularizer": "l2"},
            at=at,
        )
        cases += _on(
            kind,
            {"units": 3, "return_sequences": True},
            {"units": 3, "return_state": True, "unroll": True},
            at=at,
            masked=True,
        )
        states = [(3,)] * (2 if kind == "LSTM" else 1)
        cases += _on(f"{kind}Cell", {"units": 3}, at=[(4,), *states], wrap=_with_states)
        cases += _on("RNN", lambda kind=kind: {"cell": getattr(L, f"{kind}Cell")(3)}, at=at)
    cases += _on(
        "GRU",
        {"units": 3, "reset_after": False, "return_sequences": True},
        {"units": 3, "recurrent_activation": "hard_sigmoid"},
        {"units": 3, "reset_after": False, "use_bias": False, "return_sequences": True},
        at=at,
    )
    cases += _on("LSTM", {"units": 3, "unit_forget_bias": False}, at=(None, 4))
    cases += _on("LSTM", {"units": 3, "recurrent_activation": "hard_sigmoid"}, at=at)
    cases += _on(
        "RNN",
        lambda: {"cell": [L.LSTMCell(3), L.GRUCell(2)], "return_state": True},
        lambda: {"cell": L.GRUCell(3, reset_after=False), "return_sequences": True, "unroll": True},
        lambda: {"cell": L.LSTMCell(3), "zero_output_for_mask": True, "return_sequences": True},
        at=at,
        masked=True,
    )
    cases += _on(
        "StackedRNNCells",
        lambda: {"cells": [L.SimpleRNNCell(3), L.SimpleRNNCell(2)]},
        at=[(4,), (3,), (2,)],
        wrap=_with_states,
    )
    for merge in ("sum", "mul", "ave", "concat", None):
        cases += _on(
            "Bidirectional",
            lambda merge=merge: {
                "layer": L.LSTM(3, return_sequences=True),
                "merge_mode": merge,
            },
            at=at,
        )
    cases += _on("Bidirectional", lambda: {"layer": L.GRU(3, return_state=True)}, at=at)
    cases += _on(
        "Bidirectional",
        lambda: {"layer": L.LSTM(3, return_sequences=True)},
        lambda: {"layer": L.GRU(3), "backward_layer": L.GRU(3, go_backwards=True, activation="relu")},
        at=at,
        masked=True,
    )
    cases += _on(
        "TimeDistributed",
        lambda: {"layer": L.Dense(3)},
        lambda: {"layer": L.BatchNormalization(trainable=False)},
        at=at,
    )
    cases += _on(
        "TimeDistributed", lambda: {"layer": L.BatchNormalization()}, at=at, how="fallback"
    )
    cases += _on("TimeDistributed", lambda: {"layer": L.Dense(3)}, at=at, masked=True)
    cases += _on("TimeDistributed", lambda: {"layer": L.Conv2D(2, 3)}, at=(3, 6, 6, 2))
    for number, at in ((1, (4, 6, 2)), (2, (4, 6, 5, 2)), (3, (3, 5, 4, 4, 2))):
        plain = {"filters": 3, "kernel_size": 3}
        cases += _on(
            f"ConvLSTM{number}D",
            plain,
            {**plain, "padding": "same", "return_sequences": True, "return_state": True},
            {**plain, "strides": 2, "go_backwards": True, "use_bias": False},
            at=at,
        )
    return cases


def _with_states(tensors: list[Any]) -> Sequence[Any]:
    """Return the arguments of a cell: inputs, and a list of states."""
    return tensors[0], tensors[1:]


def _attention() -> list[Case]:
    pair, cases = [(5, 4), (6, 4)], []
    cases += _on(
        "Attention",
        {},
        {"use_scale": True},
        {"score_mode": "concat", "use_scale": True},
        {"dropout": 0.3},
        at=pair,
        joined=True,
    )
    cases += _on("Attention", call={"use_causal_mask": True}, at=[(5, 4), (5, 4)], joined=True)
    cases += _on("Attention", call={"return_attention_scores": True}, at=pair, joined=True)
    cases += _on("Attention", at=pair, joined=True, masked=True)
    cases += _on("AdditiveAttention", {}, {"use_scale": False}, at=pair, joined=True)
    cases += _on("AdditiveAttention", at=[(5, 4), (6, 4), (6, 4)], joined=True, masked=True)
    heads = {"num_heads": 2, "key_dim": 3}
    cases += _on(
        "MultiHeadAttention",
        heads,
        {**heads, "value_dim": 5, "output_shape": 7, "use_bias": False},
        {**heads, "dropout": 0.2},
        at=pair,
        how="decomposed",
    )
    cases += _on("MultiHeadAttention", heads, at=[(5, 4), (6, 4), (6, 3)], how="decomposed")
    cases += _on("MultiHeadAttention", heads, at=pair, masked=True, how="decomposed")
    cases += _on(
        "MultiHeadAttention",
        heads,
        at=[(5, 4)] * 2,
        call={"use_causal_mask": True},
        how="decomposed",
    )
    cases += _on("MultiHeadAttention", {**heads, "kernel_regularizer": "l2"}, at=pair)
    cases += _on("MultiHeadAttention", {**heads, "attention_axes": (1, 2)}, at=[(3, 2, 4)] * 2)
    scores = {"return_attention_scores": True}
    cases += _on("MultiHeadAttention", heads, at=pair, call=scores)
    # Keras 3 puts the mask of the queries on the scores too, where its loss cannot use it.
    cases += _on("MultiHeadAttention", heads, at=pair, call=scores, masked=True, step=False)
    grouped = {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}
    cases += _on("GroupQueryAttention", grouped, at=pair, how="fallback")
    return cases


def _normalizations() -> list[Case]:
    image = (5, 4, 6)
    cases = _on(
        "BatchNormalization",
        {},
        {"scale": False, "momentum": 0.5, "epsilon": 1e-2},
        {"center": False, "axis": 1},
        {"trainable": False},
        {"gamma_regularizer": "l2", "beta_constraint": "non_neg"},
        at=image,
    )
    cases += _on("BatchNormalization", at=(6, 3), masked=True)
    cases += _on("BatchNormalization", {"renorm": True}, at=image)
    cases += _on("LayerNormalization", {}, {"axis": (1, 2), "scale": False}, {"axis": 1}, at=image)
    cases += _on(
        "GroupNormalization", {"groups": 3}, {"groups": -1, "center": False}, {"groups": 1}, at=image
    )
    cases += _on("UnitNormalization", {}, {"axis": (1, 2)}, at=image)
    cases += _on("RMSNormalization", {}, {"axis": (-2, -1)}, at=image, how="fallback")
    cases += _on(
        "SpectralNormalization",
        lambda: {"layer": L.Conv2D(3, 2), "power_iterations": 2},
        lambda: {"layer": L.Dense(3)},
        at=image,
        how="fallback",
    )
    cases += _on(
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
        cases += _on(name, at=two, joined=True)
    cases += _on("Add", at=[(5, 4), (1, 4), (4,)], joined=True)
    # compute_mask() of tf_keras cannot broadcast the masks.
    cases += _on("Multiply", at=[(5, 4), (1, 1)], joined=True, masked=True, how="fallback")
    cases += _on("Concatenate", {}, {"axis": 1}, at=two, joined=True)
    cases += _on("Concatenate", at=two, joined=True, masked=True)
    cases += _on("Dot", {"axes": 2}, {"axes": (1, 1), "normalize": True}, at=two, joined=True)
    cases += _on("Flatten", at=(3, 4, 2))
    cases += _on("Permute", {"dims": (3, 1, 2)}, at=(3, 4, 2))
    cases += _on("Reshape", {"target_shape": (4, -1)}, {"target_shape": (24,)}, at=(3, 4, 2))
    cases += _on("RepeatVector", {"n": 3}, at=(4,))
    cases += _on("Identity", at=(4,))
    cases += _on("Masking", {}, {"mask_value": 1.0}, at=(5, 4))
    cases += _on("Lambda", lambda: {"function": lambda x: x * 2 + 1}, at=(4,))
    cases += _on("Activation", {"activation": "relu"}, {"activation": "hard_sigmoid"}, at=(4,))
    cases += _on("ActivityRegularization", {"l1": 0.1, "l2": 0.2}, at=(4,))
    cases += _on("ReLU", {}, {"max_value": 1.0, "negative_slope": 0.1, "threshold": 0.2}, at=(4,))
    cases += _on("LeakyReLU", {}, {"negative_slope": 0.05}, at=(4,))
    cases += _on("PReLU", {}, {"shared_axes": [1]}, at=(3, 4))
    cases += _on("ELU", {"alpha": 0.5}, at=(4,))
    cases += _on("Softmax", {}, {"axis": 1}, {"axis": (1, 2)}, at=(3, 4))
    for name in ("Dropout", "AlphaDropout", "GaussianDropout"):
        cases += _on(name, {"rate": 0.4}, at=(5, 4))
    cases += _on("GaussianNoise", {"stddev": 0.3}, at=(5, 4))
    cases += _on("Dropout", {"rate": 0.4, "noise_shape": (None, 1, 4)}, at=(5, 4))
    cases += _on("InputLayer", at=(4,))
    return cases


def _pictures() -> list[Case]:
    image = (8, 6, 3)
    cases = _on("Rescaling", {"scale": 1 / 255}, {"scale": 0.5, "offset": -1.0}, at=image)
    cases += _on("Rescaling", {"scale": 1 / 255}, at=image, dtype="uint8")
    cases += _on(
        "Resizing",
        {"height": 4, "width": 9},
        {"height": 4, "width": 9, "interpolation": "nearest"},
        {"height": 4, "width": 4, "interpolation": "bicubic", "crop_to_aspect_ratio": True},
        {"height": 12, "width": 12, "interpolation": "area"},
        at=image,
    )
    cases += _on("Resizing", {"height": 4, "width": 4, "antialias": True}, at=image, how="fallback")
    cases += _on(
        "Resizing",
        {"height": 9, "width": 9, "pad_to_aspect_ratio": True},
        at=image,
        how="fallback",
    )
    cases += _on("CenterCrop", {"height": 3, "width": 4}, {"height": 10, "width": 9}, at=image)
    cases += _on("RandomCrop", {"height": 3, "width": 4}, at=image, how="fallback")
    cases += _on("RandomFlip", {}, {"mode": "vertical"}, at=image)
    cases += _on("RandomRotation", {"factor": 0.2, "fill_mode": "reflect"}, at=image)
    cases += _on("RandomZoom", {"height_factor": 0.2}, at=image)
    cases += _on("RandomTranslation", {"height_factor": 0.2, "width_factor": 0.1}, at=image)
    cases += _on("RandomContrast", {"factor": 0.2}, at=image)
    cases += _on("RandomBrightness", {"factor": 0.2}, at=image)
    for name, settings in _AUGMENTATIONS.items():
        cases += _on(name, settings, at=image, how="fallback")
    for name in ("MixUp", "CutMix"):
        cases += _on(name, at=[image, (4,)], how="fallback", wrap=_as_labelled)
    cases += _on(
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
        cases += _on(
            "CategoryEncoding",
            {"num_tokens": 7, "output_mode": mode},
            at=(1,) if mode == "one_hot" else (5,),
            dtype="int32",
        )
        cases += _on("StringLookup", {"vocabulary": words, "output_mode": mode}, at=(1,), dtype="string")
        cases += _on(
            "IntegerLookup", {"vocabulary": [1, 5, 9], "output_mode": mode}, at=(1,), dtype="int64"
        )
    cases += _on(
        "StringLookup",
        {"vocabulary": words},
        {"vocabulary": words, "num_oov_indices": 3, "mask_token": "a"},
        {"vocabulary": [*words, "a", "b", "1", "7"], "num_oov_indices": 0},
        {"vocabulary": words, "oov_token": "<?>", "output_mode": "multi_hot", "name": "oov"},
        at=(5,),
        dtype="string",
    )
    cases += _on(
        "StringLookup",
        {"vocabulary": words, "output_mode": "tf_idf", "idf_weights": [0.1, 0.2, 0.3, 0.4]},
        at=(5,),
        dtype="string",
    )
    cases += _on(
        "StringLookup",
        {"vocabulary": ["[UNK]", *words], "invert": True},
        at=(5,),
        dtype="int64",
    )
    cases += _on(
        "IntegerLookup",
        {"vocabulary": [1, 5, 9]},
        {"vocabulary": [1, 5, 9], "num_oov_indices": 2, "mask_token": 0},
        at=(5,),
        dtype="int64",
    )
    cases += _on(
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
        cases += _on("Discretization", {**borders, "output_mode": mode}, at=(5,))
    # One-hot rows of rank 3 are more than tf_keras makes.
    rows = {"output_mode": "one_hot"}
    cases += _on("Discretization", {**borders, **rows}, at=(5,), how="fallback")
    cases += _on("Discretization", {**borders, **rows}, at=(1,))
    cases += _on(
        "Hashing",
        {"num_bins": 7},
        {"num_bins": 7, "salt": 13},
        {"num_bins": 7, "mask_value": "a"},
        {"num_bins": 7, "output_mode": "multi_hot"},
        at=(5,),
        dtype="string",
    )
    cases += _on("Hashing", {"num_bins": 7, "salt": [3, 4]}, at=(5,), dtype="int32")
    cases += _on(
        "HashedCrossing",
        {"num_bins": 7},
        {"num_bins": 7, "output_mode": "one_hot"},
        at=[(1,), (1,)],
        dtype="string",
        joined=True,
    )
    cases += _on("MelSpectrogram", {"fft_length": 64, "num_mel_bins": 8}, at=(400,), how="fallback")
    cases += _on(
        "STFTSpectrogram",
        {"frame_length": 16, "frame_step": 8},
        {"mode": "real", "frame_length": 16, "frame_step": 8},
        at=(100, 2),
        how="fallback",
    )
    return cases


def _base_classes() -> list[Case]:
    """Return cases of the classes that are there to be subclassed, and of what is refused."""
    cases = _on("Layer", lambda: {"factor": 3.0}, at=(4,), how="fallback", made_by=Scale)
    cases += _on("Wrapper", lambda: {"layer": L.Dense(3)}, at=(4,), how="fallback", made_by=Twice)
    cases += _on("TFSMLayer", _saved_model, at=(4,), how="refused")
    # Keras 3.15 cannot load a RandomShear of these settings from its own config, and cannot put
    # Equalization into a graph (its output is its input). The others run on another backend.
    cases += _on("RandomShear", {"x_factor": 0.2}, at=(8, 6, 3), how="refused")
    for name in ("Equalization", "FlaxLayer", "JaxLayer", "TorchModuleWrapper"):
        cases += _on(name, at=(8, 6, 3), how="refused")
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

    def call(self, x: Any, training: bool = False) -> Any:
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


CASES: Sequence[Case] = (
    *_dense(),
    *_convolutions(),
    *_pooling(),
    *_recurrent(),
    *_attention(),
    *_normalizations(),
    *_merging_and_shapes(),
    *_pictures(),
    *_features(),
    *_base_classes(),
)


def public_layers() -> dict[str, tuple[str, ...]]:
    """Return the public names of each class of ``keras.layers``, under the first of them."""
    names: dict[type, list[str]] = {}
    for name in dir(L):
        value = getattr(L, name)
        if isinstance(value, type) and value is not keras.InputSpec:
            names.setdefault(value, []).append(name)
    return {
        (value.__name__ if value.__name__ in found else found[0]): tuple(found)
        for value, found in names.items()
    }
