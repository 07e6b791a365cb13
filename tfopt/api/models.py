"""``tfopt.load``, ``tfopt.load_transformer``, ``tfopt.save`` and ``tfopt.strip``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tfopt.bridge.provenance import carry
from tfopt.bridge.to_keras3.convert import to_keras3
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.compression import strip as stripping
from tfopt.compression.keras3 import SAVED_OBJECTS
from tfopt.keras2.core import Model, is_keras3
from tfopt.models.load import load_model, save_model
from tfopt.models.shapes import outputs
from tfopt.models.transformers.build import from_checkpoint
from tfopt.models.transformers.settings import HeadSettings, Shape, TextInputs


def load(
    path: str | Path, *, custom_objects: Mapping[str, Any] | None = None, trust: bool = False
) -> Model:
    """Return a saved model as a tf_keras model, also one in the middle of a step.

    Which Keras saved it is said on the logger ``tfopt`` at level INFO. Of a Keras 3 model,
    ``conversion_of(model)`` returns the evidence that nothing changed.

    Args:
        path: A ``.keras`` or ``.h5`` file of either Keras, or a SavedModel folder.
        custom_objects: The user's own classes, by name.
        trust: Whether Python code in the file (a Lambda) may run.

    Returns:
        The model, not compiled. Masks, 2:4 settings, shared values and ranges are as
        they were saved.

    Raises:
        ModelError: If the file is missing or damaged, or holds code and is not trusted.
        VerificationError: If the conversion from Keras 3 changed what the model computes.
    """
    return load_model(path, custom_objects={**SAVED_OBJECTS, **(custom_objects or {})}, trust=trust)


def load_transformer(
    checkpoint: str | Path,
    *,
    head: Literal[
        "classification", "token_classification", "language_model", "embedding"
    ] = "classification",
    classes: int | None = None,
    tokens: int | None = None,
    token_types: bool = False,
    layers: int | Sequence[int] | None = None,
    hidden: int | None = None,
    heads: int | None = None,
    intermediate: int | None = None,
    embedding_rank: int | None = None,
    dropout: float | None = None,
    pooling: Literal["mean", "first", "last"] | None = None,
) -> Model:
    """Return a pretrained BERT, DistilBERT, RoBERTa or GPT-2 as a model of plain tf_keras layers.

    Its inputs are a dict of int32 arrays ``(rows, tokens)``: ``input_ids``, ``attention_mask`` (1
    for a real token; padding stands on the right) and, if asked for, ``token_type_ids``. It
    saves and loads without tfopt. ``initialization_of(model)`` says of every layer whether its
    weights are pretrained.

    Args:
        checkpoint: ``minilm-l6``, or a folder with ``config.json`` and safetensors or PyTorch
            files.
        head: What the model gives: logits of the text, of each token, or over the vocabulary
            for each token; or a vector of length 1.
        classes: Width of a classification head; None for one number.
        tokens: Tokens of every text; None for any number.
        token_types: Whether ``token_type_ids`` are an input, for pairs of sentences.
        layers: Keep the first so many blocks, or those of these numbers.
        hidden: A smaller width. What does not fit any more has random weights.
        heads: Fewer attention heads.
        intermediate: A smaller width inside the feed-forward parts.
        embedding_rank: Width of the table of tokens, before a projection to ``hidden``.
        dropout: Fraction dropped in training; None for what the checkpoint says.
        pooling: How tokens become one vector; ``mean`` in encoders and ``last`` in GPT-2 by
            default.

    Returns:
        The model, not compiled.

    Raises:
        InputError: If an argument is impossible, or config or weights cannot be used.
        BackendMissing: If the packaged model or safetensors is not installed.
    """
    return from_checkpoint(
        checkpoint,
        Shape(layers, hidden, heads, intermediate, embedding_rank, dropout),
        HeadSettings(head, outputs(classes, builder="load_transformer"), pooling),
        TextInputs(tokens, token_types),
    )


def save(model: Any, path: str | Path) -> None:
    """Save a model, plain or in the middle of a step, whole or not at all.

    Args:
        model: A built model of either Keras.
        path: A ``.keras`` or ``.h5`` file; an existing one is replaced.

    Raises:
        StorageError: If it cannot be written.
        ModelError: If it is not a Keras model.
    """
    save_model(model, path)


def strip(model: Any) -> Any:
    """Return the plain floating-point model inside one that a step has changed.

    Zeros and shared values are in its kernels; 8-bit ranges are gone.

    Args:
        model: A model of either Keras: in the middle of a step, or from ``quantize``.

    Returns:
        A plain model of the same Keras.

    Raises:
        ModelError: If it is not a Functional or Sequential model.
    """
    twin = to_tf_keras(model)
    finished = carry(twin, stripping.strip(twin))
    return to_keras3(finished) if is_keras3(model) else finished
