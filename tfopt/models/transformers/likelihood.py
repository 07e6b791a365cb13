"""How likely a causal language model finds texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfopt.errors import DataError, ModelError
from tfopt.keras2.core import Model, require_model


def sequence_log_likelihood(
    model: Model, input_ids: Any, attention_mask: Any, *, batch_size: int = 32
) -> npt.NDArray[np.float32]:
    """Return the log-likelihood of each text, given its first token.

    The sum over the real tokens but the first of ``log p(token | the tokens before)``, in nats.

    Args:
        model: A causal language model with vocabulary logits, such as
            ``load_transformer(gpt2, head="language_model")``.
        input_ids: ``(rows, T)`` token ids, ``T >= 2``.
        attention_mask: ``(rows, T)``, 1 for a real token; padding stands on the right.
        batch_size: Rows computed at once.

    Returns:
        ``(rows,)``, at most 0; 0 for a text of one token or none.

    Raises:
        DataError: If the arrays do not fit each other, or padding stands on the left.
        ModelError: If the model gives no vocabulary logits, or they depend on later tokens.
    """
    require_model(model)
    ids, mask = np.asarray(input_ids, np.int32), np.asarray(attention_mask, np.int32)
    _require_texts(ids, mask)
    _require_causal(model, ids, mask)
    parts = []
    for start in range(0, len(ids), batch_size):
        rows = slice(start, start + batch_size)
        logits = _logits(model, ids[rows], mask[rows])
        steps = tf.nn.log_softmax(logits[:, :-1])
        of_tokens = tf.gather(steps, ids[rows, 1:], axis=-1, batch_dims=2).numpy()
        parts.append(np.sum(of_tokens * mask[rows, 1:], axis=1))
    return np.concatenate(parts).astype(np.float32)


def _require_texts(ids: Any, mask: Any) -> None:
    if ids.ndim != 2 or ids.shape != mask.shape or ids.shape[1] < 2 or not len(ids):
        raise DataError(
            "input_ids and attention_mask must have one shape (rows, tokens), with at least 1 row "
            f"and 2 tokens. Received: {ids.shape} and {mask.shape}."
        )
    if not np.isin(mask, (0, 1)).all() or (np.diff(mask, axis=1) > 0).any():
        raise DataError(
            "attention_mask must be 1 for real tokens and then 0 for padding, which stands on the "
            "right. Received one with real tokens behind padding, or with other numbers."
        )


def _require_causal(model: Model, ids: Any, mask: Any) -> None:
    """Raise if the logits of a row change with its last token: a likelihood would be a sham."""
    first = ids[:1], np.ones_like(mask[:1])
    logits = _logits(model, *first)
    is_vocabulary = logits.shape.rank == 3 and logits.shape[1] == ids.shape[1]
    if not is_vocabulary or logits.shape[2] <= ids.max():
        raise ModelError(
            f"A language model gives logits (rows, tokens, vocabulary) with a vocabulary above "
            f"{ids.max()}, the largest token id. Received: {tuple(logits.shape)}. Load it with "
            "head='language_model'."
        )
    other = ids[:1].copy()
    other[0, -1] = (other[0, -1] + 1) % logits.shape[2]
    changed = _logits(model, other, first[1])
    difference = float(tf.reduce_max(tf.abs((logits - changed)[:, :-1])))
    if not difference <= 1e-3 * max(1.0, float(tf.reduce_max(tf.abs(logits)))):
        raise ModelError(
            f"Model {model.name!r} is not causal: another last token changes the logits before it "
            f"by {difference:.3g}, so it has no likelihood of a sequence. Use a GPT-2 model."
        )


def _logits(model: Model, ids: Any, mask: Any) -> Any:
    return model({"input_ids": ids, "attention_mask": mask}, training=False)
