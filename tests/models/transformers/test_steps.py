"""Transformers go through pruning, clustering, quantization and export, padding and all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfopt
from tfopt.keras2.core import keras


@pytest.fixture(scope="module")
def rows() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """128 rows of 3 to 8 tokens; the second token tells the class."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 128)
    mask = (np.arange(8) < rng.integers(3, 9, (128, 1))).astype(np.int32)
    ids = rng.integers(10, 60, mask.shape)
    ids[:, 1] = np.where(labels, 7, 9)
    return {"input_ids": (ids * mask).astype(np.int32), "attention_mask": mask}, labels


@pytest.fixture(scope="module")
def classifier(data: Path, rows: Any) -> Any:
    model = tfopt.load_transformer(data / "bert", classes=2, tokens=8, dropout=0.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss)
    losses = model.fit(*rows, epochs=5, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < 0.6 * losses[0]
    return model


def test_pruned(classifier: Any, rows: Any) -> None:
    pruned = tfopt.prune(classifier, rows, sparsity=0.5, epochs=1)
    for name in ("word_embeddings", "layer_0_attention_query", "layer_1_output"):
        assert np.mean(pruned.get_layer(name).get_weights()[0] == 0) == pytest.approx(0.5, abs=0.01)


def test_clustered_with_a_tied_head(data: Path, rows: Any) -> None:
    model = tfopt.load_transformer(data / "gpt2", head="language_model", tokens=8, layers=1)
    small = tfopt.cluster(model, (rows[0], rows[0]["input_ids"]), clusters=8, epochs=1)
    assert len(np.unique(small.get_layer("word_embeddings").get_weights()[0])) <= 8
    assert small.output_shape == (None, 8, 60)


def test_quantized_without_training(classifier: Any, rows: Any) -> None:
    quantized = tfopt.quantize(classifier, rows, epochs=0)
    expected = classifier.predict(rows[0], verbose=0)
    error = np.abs(quantized.predict(rows[0], verbose=0) - expected).max()
    assert 0 < error < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("precision", ["dynamic", "int8"])
def test_exported(classifier: Any, rows: Any, tmp_path: Path, precision: Any) -> None:
    made = tfopt.export_litert(
        classifier,
        tmp_path / "model.tflite",
        precision=precision,
        calibration=rows[0],
        evaluation=rows,
    )
    assert made.drop <= 0.05
    assert made.max_abs_error < 0.5
    if precision == "int8":
        assert made.int8_op_fraction > 0.9
