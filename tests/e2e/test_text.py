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
    assert found["metric"] == {"name": "accuracy", "higher_is_better": True, "examples": 3494}
    assert found["stages"][0]["metric"] > 0.4
    artifact = found["artifacts"][0]
    assert artifact["input_types"] == ["int32", "int32"]
    assert "input 'input_ids' takes rows of 48 alone" in " ".join(artifact["notes"])
    shapes = {info.name: info.shape for info in open_litert(Path("out") / artifact["path"]).inputs}
    assert shapes == {"attention_mask": (None, 48), "input_ids": (None, 48)}
    again = tfopt(
        "verify", f"out/{artifact['path']}", "-a", "out/model.keras", "--config", "words.yaml"
    )
    assert again.code == 0, again.err
    assert f"accuracy through the file: {artifact['metric']:.4f}" in again.out


def test_a_vocabulary_larger_than_the_embedding_is_refused_before_training(
    here: Path, tfopt: Run
) -> None:
    done = tfopt("run", "words.yaml", "-o", "out", "--set", "model.arguments={rows: 9000}")
    assert done.code == 2
    assert "'word_embeddings' of model 'bag' has rows 0 to 8999" in done.err
    assert not Path("out").exists()
