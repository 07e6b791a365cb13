"""KerasHub's models as plain layers, against the models themselves.

Random weights of KerasHub are so small that a mask hardly changes an output, and biases are
0, so every weight is moved first; each comparison has a counterpart that must fail.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.bridge.custom_objects import OBJECTS
from tfopt.bridge.keras3 import keras as keras3
from tfopt.bridge.to_tf_keras.blocks import embeddings
from tfopt.bridge.to_tf_keras.blocks.transformers import RULES
from tfopt.bridge.to_tf_keras.graph import walk
from tfopt.keras2.core import keras as keras2

hub = pytest.importorskip("keras_hub", reason="KerasHub, whose blocks these are, is missing")

RANDOM = np.random.default_rng(0)
IDS = RANDOM.integers(1, 50, (3, 9))
PADDING = np.ones((3, 9), "int32")
PADDING[0, 5:] = 0
PADDING[1, 2:] = 0
TEXT = {"token_ids": IDS, "padding_mask": PADDING}
SEGMENTED = {**TEXT, "segment_ids": RANDOM.integers(0, 2, (3, 9))}
IMAGES = RANDOM.random((3, 8, 8, 3)).astype("float32")


def bert(dropout: float = 0.0) -> Any:
    return hub.models.BertBackbone(50, 2, 2, 8, 16, dropout=dropout, max_sequence_length=12)


def gpt2(dropout: float = 0.0) -> Any:
    return hub.models.GPT2Backbone(50, 2, 2, 8, 16, dropout=dropout, max_sequence_length=12)


def vit(dropout: float = 0.0) -> Any:
    rates = {"dropout_rate": dropout, "attention_dropout": dropout}
    return hub.models.ViTBackbone((8, 8, 3), 4, 2, 2, 8, 16, **rates)


def small(name: str, dropout: float = 0.0) -> Any:
    kind = getattr(hub.models, name)
    return kind(50, 2, 2, 8, 16, dropout=dropout, max_sequence_length=12)


# Builder by dropout, inputs, and how many Dense kernels there are: 6 a block and the heads.
CASES: dict[str, tuple[Callable[[float], Any], Any, int]] = {
    "bert": (bert, SEGMENTED, 13),
    "bert classifier": (
        lambda rate: hub.models.BertTextClassifier(bert(rate), 3, preprocessor=None),
        SEGMENTED,
        14,
    ),
    "distilbert": (lambda rate: small("DistilBertBackbone", rate), TEXT, 12),
    "roberta": (lambda rate: small("RobertaBackbone", rate), TEXT, 12),
    "gpt2": (gpt2, TEXT, 12),
    "gpt2 causal lm": (
        lambda rate: hub.models.GPT2CausalLM(gpt2(rate), preprocessor=None),
        TEXT,
        12,
    ),
    "bert masked lm": (
        lambda rate: hub.models.BertMaskedLM(bert(rate), preprocessor=None),
        {**SEGMENTED, "mask_positions": RANDOM.integers(0, 9, (3, 4))},
        13,  # nothing reads the pooled output, and the backbone is opened: it shares its table
    ),
    "vit": (vit, IMAGES, 12),
    "vit classifier": (
        lambda rate: hub.models.ViTImageClassifier(vit(rate), 3, preprocessor=None),
        IMAGES,
        13,
    ),
}


def moved(model: Any) -> Any:
    for weight in model.weights:
        weight.assign(np.asarray(weight) + RANDOM.normal(size=weight.shape) * 0.2)
    return model


def worst(ours: Any, theirs: Any) -> float:
    """Return the largest difference over the largest magnitude; refuses NaN."""
    found = []
    for one, other in zip(tf.nest.flatten(ours), tf.nest.flatten(theirs), strict=True):
        assert np.isfinite(one).all()
        assert np.isfinite(other).all()
        found.append(np.abs(np.asarray(one) - np.asarray(other)).max() / np.abs(other).max())
    return float(max(found))


def converted(model: Any) -> tuple[Any, Any]:
    walked = walk(model)
    return walked.model, walked


@pytest.mark.parametrize(
    ("name", "dropout"),
    # Keras 3 computes attention in another way where it may drop something.
    [*((name, 0.0) for name in CASES), ("bert", 0.1), ("gpt2", 0.1), ("vit", 0.1)],
)
def test_computes_what_kerashub_does(name: str, dropout: float) -> None:
    make, inputs, dense_layers = CASES[name]
    model = moved(make(dropout))
    twin, walked = converted(model)
    expected = model(inputs, training=False)
    assert worst(twin(inputs, training=False), expected) > 0.01  # no weight is copied yet
    for link in walked.links:
        link.forward()
    assert worst(twin(inputs, training=False), expected) <= 1e-6
    found = [one for one in twin._flatten_layers() if type(one) is keras2.layers.Dense]
    assert len(found) == dense_layers
    assert not [one for one in walked.layers if one.how == "fallback"]
    sources = [id(link.source) for link in walked.links]
    assert sorted(sources) == sorted({id(weight) for weight in model.weights})


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_the_padding_mask_is_honoured(name: str) -> None:
    make, inputs, _ = CASES[name]
    model = moved(make(0.0))
    twin, walked = converted(model)
    for link in walked.links:
        link.forward()
    other = {**inputs, "padding_mask": 1 - PADDING}
    assert worst(twin(other), model(inputs, training=False)) > 0.01
    assert worst(twin(other), model(other, training=False)) <= 1e-6


@pytest.mark.parametrize("name", ["bert", "gpt2 causal lm", "vit"])
def test_one_training_step_gives_the_same_weights(name: str) -> None:
    make, inputs, _ = CASES[name]
    model = moved(make(0.0))
    twin, walked = converted(model)
    for link in walked.links:
        link.forward()
    theirs = gradients(model, inputs, [link.source.value for link in walked.links])
    ours = gradients(twin, inputs, [link.target for link in walked.links])
    for link, one, other in zip(walked.links, ours, theirs, strict=True):
        assert np.abs(other).max() > 0
        stepped = np.asarray(link.source) - 0.1 * other
        difference = np.abs(0.1 * (one.reshape(other.shape) - other)).max()
        assert difference / np.abs(stepped).max() <= 1e-5


def gradients(model: Any, inputs: Any, variables: list[Any]) -> list[Any]:
    with tf.GradientTape() as tape:
        outputs = tf.nest.flatten(model(inputs, training=True))
        loss = tf.add_n([tf.reduce_mean(tf.square(one)) for one in outputs])
    return [tf.convert_to_tensor(one).numpy() for one in tape.gradient(loss, variables)]


@pytest.mark.parametrize("name", ["bert", "gpt2", "vit"])
def test_saves_and_loads(name: str, tmp_path: Path) -> None:
    make, inputs, _ = CASES[name]
    twin, _ = converted(moved(make(0.1)))
    twin.save(tmp_path / "model.keras")
    loaded = keras2.models.load_model(tmp_path / "model.keras", custom_objects=dict(OBJECTS))
    assert worst(loaded(inputs), twin(inputs)) == 0


def encoder_on_a_mask(*, dropout: float, normalize_first: bool) -> Any:
    ids = keras3.Input((9,), dtype="int32")
    x = keras3.layers.Embedding(50, 8, mask_zero=True)(ids)
    settings = {"dropout": dropout, "normalize_first": normalize_first}
    x = hub.layers.TransformerEncoder(16, 2, **settings)(x)
    return keras3.Model(ids, hub.layers.TransformerDecoder(16, 2, **settings)(x))


@pytest.mark.filterwarnings("ignore:Layer '(query|key|value)'.* was passed an input with a mask")
@pytest.mark.parametrize("normalize_first", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_an_attached_mask_counts(dropout: float, normalize_first: bool) -> None:
    model = moved(encoder_on_a_mask(dropout=dropout, normalize_first=normalize_first))
    twin, walked = converted(model)
    for link in walked.links:
        link.forward()
    ids = IDS * PADDING
    ids[2] = 0  # a row of padding only
    assert worst(twin(ids), model(ids, training=False)) <= 1e-6
    assert worst(twin(IDS), model(ids, training=False)) > 0.01


def test_every_rule_is_for_a_class_that_exists() -> None:
    hidden = {"MLP", "ViTEncoder", "ViTEncoderBlock", "ViTPatchingAndEmbedding"}
    from keras_hub.src.models.vit import vit_layers

    for key in RULES:
        top, name = key.split(".")
        layers = keras3.layers if top == "keras" else hub.layers
        assert hasattr(vit_layers if name in hidden else layers, name), key


def test_knows_which_table_is_read_in_reverse() -> None:
    model = hub.models.GPT2CausalLM(gpt2(), preprocessor=None)
    table = model.backbone.token_embedding
    assert embeddings.reversed_embeddings(model) == {id(table)}
    assert embeddings.reversed_embeddings(gpt2()) == frozenset()
