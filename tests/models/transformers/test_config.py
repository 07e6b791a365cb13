"""config.json is read for four families, and what cannot be followed is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tfopt.errors import ModelError
from tfopt.models.pretrained import checkpoint_folder
from tfopt.models.transformers.config import TransformerConfig, read_config


def test_minilm() -> None:
    assert read_config(checkpoint_folder("minilm-l6")) == TransformerConfig(
        family="bert",
        vocabulary=30522,
        hidden=384,
        layers=6,
        heads=12,
        intermediate=1536,
        positions=512,
        token_types=2,
    )


def test_roberta_counts_positions_from_behind_its_padding(data: Path) -> None:
    config = read_config(data / "roberta")
    assert (config.first_position, config.positions, config.longest) == (2, 22, 20)


def test_families_differ(data: Path) -> None:
    assert read_config(data / "distilbert").token_types == 0
    gpt2 = read_config(data / "gpt2")
    assert (gpt2.is_causal, gpt2.activation, gpt2.intermediate) == (True, "gelu_tanh", 96)
    assert not read_config(data / "bert").is_causal


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "t5"}, "model_type 't5' has no builder. Known: bert, distilbert"),
        (
            {"position_embedding_type": "relative_key"},
            "position_embedding_type is 'relative_key', and only 'absolute'",
        ),
        ({"hidden_act": "mish"}, "activation 'mish' is none of gelu, gelu_new"),
        ({"is_decoder": True}, "is_decoder is True, and only False"),
        ({"num_attention_heads": 5}, "5 heads do not divide a width of 24"),
        ({"hidden_size": None}, "hidden_size must be a positive whole number, and is None"),
        (
            {"vocab_size": 0, "hidden_act": "mish"},
            "vocab_size must be .* and is 0; the activation 'mish'",
        ),
    ],
)
def test_what_cannot_be_followed_is_named(
    damaged: Callable[..., Path], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        read_config(damaged(config=config))


def test_a_missing_or_broken_config(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be read: .*config\.json"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json is not JSON"):
        read_config(tmp_path)
