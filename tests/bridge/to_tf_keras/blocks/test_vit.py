"""The parts of ViT that can stand alone; whole models are in test_transformers.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfopt.bridge.to_tf_keras.blocks import vit as vision_blocks
from tfopt.bridge.to_tf_keras.blocks.base import Undecomposable
from tfopt.bridge.to_tf_keras.twin import Names
from tfopt.keras2.core import keras as keras2

vit = pytest.importorskip(
    "keras_hub.src.models.vit.vit_layers", reason="KerasHub, whose blocks these are, is missing"
)
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("layer", "rule", "shape"),
    [
        (vit.MLP(4, 6), vision_blocks.mlp, (3, 4)),
        (vit.ViTEncoderBlock(2, 4, 6), vision_blocks.vit_encoder_block, (3, 4)),
        (
            vit.ViTPatchingAndEmbedding((4, 4), (2, 2), 4, use_class_token=False),
            vision_blocks.vit_patching_and_embedding,
            (4, 4, 3),
        ),
    ],
)
def test_computes_what_kerashub_does(layer: Any, rule: Any, shape: tuple[int, ...]) -> None:
    layer.build((None, *shape))
    for weight in layer.weights:
        weight.assign(RANDOM.normal(size=weight.shape))
    twin = rule(layer, Names())
    inputs = keras2.Input(shape)
    model = keras2.Model(inputs, twin.call(inputs))
    for link in twin.links():
        link.forward()
    x = RANDOM.normal(size=(2, *shape)).astype("float32")
    np.testing.assert_allclose(model(x), layer(x), rtol=1e-5, atol=1e-5)


def test_refuses_channels_first() -> None:
    layer = vit.ViTPatchingAndEmbedding((4, 4), (2, 2), 4, data_format="channels_first")
    with pytest.raises(Undecomposable, match="data_format='channels_first'"):
        vision_blocks.vit_patching_and_embedding(layer, Names())
