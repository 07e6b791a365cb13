"""The first half of the table in bridge_models.py: models of ordinary layers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers as L  # noqa: N812  # as every Keras user writes it
from keras import ops

Input, Model, Sequential = keras.Input, keras.Model, keras.Sequential


def cnn(inputs: Any, width: int = 8) -> Any:
    x = L.Conv2D(width, 3, padding="same", use_bias=False)(inputs)
    x = L.BatchNormalization()(x)
    return L.ReLU()(x)


def residual_cnn() -> Any:
    x = inputs = Input((16, 16, 3))
    x = cnn(x)
    for stride in (1, 2):
        shortcut = L.Conv2D(8, 1, strides=stride)(x)
        y = cnn(x)
        y = L.DepthwiseConv2D(3, strides=stride, padding="same")(y)
        y = L.BatchNormalization()(y)
        x = L.Activation("relu6")(L.Add()([shortcut, y]))
    x = L.GlobalAveragePooling2D()(x)
    return Model(inputs, L.Dense(5, activation="softmax")(x))


def inverted_residual_with_gate() -> Any:
    inputs = Input((16, 16, 4))
    x = L.Conv2D(12, 1, activation="hard_silu")(inputs)
    x = L.DepthwiseConv2D(3, padding="same", activation="silu")(x)
    gate = L.GlobalAveragePooling2D(keepdims=True)(x)
    gate = L.Conv2D(3, 1, activation="relu")(gate)
    gate = L.Conv2D(12, 1, activation="hard_sigmoid")(gate)
    x = L.Conv2D(4, 1)(L.Multiply()([x, gate]))
    return Model(inputs, L.Flatten()(inputs + x))


def masked_lstm_stack() -> Any:
    inputs = Input((7,), dtype="int32")
    x = L.Embedding(20, 6, mask_zero=True)(inputs)
    x = L.LSTM(5, return_sequences=True)(x)
    x = L.LSTM(4)(x)
    return Model(inputs, L.Dense(3)(x))


def masked_gru_stack() -> Any:
    inputs = Input((7, 4))
    x = L.Masking()(inputs)
    x = L.GRU(5, return_sequences=True, reset_after=False)(x)
    x = L.GRU(4, return_sequences=True)(x)
    return Model(inputs, L.TimeDistributed(L.Dense(3))(x))


def bidirectional_merge_modes() -> Any:
    inputs = Input((7,), dtype="int32")
    x = L.Embedding(20, 6, mask_zero=True)(inputs)
    outputs = []
    for mode in ("concat", "sum", "mul", "ave"):
        outputs.append(L.Bidirectional(L.LSTM(3, return_sequences=True), merge_mode=mode)(x))
    outputs += L.Bidirectional(L.GRU(3), merge_mode=None)(x)
    return Model(inputs, outputs)


def seq2seq_with_states() -> Any:
    source, target = Input((6, 4), name="source"), Input((5, 3), name="target")
    _, h, c = L.LSTM(8, return_state=True)(source)
    x = L.LSTM(8, return_sequences=True)(target, initial_state=[h, c])
    return Model([source, target], L.Dense(3)(x))


def seq2seq_gru_masked() -> Any:
    source, target = Input((None,), dtype="int32"), Input((None,), dtype="int32")
    table = L.Embedding(20, 6, mask_zero=True)
    encoded, *state = L.Bidirectional(L.GRU(4, return_sequences=True, return_state=True))(
        table(source)
    )
    x = L.GRU(8, return_sequences=True)(table(target), initial_state=L.Concatenate()(state))
    x = L.Concatenate()([x, L.Attention(use_scale=True)([x, encoded])])
    return Model([source, target], L.Dense(20, activation="softmax")(x))


def transformer_block() -> Any:
    inputs = Input((8,), dtype="int32")
    x = L.Embedding(20, 12)(inputs) + L.Embedding(8, 12)(ops.arange(8))
    y = L.MultiHeadAttention(3, 4)(L.LayerNormalization()(x), L.LayerNormalization()(x))
    x = L.Add()([x, y])
    y = L.Dense(24, activation="gelu")(L.LayerNormalization()(x))
    x = L.Add()([x, L.Dense(12)(y)])
    return Model(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(x)))


def cross_attention_with_mask_input() -> Any:
    query, value = Input((4, 6), name="query"), Input((5, 6), name="value")
    mask = Input((4, 5), dtype="bool", name="allowed")
    x = L.MultiHeadAttention(2, 3)(query, value, attention_mask=mask)
    return Model([query, value, mask], L.LayerNormalization()(x + query))


def luong_attention() -> Any:
    query, value = Input((4, 6)), Input((5, 6))
    x = L.Attention()([query, value])
    y = L.AdditiveAttention()([query, value])
    return Model([query, value], L.Concatenate()([x, y]))


def unet() -> Any:
    inputs = Input((16, 16, 3))
    first = cnn(inputs)
    second = cnn(L.MaxPooling2D()(first), 16)
    x = cnn(L.MaxPooling2D()(second), 24)
    x = L.Conv2DTranspose(16, 2, strides=2)(x)
    x = cnn(L.Concatenate()([x, second]), 16)
    x = L.UpSampling2D(interpolation="bilinear")(x)
    x = cnn(L.Concatenate()([x, first]))
    return Model(inputs, L.Conv2D(2, 1, activation="sigmoid")(x))


def dict_inputs() -> Any:
    inputs = {"b": Input((4,), name="b"), "a": Input((3,), name="a")}
    return Model(inputs, L.Dense(2)(L.Concatenate()([inputs["a"], inputs["b"]])))


def dict_inputs_with_other_names() -> Any:
    inputs = {"left": Input((4,), name="z"), "right": Input((3,), name="y")}
    return Model(inputs, L.Dense(2)(L.Concatenate()(list(inputs.values()))))


def list_inputs() -> Any:
    inputs = [Input((4,)), Input((3,)), Input((2,))]
    return Model(inputs, L.Dense(2)(L.Concatenate()(inputs)))


def tuple_inputs_nested() -> Any:
    inputs = (Input((4,)), {"x": Input((4,)), "y": [Input((4,))]})
    return Model(inputs, L.Dense(2)(L.Add()(keras.tree.flatten(inputs))))


def dict_outputs() -> Any:
    inputs = Input((4,))
    x = L.Dense(6, activation="relu")(inputs)
    return Model(inputs, {"score": L.Dense(1)(x), "kind": L.Dense(3, activation="softmax")(x)})


def tuple_outputs() -> Any:
    inputs = Input((4,))
    x = L.Dense(6, activation="relu")(inputs)
    return Model(inputs, (L.Dense(1)(x), [x, L.Dense(3)(x)]))


def multi_output_list() -> Any:
    inputs = Input((8, 8, 1))
    x = L.Flatten()(cnn(inputs))
    return Model(inputs, [L.Dense(2, name="first")(x), L.Dense(1, name="second")(x)])


def siamese() -> Any:
    left, right = Input((8, 8, 1)), Input((8, 8, 1))
    tower = Sequential([Input((8, 8, 1)), L.Conv2D(4, 3), L.ReLU(), L.Flatten(), L.Dense(5)])
    distance = ops.abs(tower(left) - tower(right))
    return Model([left, right], L.Dense(1, activation="sigmoid")(distance))


def shared_layer_three_times() -> Any:
    inputs = Input((6,))
    shared = L.Dense(6, activation="tanh")
    return Model(inputs, L.Dense(2)(shared(shared(shared(inputs)))))


def nested_frozen_base() -> Any:
    base_in = Input((16, 16, 3))
    base = Model(base_in, L.GlobalAveragePooling2D()(cnn(cnn(base_in))), name="base")
    base.trainable = False
    inputs = Input((16, 16, 3))
    return Model(inputs, L.Dense(3)(base(inputs, training=False)))


def doubly_nested_partly_frozen() -> Any:
    inner = Sequential([Input((4,)), L.Dense(5), L.BatchNormalization()], name="inner")
    inner.layers[0].trainable = False
    middle_in = Input((4,))
    middle = Model(middle_in, L.Dense(6)(inner(middle_in)), name="middle")
    inputs = Input((4,))
    return Model(inputs, L.Dense(2)(middle(inputs)))


def nested_called_twice() -> Any:
    part = Sequential([Input((4,)), L.Dense(4), L.BatchNormalization()])
    inputs = Input((4,))
    return Model(inputs, part(part(inputs)))


def nested_multi_io() -> Any:
    first, second = Input((4,)), Input((3,))
    x = L.Concatenate()([first, second])
    part = Model([first, second], {"sum": L.Dense(2)(x), "all": x}, name="part")
    one, two = Input((4,)), Input((3,))
    found = part([one, two])
    return Model([one, two], [found["sum"], L.Dense(2)(found["all"])])


def name_collisions() -> Any:
    def part(name: str) -> Any:
        return Sequential([Input((4,)), L.Dense(4, name="dense"), L.ReLU(name="act")], name=name)

    inputs = Input((4,))
    x = L.Dense(4, name="dense")(inputs)
    return Model(inputs, L.Dense(2, name="out")(part("one")(part("two")(x))))


def sequential_in_functional() -> Any:
    inputs = Input((8, 8, 3))
    x = Sequential([L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU(), L.Flatten()])(inputs)
    return Model(inputs, L.Dense(2)(x))


def plain_sequential() -> Any:
    return Sequential([Input((4,)), L.Dense(8, "relu"), L.Dropout(0.0), L.Dense(2, "softmax")])


def sequential_with_fallback() -> Any:
    return Sequential([Input((4,)), L.Dense(8), L.RMSNormalization(), L.Dense(2)])


def sequential_of_models() -> Any:
    base = Sequential([Input((8, 8, 3)), L.Conv2D(4, 3), L.GlobalMaxPooling2D()], name="base")
    return Sequential([Input((8, 8, 3)), base, Sequential([Input((4,)), L.Dense(2)], name="head")])


def augmentation() -> Any:
    layers = [
        L.RandomFlip("horizontal"),
        L.RandomRotation(0.1),
        L.RandomZoom(0.1),
        L.RandomContrast(0.1),
        L.RandomBrightness(0.1),
        L.RandomTranslation(0.1, 0.1),
        L.Rescaling(1 / 127.5, offset=-1),
    ]
    return Sequential([Input((16, 16, 3)), *layers, L.Conv2D(4, 3), L.Flatten(), L.Dense(2)])


def augmentation_of_keras3_only() -> Any:
    layers = [L.RandomHue(0.1), L.RandomShear((0, 0.1)), L.RandomErasing(), L.AutoContrast()]
    return Sequential([Input((16, 16, 3)), *layers, L.Flatten(), L.Dense(2)])


def ops_graph() -> Any:
    inputs = Input((4, 6))
    x = ops.concatenate([inputs[:, 1:], ops.roll(inputs, 1, axis=1)], axis=1)
    x = ops.einsum("abc,abd->acd", x, ops.tanh(x))
    x = ops.where(x > 0, ops.sqrt(ops.abs(x) + 1.0), 2.0 - x)
    x = ops.reshape(x, (-1, 36)) * np.linspace(0, 1, 36, dtype="float32")
    top, _ = ops.top_k(L.Dense(8)(x), 3)
    return Model(inputs, L.Dense(2)(ops.layer_normalization(top)))


def ops_shapes() -> Any:
    inputs = Input((None, 4))
    steps = ops.cumsum(ops.ones_like(inputs), axis=1) / ops.cast(ops.shape(inputs)[2], "float32")
    x = ops.transpose(ops.pad(inputs + steps, ((0, 0), (1, 1), (0, 0))), (0, 2, 1))
    return Model(inputs, L.Dense(2)(ops.mean(x, axis=-1)))


def patch_embedding() -> Any:
    inputs = Input((16, 16, 3))
    x = ops.image.extract_patches(inputs, 4)
    x = L.Dense(8)(L.Reshape((16, 48))(x))
    x = L.GroupQueryAttention(4, 4, 2)(x, x)
    return Model(inputs, L.Dense(2)(ops.max(x, axis=1)))
