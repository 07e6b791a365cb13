"""Masked language modelling beside a task, on the same texts (BERT, arXiv:1810.04805)."""

from __future__ import annotations

import re
from typing import Any

import tensorflow as tf

from tfopt.config.schema import TextSettings
from tfopt.config.transfer import KeepPretrained, Transfer
from tfopt.data.text.batches import IDS, IGNORED, MASK
from tfopt.data.text.masking import Masking, masked_language_model_batch, masking_of
from tfopt.data.text.tokenizer import load_tokenizer
from tfopt.errors import InputError
from tfopt.keras2.core import Model, keras

METRIC = "masked_language_model_loss"

_TABLE = "word_embeddings"
_HIDDEN = re.compile(r"^layer_(\d+)_output_norm$")


def with_hidden_tokens(settings: Transfer, text: TextSettings | None) -> Transfer:
    """Return the settings with the ids that the tokenizer tells, where none are set.

    Args:
        settings: The ``transfer`` section.
        text: How the data's text becomes token ids, if it is text.

    Raises:
        BackendMissing: If the tokenizer, or the package for it, is not installed.
        DataError: If it has no mask token.
    """
    keep = settings.keep_pretrained
    is_asked = keep is not None and keep.masked_language_model is not None
    if keep is None or not is_asked or keep.mask_token is not None or text is None:
        return settings
    found = masking_of(load_tokenizer(text.tokenizer, lower_case=text.lower_case))
    special = keep.special_tokens or tuple(sorted(found.special_ids))
    told = {"mask_token": found.mask_id, "special_tokens": special}
    return settings.model_copy(update={"keep_pretrained": keep.model_copy(update=told)})


class MaskedLanguage(keras.layers.Layer):
    """A head that predicts hidden tokens with the model's own table; dropped after training.

    Args:
        model: A flat BERT-family encoder, by the names of its layers.
        settings: Weight of the loss, and the ids of the mask token and of those never hidden.
        seed: Seed of the choice of tokens and of the head.

    Raises:
        InputError: If the model has not these layers, or the mask token is not told or not in
            its table.
    """

    def __init__(self, model: Model, settings: KeepPretrained, *, seed: int) -> None:
        super().__init__(name="masked_language_model")
        self._weight = settings.masked_language_model or 0.0
        hidden, table = _hidden_and_table(model)
        mask_token = settings.mask_token
        if mask_token is None:
            raise InputError(
                "transfer.keep_pretrained.masked_language_model needs mask_token, the id of the "
                "mask token in the vocabulary, for example 103 for BERT's uncased one."
            )
        if mask_token >= table.input_dim:
            raise InputError(
                f"transfer.keep_pretrained.mask_token is {mask_token}, and the table of tokens has "
                f"{table.input_dim} rows. Give the id of the mask token in the vocabulary."
            )
        special = frozenset({*settings.special_tokens, mask_token})
        self._masking = Masking(mask_token, table.input_dim, special)
        # In a box, or Keras would count the encoder's weights a second time.
        self._parts = _Parts(keras.Model(model._nested_inputs, hidden), table)
        self.draws = tf.random.Generator.from_seed(seed)
        width = hidden.shape[-1]
        self.transform = keras.layers.Dense(
            width,
            activation="gelu",
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02, seed=seed),
            name="masked_language_model_transform",
        )
        self.norm = keras.layers.LayerNormalization(
            epsilon=1e-12, name="masked_language_model_norm"
        )
        self.transform.build((None, width))
        self.norm.build((None, width))
        self.bias = self.add_weight("bias", shape=(table.input_dim,), initializer="zeros")
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return the weighted mean cross-entropy of a batch's hidden tokens; 0 without any."""
        given, labels = self.hide(inputs)
        chosen = tf.not_equal(labels, IGNORED)
        hidden = tf.boolean_mask(self._parts.encoder(given, training=True), chosen)
        x = tf.cast(self.norm(self.transform(hidden)), tf.float32)
        table = tf.cast(self._parts.table.embeddings, tf.float32)
        logits = tf.matmul(x, table, transpose_b=True) + tf.cast(self.bias, tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.boolean_mask(labels, chosen), logits=logits
        )
        count = tf.cast(tf.size(losses), tf.float32)
        return self._weight * tf.math.divide_no_nan(tf.reduce_sum(losses), count)

    def hide(self, inputs: Any) -> tuple[Any, Any]:
        """Return inputs with some tokens hidden, and the labels; new ones at every call."""
        return masked_language_model_batch(inputs, self.draws.make_seeds()[:, 0], self._masking)


class _Parts:
    """Keeps Keras from tracking the encoder."""

    def __init__(self, encoder: Model, table: Any) -> None:
        self.encoder = encoder
        self.table = table


def _hidden_and_table(model: Model) -> tuple[Any, Any]:
    layers = {layer.name: layer for layer in model.layers}
    blocks = {int(found[1]): name for name in layers if (found := _HIDDEN.match(name))}
    inputs = {tensor._keras_history.layer.name for tensor in model.inputs}
    table = layers.get(_TABLE)
    is_whole = isinstance(table, keras.layers.Embedding) and {IDS, MASK} <= inputs
    if table is None or not blocks or not is_whole:
        raise InputError(
            "transfer.keep_pretrained.masked_language_model needs a BERT-family encoder, as "
            f"builder 'bert' makes it: inputs {IDS} and {MASK}, layers {_TABLE} and "
            f"layer_0_output_norm. Model {model.name!r} has inputs {sorted(inputs)}."
        )
    hidden = layers[blocks[max(blocks)]].output
    if table.output_dim != hidden.shape[-1]:
        raise InputError(
            "transfer.keep_pretrained.masked_language_model reads the table of tokens, which is "
            f"{table.output_dim} wide, and hidden states are {hidden.shape[-1]}. Use a model "
            "without embedding_rank, or l2_sp."
        )
    return hidden, table
