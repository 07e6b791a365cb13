"""Build transformers from pretrained weights or with random ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tfopt.errors import InputError, ModelError
from tfopt.keras2.core import Model, keras
from tfopt.models.pretrained import checkpoint_folder
from tfopt.models.shapes import outputs
from tfopt.models.transformers import heads as output_heads
from tfopt.models.transformers.body import body
from tfopt.models.transformers.config import TransformerConfig, read_config
from tfopt.models.transformers.initialization import Initialization, remember_initialization
from tfopt.models.transformers.loading import Pretrained, load_weights
from tfopt.models.transformers.settings import HeadSettings, Shape, TextInputs, text_of
from tfopt.models.transformers.tensors import open_tensors

_log = logging.getLogger(__name__)

# MiniLM-L6 without its vocabulary, and GPT-2's smallest. The vocabulary is the user's.
_BERT = TransformerConfig(
    family="bert",
    vocabulary=0,
    hidden=384,
    layers=6,
    heads=12,
    intermediate=1536,
    positions=512,
    token_types=2,
)
_GPT2 = TransformerConfig(
    family="gpt2",
    vocabulary=0,
    hidden=768,
    layers=12,
    heads=12,
    intermediate=3072,
    positions=1024,
    activation="gelu_tanh",
    norm_epsilon=1e-5,
)


def bert(
    input_shape: Any,
    classes: int | None,
    *,
    checkpoint: str | None = None,
    head: str = "classification",
    layers: int | Sequence[int] | None = None,
    hidden: int | None = None,
    heads: int | None = None,
    intermediate: int | None = None,
    embedding_rank: int | None = None,
    dropout: float | None = None,
    pooling: str | None = None,
    vocabulary: int | None = None,
) -> Model:
    """Return a BERT-like encoder in plain layers (arXiv:1810.04805).

    Args:
        input_shape: ``(tokens,)`` for each of ``input_ids``, ``attention_mask`` and, for pairs,
            ``token_type_ids``; ``tokens`` may be None.
        classes: Number of classes; None for one number (regression). Some heads need none.
        checkpoint: A packaged model's name, or a folder in Hugging Face layout, of BERT,
            DistilBERT or RoBERTa. None for random weights in the shape of MiniLM-L6.
        head: ``classification``, ``token_classification``, ``language_model`` or ``embedding``.
        layers: See ``Shape``.
        hidden: See ``Shape``.
        heads: See ``Shape``.
        intermediate: See ``Shape``.
        embedding_rank: See ``Shape``.
        dropout: See ``Shape``.
        pooling: ``mean`` (by default), ``first`` or ``last``.
        vocabulary: Tokens known; only without a checkpoint.

    Returns:
        A Functional model that gives logits, or vectors of length 1. Where its weights come
        from, ``initialization_of`` tells.

    Raises:
        InputError: If an argument is impossible, or the weights cannot be used.
        BackendMissing: If the packaged model or safetensors is not installed.
    """
    shape = Shape(layers, hidden, heads, intermediate, embedding_rank, dropout)
    task = HeadSettings(head, outputs(classes, builder="bert"), pooling)
    return _built("bert", checkpoint, vocabulary, shape, task, text_of(input_shape, builder="bert"))


def gpt2(
    input_shape: Any,
    classes: int | None,
    *,
    checkpoint: str | None = None,
    head: str = "classification",
    layers: int | Sequence[int] | None = None,
    hidden: int | None = None,
    heads: int | None = None,
    intermediate: int | None = None,
    embedding_rank: int | None = None,
    dropout: float | None = None,
    pooling: str | None = None,
    vocabulary: int | None = None,
) -> Model:
    """Return a GPT-2-like decoder in plain layers (Radford et al. 2019).

    Args:
        input_shape: See ``bert``; without ``token_type_ids``.
        classes: See ``bert``.
        checkpoint: A folder in Hugging Face layout, of GPT-2. None for random weights in the
            shape of its smallest model.
        head: See ``bert``.
        layers: See ``Shape``.
        hidden: See ``Shape``.
        heads: See ``Shape``.
        intermediate: See ``Shape``.
        embedding_rank: See ``Shape``.
        dropout: See ``Shape``.
        pooling: ``last`` (by default), ``first`` or ``mean``.
        vocabulary: See ``bert``.

    Returns:
        See ``bert``.

    Raises:
        InputError: See ``bert``.
        BackendMissing: See ``bert``.
    """
    shape = Shape(layers, hidden, heads, intermediate, embedding_rank, dropout)
    task = HeadSettings(head, outputs(classes, builder="gpt2"), pooling)
    return _built("gpt2", checkpoint, vocabulary, shape, task, text_of(input_shape, builder="gpt2"))


def from_checkpoint(
    checkpoint: str | Path, shape: Shape, task: HeadSettings, text: TextInputs
) -> Model:
    """Return a transformer with pretrained weights, whatever its family.

    Args:
        checkpoint: A packaged model's name, or a folder in Hugging Face layout.
        shape: Changes to its shape.
        task: Its head.
        text: What it reads.

    Raises:
        InputError: If a setting is impossible, or the weights cannot be used.
        BackendMissing: If the packaged model or safetensors is not installed.
    """
    folder = checkpoint_folder(checkpoint)
    return _with_weights(folder, read_config(folder), shape, task, text)


def _built(
    builder: str,
    checkpoint: str | None,
    vocabulary: int | None,
    shape: Shape,
    task: HeadSettings,
    text: TextInputs,
) -> Model:
    default = _GPT2 if builder == "gpt2" else _BERT
    if checkpoint is None:
        return _with_random_weights(default, vocabulary, shape, task, text)
    if vocabulary is not None:
        raise InputError(
            f"vocabulary is for random weights; the pretrained model {checkpoint!r} has its own. "
            "Remove it."
        )
    folder = checkpoint_folder(checkpoint)
    config = read_config(folder)
    if config.is_causal != default.is_causal:
        right = "gpt2" if config.is_causal else "bert"
        raise InputError(
            f"{checkpoint!r} is a {config.family} model. Use the builder {right!r} for it."
        )
    return _with_weights(folder, config, shape, task, text)


def _with_weights(
    folder: Path, config: TransformerConfig, shape: Shape, task: HeadSettings, text: TextInputs
) -> Model:
    changed, blocks = shape.applied(config)
    model = _graph(changed, task, text)
    source = Pretrained(str(folder), config, open_tensors(folder))
    record = load_weights(model, changed, source, blocks)
    _log.info("%s: %s", folder, record.summary())
    remember_initialization(model, record)
    return model


def _with_random_weights(
    default: TransformerConfig,
    vocabulary: int | None,
    shape: Shape,
    task: HeadSettings,
    text: TextInputs,
) -> Model:
    if type(vocabulary) is not int or vocabulary < 1:
        raise InputError(
            "A transformer without a checkpoint needs vocabulary, the number of tokens that the "
            f"tokenizer knows. Received: {vocabulary!r}."
        )
    if shape.layers is not None and not isinstance(shape.layers, int):
        raise InputError(
            f"layers as a list chooses blocks of a checkpoint, and there is none. Received: "
            f"{shape.layers!r}. Give a number."
        )
    config, _ = shape.applied(_room_for(shape, replace(default, vocabulary=vocabulary)))
    model = _graph(config, task, text)
    new = {layer.name: "no checkpoint" for layer in model.layers if layer.weights}
    remember_initialization(model, Initialization(checkpoint=None, new=new))
    return model


def _room_for(shape: Shape, config: TransformerConfig) -> TransformerConfig:
    """Return the default shape, as large as what is asked for: nothing must fit into it."""
    asked: dict[str, Any] = {
        name: value
        for name in ("layers", "hidden", "heads", "intermediate")
        if type(value := getattr(shape, name)) is int and value > getattr(config, name)
    }
    if "hidden" in asked and "intermediate" not in asked:
        asked["intermediate"] = 4 * asked["hidden"]
    return replace(config, **asked)


def _graph(config: TransformerConfig, task: HeadSettings, text: TextInputs) -> Model:
    """Return the model with random weights.

    Raises:
        ModelError: If the texts do not fit, or the language-model head is not tied.
    """
    pooling = task.pooling_for(config)
    text.require_fit(config)
    if task.head == "language_model" and not config.is_tied:
        raise ModelError(
            "tie_word_embeddings is false in config.json: its language-model head has a table of "
            "its own, which is not supported. Use another head."
        )
    built = body(config, text.tokens, pairs=text.pairs)
    if task.head == "classification":
        result = output_heads.classification(built, config, task.units, pooling)
    elif task.head == "token_classification":
        result = output_heads.token_classification(built, config, task.units)
    elif task.head == "language_model":
        result = output_heads.language_model(built, config)
    else:
        result = output_heads.embedding(built, pooling)
    return keras.Model(dict(built.tokens.inputs), result, name=config.family)
