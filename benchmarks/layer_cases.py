"""Every public class of ``keras.layers`` with the settings it is converted with.

One table for benchmarks/bridge_coverage.py and for the tests of
tfopt/bridge/to_tf_keras/same_layer.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import layers as L  # noqa: N812  # as every Keras user writes it
from layer_case import Case, on
from layer_cases_others import OTHERS


def _pooling() -> list[Case]:
    cases = []
    for number, side in ((1, (12,)), (2, (9, 8)), (3, (7, 6, 5))):
        at = (*side, 3)
        for kind in ("Max", "Average"):
            cases += on(
                f"{kind}Pooling{number}D",
                {"pool_size": 2},
                {"pool_size": 3, "strides": 2, "padding": "same"},
                {"pool_size": 3, "strides": 1},
                at=at,
            )
            cases += on(f"Global{kind}Pooling{number}D", {}, {"keepdims": True}, at=at)
            cases += on(
                f"Adaptive{kind}Pooling{number}D", {"output_size": 3}, at=at, how="fallback"
            )
        cases += on(f"UpSampling{number}D", {"size": 3 if number == 1 else (2,) * number}, at=at)
        ends = {1: (1, 2), 2: ((1, 0), (0, 2)), 3: ((1, 0), (0, 2), (1, 1))}[number]
        cases += on(f"ZeroPadding{number}D", {}, {"padding": ends}, at=at)
        cases += on(f"Cropping{number}D", {}, {"cropping": ends}, at=at)
        cases += on(f"SpatialDropout{number}D", {"rate": 0.5}, at=at)
    cases += on(
        "UpSampling2D",
        *({"size": (2, 3), "interpolation": one} for one in ("bilinear", "bicubic", "lanczos3")),
        at=(5, 4, 3),
    )
    cases += on("GlobalAveragePooling1D", at=(6, 3), masked=True)
    cases += on("GlobalMaxPooling2D", at=(None, None, 3))
    return cases


def _convolutions() -> list[Case]:
    cases = []
    for number, side in ((1, (12,)), (2, (9, 8)), (3, (7, 6, 5))):
        at = (*side, 4)
        cases += on(
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
        cases += on(
            f"Conv{number}DTranspose",
            {"filters": 5, "kernel_size": 3},
            {"filters": 5, "kernel_size": 3, "strides": 2, "padding": "same"},
            {"filters": 5, "kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 1},
            {"filters": 5, "kernel_size": 3, "strides": 2, "use_bias": False},
            at=at,
        )
    cases += on(
        "Conv3D", {"filters": 2, "kernel_size": (1, 2, 3), "strides": (2, 1, 2)}, at=(7,) * 4
    )
    cases += on("Conv1D", {"filters": 3, "kernel_size": 3, "padding": "causal"}, at=(12, 4))
    cases += on("Conv1DTranspose", {"filters": 3, "kernel_size": 3, "dilation_rate": 2}, at=(9, 4))
    cases += on(
        "Conv2DTranspose", {"filters": 3, "kernel_size": 3, "dilation_rate": 2}, at=(9, 8, 4)
    )
    cases += on("Conv2D", {"filters": 4, "kernel_size": 3, "name": "open"}, at=(None, None, 3))
    for number, at in ((1, (12, 4)), (2, (9, 8, 4))):
        cases += on(
            f"SeparableConv{number}D",
            {"filters": 5, "kernel_size": 3},
            {
                **{"filters": 5, "kernel_size": 3, "strides": 2, "padding": "same"},
                **{"depth_multiplier": 2, "activation": "relu6"},
            },
            {"filters": 5, "kernel_size": 3, "dilation_rate": 2, "use_bias": False},
            at=at,
        )
        cases += on(
            f"DepthwiseConv{number}D",
            {"kernel_size": 3},
            {"kernel_size": 3, "strides": 2, "padding": "same", "depth_multiplier": 2},
            {"kernel_size": 3, "dilation_rate": 2, "use_bias": False, "activation": "gelu"},
            at=at,
        )
    return cases


def _dense() -> list[Case]:
    cases = on(
        "Dense",
        {"units": 5},
        {"units": 5, "use_bias": False, "activation": "swish", "kernel_constraint": "max_norm"},
        {"units": 5, "activity_regularizer": "l2", "kernel_initializer": "orthogonal"},
        {"units": 5, "trainable": False},
        at=(3, 7),
    )
    cases += on(
        "EinsumDense",
        {"equation": "abc,cd->abd", "output_shape": (None, 6)},
        {"equation": "abc,cde->abde", "output_shape": (None, 2, 3), "bias_axes": "de"},
        {"equation": "...x,xy->...y", "output_shape": 4, "bias_axes": "y", "activation": "tanh"},
        at=(3, 7),
    )
    cases += on(
        "Embedding",
        {"input_dim": 11, "output_dim": 4},
        {"input_dim": 11, "output_dim": 4, "mask_zero": True, "embeddings_regularizer": "l2"},
        {"input_dim": 11, "output_dim": 4, "name": "small_integers"},
        at=(6,),
        dtype="int32",
    )
    cases += on("Embedding", {"input_dim": 11, "output_dim": 4}, at=(6,))
    cases += on(
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
        cases += on(
            kind,
            {"units": 3},
            {"units": 3, "return_sequences": True, "return_state": True},
            {"units": 3, "go_backwards": True, "unroll": True, "return_sequences": True},
            {"units": 3, "dropout": 0.3, "recurrent_dropout": 0.2},
            {"units": 3, "use_bias": False, "activation": "relu", "kernel_regularizer": "l2"},
            at=at,
        )
        cases += on(
            kind,
            {"units": 3, "return_sequences": True},
            {"units": 3, "return_state": True, "unroll": True},
            at=at,
            masked=True,
        )
        states = [(3,)] * (2 if kind == "LSTM" else 1)
        cases += on(f"{kind}Cell", {"units": 3}, at=[(4,), *states], wrap=_with_states)
        cases += on("RNN", lambda kind=kind: {"cell": getattr(L, f"{kind}Cell")(3)}, at=at)
    cases += on(
        "GRU",
        {"units": 3, "reset_after": False, "return_sequences": True},
        {"units": 3, "recurrent_activation": "hard_sigmoid"},
        {"units": 3, "reset_after": False, "use_bias": False, "return_sequences": True},
        at=at,
    )
    cases += on("LSTM", {"units": 3, "unit_forget_bias": False}, at=(None, 4))
    cases += on("LSTM", {"units": 3, "recurrent_activation": "hard_sigmoid"}, at=at)
    cases += on(
        "RNN",
        lambda: {"cell": [L.LSTMCell(3), L.GRUCell(2)], "return_state": True},
        lambda: {"cell": L.GRUCell(3, reset_after=False), "return_sequences": True, "unroll": True},
        lambda: {"cell": L.LSTMCell(3), "zero_output_for_mask": True, "return_sequences": True},
        at=at,
        masked=True,
    )
    cases += on(
        "StackedRNNCells",
        lambda: {"cells": [L.SimpleRNNCell(3), L.SimpleRNNCell(2)]},
        at=[(4,), (3,), (2,)],
        wrap=_with_states,
    )
    for merge in ("sum", "mul", "ave", "concat", None):
        cases += on(
            "Bidirectional",
            lambda merge=merge: {
                "layer": L.LSTM(3, return_sequences=True),
                "merge_mode": merge,
            },
            at=at,
        )
    cases += on("Bidirectional", lambda: {"layer": L.GRU(3, return_state=True)}, at=at)
    cases += on(
        "Bidirectional",
        lambda: {"layer": L.LSTM(3, return_sequences=True)},
        lambda: {
            "layer": L.GRU(3),
            "backward_layer": L.GRU(3, go_backwards=True, activation="relu"),
        },
        at=at,
        masked=True,
    )
    cases += on(
        "TimeDistributed",
        lambda: {"layer": L.Dense(3)},
        lambda: {"layer": L.BatchNormalization(trainable=False)},
        at=at,
    )
    cases += on("TimeDistributed", lambda: {"layer": L.BatchNormalization()}, at=at, how="fallback")
    cases += on("TimeDistributed", lambda: {"layer": L.Dense(3)}, at=at, masked=True)
    cases += on("TimeDistributed", lambda: {"layer": L.Conv2D(2, 3)}, at=(3, 6, 6, 2))
    for number, at in ((1, (4, 6, 2)), (2, (4, 6, 5, 2)), (3, (3, 5, 4, 4, 2))):
        plain = {"filters": 3, "kernel_size": 3}
        cases += on(
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
    cases += on(
        "Attention",
        {},
        {"use_scale": True},
        {"score_mode": "concat", "use_scale": True},
        {"dropout": 0.3},
        at=pair,
        joined=True,
    )
    cases += on("Attention", call={"use_causal_mask": True}, at=[(5, 4), (5, 4)], joined=True)
    cases += on("Attention", call={"return_attention_scores": True}, at=pair, joined=True)
    cases += on("Attention", at=pair, joined=True, masked=True)
    cases += on("AdditiveAttention", {}, {"use_scale": False}, at=pair, joined=True)
    cases += on("AdditiveAttention", at=[(5, 4), (6, 4), (6, 4)], joined=True, masked=True)
    heads = {"num_heads": 2, "key_dim": 3}
    cases += on(
        "MultiHeadAttention",
        heads,
        {**heads, "value_dim": 5, "output_shape": 7, "use_bias": False},
        {**heads, "dropout": 0.2},
        at=pair,
        how="decomposed",
    )
    cases += on("MultiHeadAttention", heads, at=[(5, 4), (6, 4), (6, 3)], how="decomposed")
    cases += on("MultiHeadAttention", heads, at=pair, masked=True, how="decomposed")
    cases += on(
        "MultiHeadAttention",
        heads,
        at=[(5, 4)] * 2,
        call={"use_causal_mask": True},
        how="decomposed",
    )
    cases += on("MultiHeadAttention", {**heads, "kernel_regularizer": "l2"}, at=pair)
    cases += on("MultiHeadAttention", {**heads, "attention_axes": (1, 2)}, at=[(3, 2, 4)] * 2)
    scores = {"return_attention_scores": True}
    cases += on("MultiHeadAttention", heads, at=pair, call=scores)
    # Keras 3 puts the mask of the queries on the scores too, where its loss cannot use it.
    cases += on("MultiHeadAttention", heads, at=pair, call=scores, masked=True, step=False)
    grouped = {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}
    cases += on("GroupQueryAttention", grouped, at=pair, how="fallback")
    return cases


CASES: Sequence[Case] = (
    *_dense(),
    *_convolutions(),
    *_pooling(),
    *_recurrent(),
    *_attention(),
    *OTHERS,
)
