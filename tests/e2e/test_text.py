"""A small text model on real tweets: trained on buckets, exported at one length, verified."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tfopt.runtimes import open_litert

pytestmark = pytest.mark.e2e

Run = Callable[..., Any]

BUILDERS = """
import tensorflow as tf
import tf_keras as keras

def bag(input_shape, classes, rows=30522):
    inputs = {
        name: keras.Input(shape, dtype="int32", name=name) for name, shape in input_shape.items()
    }
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    embedded = keras.layers.Embedding(rows, 16, name="word_embeddings")(ids)
    weights = tf.expand_dims(tf.cast(mask, tf.float32), -1)
    pooled = tf.reduce_sum(embedded * weights, 1) / (tf.reduce_sum(weights, 1) + 1e-9)
    return keras.Model(inputs, keras.layers.Dense(classes, name="classifier")(pooled), name="bag")
"""
RECIPE = """
name: words
seed: 3
metric: macro_f1
data:
  source: tweets
  limit: 600
  batch_size: 32
  text: {tokenizer: minilm-l6, max_tokens: 48}
model: {builder: "own_builders:bag"}
train: {epochs: 1, optimizer: adam, learning_rate: {schedule: constant, peak: 0.01}}
export: [{litert: {precision: dynamic, runs: 5, warmup: 1}}]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_builders.py").write_text(BUILDERS)
    (tmp_path / "words.yaml").write_text(RECIPE)
    return tmp_path


def test_a_recipe_on_tweets_leaves_a_verified_file(here: Path, tfopt: Run) -> None:
    done = tfopt("run", "words.yaml", "-o", "out")
    assert done.code == 0, done.err
    assert "1,811 copies" in done.err
    assert "cut to 48" in done.err
    found = json.loads(Path("out/results.json").read_text())
    assert found["metric"] == {
        "name": "macro_f1",
        "higher_is_better": True,
        "examples": 3494,
        "label": "macro F1",
        "unit": "points",
    }
    assert found["stages"][0]["metric"] > 0.3
    assert found["stages"][0]["history"]["val_macro_f1"] == [pytest.approx(0.4, abs=0.15)]
    artifact = found["artifacts"][0]
    assert artifact["input_types"] == ["int32", "int32"]
    assert "input 'input_ids' takes rows of 48 alone" in " ".join(artifact["notes"])
    shapes = {info.name: info.shape for info in open_litert(Path("out") / artifact["path"]).inputs}
    assert shapes == {"attention_mask": (None, 48), "input_ids": (None, 48)}
    again = tfopt(
        "verify", f"out/{artifact['path']}", "-a", "out/model.keras", "--config", "words.yaml"
    )
    assert again.code == 0, again.err
    assert f"macro F1 through the file: {artifact['metric']:.4f}" in again.out
    low, high = artifact["drop_ci95"]
    assert low <= artifact["drop"] <= high


def test_a_vocabulary_larger_than_the_embedding_is_refused_before_training(
    here: Path, tfopt: Run
) -> None:
    done = tfopt("run", "words.yaml", "-o", "out", "--set", "model.arguments={rows: 9000}")
    assert done.code == 2
    assert "'word_embeddings' of model 'bag' has rows 0 to 8999" in done.err
    assert not Path("out").exists()


TAGS = """
import numpy as np

def load():
    draws = np.random.default_rng(0)
    names = ["the", "a", "dog", "cats"]
    rows = [[names[n] for n in draws.integers(0, 4, draws.integers(1, 7))] for _ in range(60)]
    return rows, [["det" if word in names[:2] else "noun" for word in row] for row in rows]
"""
TAGGER = """
import tf_keras as keras

def tagger(input_shape, classes):
    inputs = {
        name: keras.Input(shape, dtype="int32", name=name) for name, shape in input_shape.items()
    }
    embedded = keras.layers.Embedding(9, 8, name="word_embeddings")(inputs["input_ids"])
    return keras.Model(inputs, keras.layers.Dense(classes)(embedded), name="tagger")
"""
TAG_RECIPE = """
name: tags
data:
  source: "own_tags:load"
  batch_size: 8
  text: {tokenizer: vocab.txt, max_tokens: 9, buckets: [4, 6]}
model: {builder: "own_taggers:tagger"}
train: {epochs: 12, optimizer: adam, learning_rate: {schedule: constant, peak: 0.05}}
export: [{litert: {precision: float32, runs: 5, warmup: 1}}]
"""


def test_tags_of_words_are_learned_and_only_they_are_scored(here: Path, tfopt: Run) -> None:
    (here / "own_tags.py").write_text(TAGS)
    (here / "own_taggers.py").write_text(TAGGER)
    (here / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\na\ndog\ncat\n##s\n")
    (here / "tags.yaml").write_text(TAG_RECIPE)
    done = tfopt("run", "tags.yaml", "-o", "out")
    assert done.code == 0, done.err
    found = json.loads(Path("out/results.json").read_text())
    # Each word has its tag, so that all is right once padding and later pieces do not count.
    assert found["stages"][0]["metric"] == found["artifacts"][0]["metric"] == 1.0
    assert found["stages"][0]["history"]["loss"][-1] < 0.05
    assert found["stages"][0]["history"]["accuracy"][-1] == 1.0
