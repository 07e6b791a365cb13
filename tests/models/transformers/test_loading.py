"""Every weight comes from the files, or is named as one that does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tfopt
from tfopt.errors import ModelError
from tfopt.models.transformers.narrowing import factorise


def weights(model: Any, layer: str) -> np.ndarray:
    return model.get_layer(layer).get_weights()[0]


def test_the_body_is_loaded_and_the_head_is_new(data: Path) -> None:
    model = tfopt.load_transformer(data / "bert", classes=3)
    record = tfopt.initialization_of(model)
    assert set(record.new) == {"classifier"}
    assert not record.derived
    assert {*record.loaded, "classifier"} == {layer.name for layer in model.layers if layer.weights}
    assert set(record.unused.values()) == {"the language-model head"}
    assert record.summary().endswith("layers loaded, 1 new (classifier: a new head)")
    stored = load_file(data / "bert" / "model.safetensors")
    kernel = stored["bert.encoder.layer.1.attention.self.key.weight"]
    np.testing.assert_array_equal(weights(model, "layer_1_attention_key"), kernel.T)


def test_a_model_of_another_kind_has_no_record(digits_model: Any) -> None:
    assert tfopt.initialization_of(digits_model) is None


@pytest.fixture
def digits_model() -> Any:
    from tfopt.keras2.core import keras

    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])


def test_chosen_blocks_keep_their_weights_and_the_others_are_named(data: Path) -> None:
    model = tfopt.load_transformer(data / "bert", classes=3, layers=[1])
    whole = tfopt.load_transformer(data / "bert", classes=3)
    for part in ("attention_query", "output", "output_norm"):
        np.testing.assert_array_equal(
            weights(model, f"layer_0_{part}"), weights(whole, f"layer_1_{part}")
        )
    unused = tfopt.initialization_of(model).unused
    left_out = {name for name, why in unused.items() if why == "block 0 is left out"}
    assert len(left_out) == 16
    assert all(".layer.0." in name for name in left_out)


def test_bare_names_and_tensorflow_names_are_known(damaged: Callable[..., Path]) -> None:
    folder = damaged()
    file = folder / "model.safetensors"
    renamed = {
        name.removeprefix("bert.")
        .replace("LayerNorm.weight", "LayerNorm.gamma")
        .replace("LayerNorm.bias", "LayerNorm.beta"): values
        for name, values in load_file(file).items()
    }
    renamed["pooler.dense.weight"] = np.zeros((24, 24), np.float32)
    renamed["embeddings.position_ids"] = np.arange(20)[None]
    save_file(renamed, file)
    record = tfopt.initialization_of(tfopt.load_transformer(folder, head="language_model"))
    assert not record.new
    assert set(record.unused) == {"pooler.dense.weight", "embeddings.position_ids"}


_KEY = "bert.encoder.layer.0.attention.self.key.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"drop": (_KEY,)}, f"missing {_KEY}"),
        (
            {"tensors": {_KEY: np.zeros((24, 20), np.float32)}},
            f"{_KEY} is for weights of ..20, 24., .24,.., where",
        ),
        ({"tensors": {"bert.extra": np.zeros(2, np.float32)}}, "nothing takes bert.extra"),
        (
            {"tensors": {"bert.encoder.layer.2.output.dense.bias": np.zeros(24, np.float32)}},
            "nothing takes bert.encoder.layer.2.output.dense.bias",
        ),
        (
            {"tensors": {"cls.predictions.decoder.weight": np.zeros((60, 24), np.float32)}},
            "decoder.weight is not the table of tokens",
        ),
        (
            {"drop": ("cls.predictions.transform.dense.bias",)},
            "missing cls.predictions.transform.dense.bias",
        ),
        ({"config": {"vocab_size": 61}}, "word_embeddings.weight is for weights of ..60, 24.."),
        (
            {"config": {"num_hidden_layers": 3}},
            "missing bert.encoder.layer.2.attention.self.query.weight",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    damaged: Callable[..., Path], damage: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=f"do not fit its config.json: .*({message})"):
        tfopt.load_transformer(damaged(**damage), head="language_model")


def test_weights_of_another_family_are_refused(damaged: Callable[..., Path], data: Path) -> None:
    folder = damaged("distilbert")
    config = json.loads((data / "bert" / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="not those of a bert model: there is neither embeddings"):
        tfopt.load_transformer(folder, head="embedding")


def test_a_missing_head_is_new_and_says_so(damaged: Callable[..., Path], data: Path) -> None:
    names = load_file(data / "bert" / "model.safetensors")
    folder = damaged(drop=tuple(name for name in names if name.startswith("cls.")))
    record = tfopt.initialization_of(tfopt.load_transformer(folder, head="language_model"))
    why = "the pretrained model has no such head"
    assert record.new == dict.fromkeys(("lm_transform", "lm_norm", "lm_bias"), why)


def test_a_factorised_table_is_the_nearest_of_its_rank(data: Path) -> None:
    model = tfopt.load_transformer(data / "bert", classes=2, embedding_rank=10)
    record = tfopt.initialization_of(model)
    assert set(record.derived) == {"word_embeddings", "word_embeddings_projection"}
    assert "rank 10 of the pretrained table (60, 24)" in record.derived["word_embeddings"]
    assert set(record.new) == {"classifier"}
    table = load_file(data / "bert" / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    product = weights(model, "word_embeddings") @ weights(model, "word_embeddings_projection")
    left, values, right = np.linalg.svd(table, full_matrices=False)
    nearest = left[:, :10] * values[:10] @ right[:10]
    np.testing.assert_allclose(product, nearest, atol=1e-4)


def test_a_narrower_model_names_what_it_could_not_take(data: Path) -> None:
    model = tfopt.load_transformer(data / "bert", classes=2, hidden=12, heads=2)
    record = tfopt.initialization_of(model)
    assert "word_embeddings" in record.derived
    assert "layer_0_attention_query" in record.new
    assert record.new["layer_0_output_norm"] == "(12,), where the pretrained model has (24,)"
    # Rows keep their inner products as far as the width allows.
    table = load_file(data / "bert" / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    words = weights(model, "word_embeddings")
    closeness = np.corrcoef((words @ words.T).ravel(), (table @ table.T).ravel())[0, 1]
    assert closeness > 0.9


def test_fewer_heads_keep_the_rest(data: Path) -> None:
    record = tfopt.initialization_of(tfopt.load_transformer(data / "bert", classes=2, heads=2))
    assert {name.split("_", 2)[2] for name in record.new if name != "classifier"} == {
        *("attention_query", "attention_key", "attention_value", "attention_output")
    }
    assert record.new["layer_0_attention_key"] == "2 heads, where the pretrained model has 4"


@pytest.mark.parametrize("part", ["intermediate", "output"])
def test_a_misshaped_tensor_is_an_error_in_a_narrower_model_too(
    damaged: Callable[..., Path], part: str
) -> None:
    name = f"bert.encoder.layer.0.{part}.dense.weight"
    folder = damaged(tensors={name: np.zeros((30, 30), np.float32)})
    for shape in ({"intermediate": 20}, {"hidden": 12}, {}):
        with pytest.raises(ModelError, match=f"config.json: {name} is for weights of ..30, 30."):
            tfopt.load_transformer(folder, classes=2, **shape)


def test_factors_of_a_table_of_lower_rank_are_finite() -> None:
    words, back = factorise(np.ones((5, 4), np.float32), 3)
    np.testing.assert_allclose(words @ back, np.ones((5, 4)), atol=1e-4)
