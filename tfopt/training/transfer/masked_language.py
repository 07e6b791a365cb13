"""Masked language modelling beside a task, on the same texts (BERT, arXiv:1810.04805)."""

from __future__ import annotations

import re
from typing import Any

import tensorflow as tf

from tfopt.config.transfer import KeepPretrained
from tfopt.errors import InputError
from tfopt.legacy_keras import Model, keras

METRIC = "masked_language_model_loss"

_CHOSEN, _MASKED, _RANDOM = 0.15, 0.8, 0.1
"""Shares of section 3.1: tokens to predict; of these, masked, and replaced by another."""

_TABLE = "word_embeddings"
_HIDDEN = re.compile(r"^layer_(\d+)_output_norm$")
_IDS, _MASK = "input_ids", "attention_mask"


class MaskedLanguage(keras.layers.Layer):
    """A head that predicts hidden tokens with the model's own table; dropped after training.

    Args:
        model: A flat BERT-family encoder, by the names of its layers.
        settings: Weight of the loss, and the ids of the mask token and of those never hidden.
        seed: Seed of the choice of tokens and of the head.

    Raises:
        InputError: If the model has not these layers, or the mask token is not in its table.
    """

    def __init__(self, model: Model, settings: KeepPretrained, *, seed: int) -> None:
        super().__init__(name="masked_language_model")
        mask_token = settings.mask_token or 0
        self._weight = settings.masked_language_model or 0.0
        self._mask_token = mask_token
        self._special = settings.special_tokens
        hidden, table = _hidden_and_table(model)
        if mask_token >= table.input_dim:
            raise InputError(
                f"transfer.keep_pretrained.mask_token is {mask_token}, and the table of tokens has "
                f"{table.input_dim} rows. Give the id of the mask token in the vocabulary."
            )
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
        ids = tf.cast(inputs[_IDS], tf.int32)
        corrupted, chosen = self.hide(ids, inputs[_MASK])
        given = {**inputs, _IDS: tf.cast(corrupted, inputs[_IDS].dtype)}
        hidden = tf.boolean_mask(self._parts.encoder(given, training=True), chosen)
        x = tf.cast(self.norm(self.transform(hidden)), tf.float32)
        table = tf.cast(self._parts.table.embeddings, tf.float32)
        logits = tf.matmul(x, table, transpose_b=True) + tf.cast(self.bias, tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.boolean_mask(ids, chosen), logits=logits
        )
        count = tf.cast(tf.size(losses), tf.float32)
        return self._weight * tf.math.divide_no_nan(tf.reduce_sum(losses), count)

    def hide(self, ids: Any, mask: Any) -> tuple[Any, Any]:
        """Return ids with some hidden, and where; new ones at every call."""
        candidates = tf.equal(tf.cast(mask, tf.int32), 1)
        for token in (*self._special, self._mask_token):
            candidates &= tf.not_equal(ids, token)
        shape = tf.shape(ids)
        chosen = candidates & (self.draws.uniform(shape) < _CHOSEN)
        fate = self.draws.uniform(shape)
        other = self.draws.uniform(shape, maxval=self._parts.table.input_dim, dtype=tf.int32)
        replaced = tf.where(fate < _MASKED + _RANDOM, other, ids)
        replaced = tf.where(fate < _MASKED, self._mask_token, replaced)
        return tf.where(chosen, replaced, ids), chosen


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
    is_whole = isinstance(table, keras.layers.Embedding) and {_IDS, _MASK} <= inputs
    if table is None or not blocks or not is_whole:
        raise InputError(
            "transfer.keep_pretrained.masked_language_model needs a BERT-family encoder, as "
            f"builder 'bert' makes it: inputs {_IDS} and {_MASK}, layers {_TABLE} and "
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
