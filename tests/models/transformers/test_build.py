"""The builders make models that mask padding, train, save, and go through tfopt's steps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfopt
from tfopt.config import schema
from tfopt.errors import InputError, ModelError
from tfopt.keras2 import graph
from tfopt.keras2.core import keras
from tfopt.models.build import build_model

HEADS = ("classification", "token_classification", "language_model", "embedding")


@pytest.fixture(scope="module")
def heads(data: Path) -> dict[str, Any]:
    """A BERT for each head, of any number of tokens."""
    return {head: tfopt.load_transformer(data / "bert", head=head, classes=3) for head in HEADS}


@pytest.mark.parametrize(
    ("head", "shape"),
    [
        ("classification", (4, 3)),
        ("token_classification", (4, 12, 3)),
        ("language_model", (4, 12, 60)),
        ("embedding", (4, 24)),
    ],
)
def test_heads(
    heads: dict[str, Any], head: str, shape: tuple[int, ...], texts: dict[str, np.ndarray]
) -> None:
    found = heads[head](texts).numpy()
    assert found.shape == shape
    assert np.isfinite(found).all()  # one row has no tokens at all
    if head == "embedding":
        lengths = np.linalg.norm(found, axis=1)
        np.testing.assert_allclose(lengths, [1, 1, 1, 0], atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_padding_changes_nothing(
    data: Path, texts: dict[str, np.ndarray], family: str, pooling: Any
) -> None:
    model = tfopt.load_transformer(data / family, head="embedding", pooling=pooling)
    row = {name: values[1:2] for name, values in texts.items()}
    other = {**row, "input_ids": np.where(row["attention_mask"], row["input_ids"], 33)}
    expected = model({name: values[:, :5] for name, values in row.items()}).numpy()
    for padded in (row, other):
        np.testing.assert_allclose(model(padded).numpy(), expected, atol=1e-6)


def test_padding_changes_nothing_whatever_the_scores(
    heads: dict[str, Any], texts: dict[str, np.ndarray]
) -> None:
    """A constant of 20 is enough only because padding scores like the first token."""
    model = graph.copy(heads["token_classification"])
    for number in (0, 1):
        for part in ("query", "key"):
            layer = model.get_layer(f"layer_{number}_attention_{part}")
            layer.set_weights([values * 8 for values in layer.get_weights()])
    scores = keras.Model(model.inputs, model.get_layer("layer_0_attention_scores").output)
    row = {name: values[1:2] for name, values in texts.items()}
    assert np.ptp(scores(row).numpy()[..., :5]) > 100
    expected = model({name: values[:, :5] for name, values in row.items()}).numpy()
    np.testing.assert_allclose(model(row).numpy()[:, :5], expected, atol=1e-5)


def test_masked_scores_stay_in_a_small_range(
    heads: dict[str, Any], texts: dict[str, np.ndarray]
) -> None:
    model = heads["classification"]
    scores = keras.Model(model.inputs, model.get_layer("layer_1_attention_scores").output)
    found = scores(texts).numpy()
    real = found[0]
    assert found.min() >= real.min() - 25
    probabilities = model.get_layer("layer_1_attention_probabilities").output
    masked = keras.Model(model.inputs, probabilities)(texts).numpy()[1, :, :, 5:]
    assert masked.max() < 1e-8


def test_fixed_and_free_lengths_agree(
    data: Path, heads: dict[str, Any], texts: dict[str, np.ndarray]
) -> None:
    fixed = tfopt.load_transformer(data / "bert", head="language_model", tokens=12)
    assert fixed.input_shape == {"input_ids": (None, 12), "attention_mask": (None, 12)}
    np.testing.assert_allclose(fixed(texts), heads["language_model"](texts), atol=1e-5)


def test_names_do_not_count_up(heads: dict[str, Any], data: Path) -> None:
    again = tfopt.load_transformer(data / "bert", classes=3)
    names = [layer.name for layer in again.layers]
    assert names == [layer.name for layer in heads["classification"].layers]
    assert {"layer_1_attention_scores", "layer_1_output_norm", "pooled", "classifier"} <= {*names}


def test_files_load_where_there_is_no_tfopt(
    heads: dict[str, Any], data: Path, texts: dict[str, np.ndarray], tmp_path: Path
) -> None:
    models = {**heads, "gpt2": tfopt.load_transformer(data / "gpt2", head="language_model")}
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.npy", model(texts).numpy())
    np.savez(tmp_path / "texts.npz", **texts)
    program = (
        "import sys; import numpy as np, tf_keras\n"
        "texts = dict(np.load('texts.npz'))\n"
        f"for name in {[*models]!r}:\n"
        "    model = tf_keras.models.load_model(f'{name}.keras')\n"
        "    print(name, np.abs(model(texts).numpy() - np.load(f'{name}.npy')).max() < 1e-6)\n"
        "assert not [name for name in sys.modules if name.startswith('tfopt')]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [f"{name} True" for name in models], done.stderr[-2000:]


def test_a_bare_fit_lowers_the_loss_and_the_head_stays_tied(
    heads: dict[str, Any], texts: dict[str, np.ndarray]
) -> None:
    model = graph.copy(heads["language_model"])
    before = model.get_layer("word_embeddings").get_weights()[0]
    model.compile(
        keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    history = model.fit(texts, texts["input_ids"], epochs=6, verbose=0).history["loss"]
    assert history[-1] < 0.9 * history[0]
    table = model.get_layer("word_embeddings").get_weights()[0]
    assert np.abs(table - before).min(axis=1).max() > 0
    hidden = keras.Model(model.inputs, model.get_layer("lm_norm").output)(texts).numpy()
    bias = model.get_layer("lm_bias").get_weights()[0][:, 0]
    np.testing.assert_allclose(model(texts), hidden @ table.T + bias, atol=1e-4)


@pytest.mark.parametrize("head", ["language_model", "embedding"])
def test_half_precision_is_finite(
    heads: dict[str, Any], head: str, texts: dict[str, np.ndarray]
) -> None:
    half, _ = graph.twin(heads[head], dtype="mixed_bfloat16")
    found, expected = half(texts).numpy(), heads[head](texts).numpy()
    assert np.isfinite(found).all()
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_a_recipe_builds_them(data: Path) -> None:
    shapes = dict.fromkeys(("input_ids", "attention_mask"), (None,))

    def build(builder: str, **arguments: Any) -> Any:
        settings = schema.Model(builder=builder, arguments=arguments)
        return build_model(settings, input_shape=shapes, classes=3, seed=0)

    student = build("bert", checkpoint=str(data / "distilbert"), layers=1, pooling="first")
    assert student.name == "distilbert"
    assert student.output_shape == (None, 3)
    bare = build("gpt2", vocabulary=50, layers=1, hidden=16, heads=2)
    assert bare.get_layer("layer_0_intermediate").units == 64
    assert set(tfopt.initialization_of(bare).new.values()) == {"no checkpoint"}
    wide = build("bert", vocabulary=50, layers=1, hidden=768, heads=12, head="embedding")
    assert wide.get_layer("layer_0_intermediate").units == 3072


@pytest.mark.parametrize(
    ("builder", "arguments", "message"),
    [
        ("bert", {}, "without a checkpoint needs vocabulary"),
        ("bert", {"checkpoint": "bert", "vocabulary": 9}, "vocabulary is for random weights"),
        ("bert", {"checkpoint": "gpt2"}, "is a gpt2 model. Use the builder 'gpt2' for it"),
        ("gpt2", {"checkpoint": "bert"}, "is a bert model. Use the builder 'bert' for it"),
        ("bert", {"vocabulary": 9, "layers": [0, 1]}, "layers as a list chooses blocks of a check"),
        ("bert", {"checkpoint": "no-such"}, "no pretrained model"),
        ("bert", {"lairs": 2}, "does not take model.arguments.lairs. Did you mean 'layers'"),
    ],
)
def test_bad_arguments(data: Path, builder: str, arguments: dict[str, Any], message: str) -> None:
    if arguments.get("checkpoint") in ("bert", "gpt2"):
        arguments = {**arguments, "checkpoint": str(data / arguments["checkpoint"])}
    settings = schema.Model(builder=builder, arguments=arguments)
    shapes = dict.fromkeys(("input_ids", "attention_mask"), (8,))
    with pytest.raises(InputError, match=message):
        build_model(settings, input_shape=shapes, classes=2, seed=0)


def test_an_untied_head_is_refused(damaged: Any) -> None:
    folder = damaged(config={"tie_word_embeddings": False})
    with pytest.raises(ModelError, match="tie_word_embeddings is false"):
        tfopt.load_transformer(folder, head="language_model")
    assert tfopt.load_transformer(folder, head="embedding").name == "bert"
