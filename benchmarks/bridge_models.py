"""Models made by hand, one for each way to write one, for benchmarks/bridge_coverage.py."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers as L  # noqa: N812  # as every Keras user writes it
from keras import ops
from layer_cases import Scale, scatter

Input, Model, Sequential = keras.Input, keras.Model, keras.Sequential


def _cnn(inputs: Any, width: int = 8) -> Any:
    x = L.Conv2D(width, 3, padding="same", use_bias=False)(inputs)
    x = L.BatchNormalization()(x)
    return L.ReLU()(x)


def residual_cnn() -> Any:
    x = inputs = Input((16, 16, 3))
    x = _cnn(x)
    for stride in (1, 2):
        shortcut = L.Conv2D(8, 1, strides=stride)(x)
        y = _cnn(x)
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
    first = _cnn(inputs)
    second = _cnn(L.MaxPooling2D()(first), 16)
    x = _cnn(L.MaxPooling2D()(second), 24)
    x = L.Conv2DTranspose(16, 2, strides=2)(x)
    x = _cnn(L.Concatenate()([x, second]), 16)
    x = L.UpSampling2D(interpolation="bilinear")(x)
    x = _cnn(L.Concatenate()([x, first]))
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
    x = L.Flatten()(_cnn(inputs))
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
    base = Model(base_in, L.GlobalAveragePooling2D()(_cnn(_cnn(base_in))), name="base")
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
    length = ops.shape(inputs)[1]
    x = inputs + ops.expand_dims(ops.cast(ops.arange(length), "float32"), -1)
    x = ops.transpose(ops.pad(x, ((0, 0), (1, 1), (0, 0))), (0, 2, 1))
    return Model(inputs, L.Dense(2)(ops.mean(x, axis=-1)))


def patch_embedding() -> Any:
    inputs = Input((16, 16, 3))
    x = ops.image.extract_patches(inputs, 4)
    x = L.Dense(8)(L.Reshape((16, 48))(x))
    x = L.GroupQueryAttention(4, 4, 2)(x, x)
    return Model(inputs, L.Dense(2)(ops.max(x, axis=1)))


def lora_dense() -> Any:
    model = Sequential([Input((6,)), L.Dense(8, "relu"), L.Dense(2)])
    model.layers[0].enable_lora(2)
    scatter(model)
    return model


def lora_embedding_and_einsum() -> Any:
    inputs = Input((6,), dtype="int32")
    table, dense = L.Embedding(20, 8), L.EinsumDense("abc,cd->abd", (None, 4), bias_axes="d")
    model = Model(inputs, dense(table(inputs)))
    table.enable_lora(2)
    dense.enable_lora(2)
    scatter(model)
    return model


def _quantized(mode: str) -> Any:
    inputs = Input((6,), dtype="int32")
    x = L.Embedding(20, 8)(inputs)
    x = L.EinsumDense("abc,cd->abd", (None, 8), bias_axes="d", activation="relu")(x)
    model = Model(inputs, L.Dense(3)(L.Flatten()(x)))
    model.quantize(mode)
    return model


def quantized_int8() -> Any:
    return _quantized("int8")


def quantized_int4() -> Any:
    return _quantized("int4")


def custom_layer_with_state() -> Any:
    inputs = Input((4,))
    return Model(inputs, L.Dense(2)(Scale(2.0)(L.Dense(3)(inputs))))


@keras.saving.register_keras_serializable("tfopt_bridge_models")
class TwoDense(L.Layer):
    """A layer of layers."""

    def __init__(self, units: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.units = units
        self.first, self.second = L.Dense(units, "relu"), L.Dense(units)
        self.norm = L.BatchNormalization()

    def build(self, shape: Any) -> None:
        """Build the parts."""
        self.first.build(shape)
        self.second.build((*shape[:-1], self.units))
        self.norm.build((*shape[:-1], self.units))

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Run the parts."""
        return self.norm(self.second(self.first(x)), training=training)

    def get_config(self) -> dict[str, Any]:
        """Return the settings."""
        return {**super().get_config(), "units": self.units}


def custom_layer_of_layers_shared() -> Any:
    block, inputs = TwoDense(4), Input((4,))
    return Model(inputs, L.Dense(2)(block(block(inputs))))


def _half(policy: str) -> Any:
    x = inputs = Input((8, 8, 3))
    x = L.Conv2D(8, 3, dtype=policy)(x)
    x = L.BatchNormalization(dtype=policy)(x)
    x = L.Flatten(dtype=policy)(L.ReLU(dtype=policy)(x))
    x = L.Dense(4, dtype=policy)(x)
    return Model(inputs, L.Activation("softmax", dtype="float32")(x))


def mixed_float16() -> Any:
    return _half("mixed_float16")


def mixed_bfloat16() -> Any:
    return _half("mixed_bfloat16")


def bfloat16() -> Any:
    return _half("bfloat16")


def float64() -> Any:
    inputs = Input((4,), dtype="float64")
    return Model(inputs, L.Dense(2, dtype="float64")(L.Dense(3, "tanh", dtype="float64")(inputs)))


def adapted_preprocessing() -> Any:
    rng = np.random.default_rng(0)
    number, age = Input((3,), name="number"), Input((1,), name="age")
    word, text = (Input((1,), dtype="string", name=name) for name in ("word", "text"))
    normalize, buckets = L.Normalization(), L.Discretization(num_bins=4, output_mode="one_hot")
    normalize.adapt(rng.normal(3, 2, size=(50, 3)))
    buckets.adapt(rng.normal(size=(50, 1)))
    lookup, vectorize = L.StringLookup(output_mode="multi_hot"), L.TextVectorization(
        output_mode="tf_idf"
    )
    lookup.adapt(np.array([["fox"], ["dog"], ["the"]]))
    vectorize.adapt(np.array(["the quick brown fox", "the fox a b", "quick"]))
    hashed = L.Hashing(8, output_mode="one_hot")(word)
    parts = [normalize(number), buckets(age), lookup(word), vectorize(text), hashed]
    x = L.Concatenate()(parts)
    return Model([number, age, word, text], L.Dense(2)(x))


def text_classifier() -> Any:
    vectorize = L.TextVectorization(output_sequence_length=5)
    vectorize.adapt(np.array(["the quick brown fox", "a b 1 7"]))
    inputs = Input((1,), dtype="string")
    x = L.Embedding(vectorize.vocabulary_size(), 4, mask_zero=True)(vectorize(inputs))
    return Model(inputs, L.Dense(2)(L.LSTM(3)(x)))


def crossed_features() -> Any:
    one, two = Input((1,), dtype="string"), Input((1,), dtype="string")
    crossed = L.HashedCrossing(8, output_mode="one_hot")((one, two))
    encoded = L.CategoryEncoding(4)(L.Hashing(4)(one))
    return Model([one, two], L.Dense(2)(L.Concatenate()([crossed, encoded])))


def time_distributed_model() -> Any:
    frame = Sequential([Input((8, 8, 2)), L.Conv2D(3, 3), L.ReLU(), L.Flatten(), L.Dense(4)])
    inputs = Input((3, 8, 8, 2))
    return Model(inputs, L.LSTM(3)(L.TimeDistributed(frame)(inputs)))


def time_distributed_batch_norm_model() -> Any:
    frame = Sequential([Input((8, 8, 2)), L.Conv2D(3, 3), L.BatchNormalization(), L.Flatten()])
    inputs = Input((3, 8, 8, 2))
    return Model(inputs, L.Dense(2)(L.TimeDistributed(frame)(inputs)))


def lambda_layer() -> Any:
    inputs = Input((4,))
    x = L.Lambda(lambda x, factor=2.0: x * factor, arguments={"factor": 3.0})(inputs)
    return Model(inputs, L.Dense(2)(x))


def uint8_input() -> Any:
    inputs = Input((8, 8, 3), dtype="uint8")
    x = L.Rescaling(1 / 255)(inputs)
    return Model(inputs, L.Dense(2)(L.Flatten()(L.Conv2D(3, 3)(x))))


def int32_input_cast() -> Any:
    inputs = Input((4,), dtype="int32")
    x = ops.one_hot(ops.mod(inputs, 3), 3)
    return Model(inputs, L.Dense(2)(L.Flatten()(x)))


def bool_input() -> Any:
    inputs = Input((4,), dtype="bool")
    return Model(inputs, L.Dense(2)(ops.cast(inputs, "float32")))


def conv_lstm() -> Any:
    inputs = Input((4, 8, 8, 2))
    x = L.ConvLSTM2D(3, 3, return_sequences=True, padding="same")(inputs)
    x = L.BatchNormalization()(x)
    return Model(inputs, L.Conv3D(1, 3, activation="sigmoid", padding="same")(x))


def normalizations() -> Any:
    x = inputs = Input((6, 6, 4))
    x = L.SpectralNormalization(L.Conv2D(8, 3))(x)
    x = L.GroupNormalization(4)(x)
    x = L.UnitNormalization()(x)
    x = L.RMSNormalization()(x)
    x = L.LayerNormalization(axis=(1, 2, 3))(x)
    return Model(inputs, L.Dense(2)(L.Flatten()(x)))


def stateful_rnn() -> Any:
    inputs = Input(batch_shape=(2, 5, 3))
    x = L.LSTM(4, stateful=True, return_sequences=True)(inputs)
    return Model(inputs, L.GRU(3, stateful=True)(x))


def custom_rnn_cells() -> Any:
    inputs = Input((5, 3))
    x = L.RNN([L.LSTMCell(4), L.GRUCell(3)], return_sequences=True)(inputs)
    return Model(inputs, L.RNN(L.SimpleRNNCell(2))(x))


def input_used_as_output() -> Any:
    inputs = Input((4,))
    return Model(inputs, [inputs, L.Dense(2)(inputs)])


def unused_input() -> Any:
    used, unused = Input((4,), name="used"), Input((3,), name="unused")
    return Model([used, unused], L.Dense(2)(used))


def same_tensor_twice_as_output() -> Any:
    inputs = Input((4,))
    x = L.Dense(2)(inputs)
    return Model(inputs, [x, x])


def residual_masked_embedding() -> Any:
    inputs = Input((6,), dtype="int32")
    x = L.Embedding(20, 4, mask_zero=True)(inputs)
    x = L.Add()([x, L.Dense(4)(x)])
    x = L.Dropout(0.0)(x) * 2.0
    return Model(inputs, L.GlobalAveragePooling1D()(x))


def explicit_mask() -> Any:
    inputs, mask = Input((6, 4)), Input((6,), dtype="bool", name="mask")
    x = L.LSTM(3, return_sequences=True)(inputs, mask=mask)
    return Model([inputs, mask], L.GlobalAveragePooling1D()(x, mask=mask))


def activations_as_layers() -> Any:
    inputs = Input((8,))
    parts = [L.ReLU(6.0), L.LeakyReLU(0.1), L.PReLU(), L.ELU(0.3), L.Softmax(), L.Identity()]
    return Model(inputs, L.Concatenate()([L.Dense(4)(part(inputs)) for part in parts]))


def regularized() -> Any:
    inputs = Input((4,))
    both = keras.regularizers.L1L2(0.1, 0.2)
    x = L.Dense(6, kernel_regularizer=both, kernel_constraint=keras.constraints.MaxNorm(1))(inputs)
    x = L.ActivityRegularization(l2=0.1)(x)
    return Model(inputs, L.Dense(2, bias_regularizer="l1", activity_regularizer="l2")(x))


def tied_reversible_embedding() -> Any:
    inputs = Input((6,), dtype="int32")
    table = L.ReversibleEmbedding(20, 8)
    x = L.Dense(8, "tanh")(table(inputs))
    return Model(inputs, table(x, reverse=True))


def picture_of_any_size() -> Any:
    inputs = Input((None, None, 3))
    x = L.Resizing(12, 12)(inputs)
    return Model(inputs, L.GlobalAveragePooling2D()(_cnn(x)))


def three_dimensions() -> Any:
    x = inputs = Input((6, 6, 6, 1))
    x = L.Conv3D(3, 3, padding="same", activation="relu")(x)
    x = L.Conv3DTranspose(2, 2, strides=2)(L.MaxPooling3D()(x))
    return Model(inputs, L.Dense(2)(L.Flatten()(x)))


def wavenet() -> Any:
    x = inputs = Input((16, 2))
    for rate in (1, 2, 4):
        y = L.Conv1D(4, 2, dilation_rate=rate, padding="causal")(x)
        y = L.Multiply()([L.Activation("tanh")(y), L.Activation("sigmoid")(y)])
        x = L.Concatenate()([x, L.Conv1D(2, 1)(y)])
    return Model(inputs, L.Dense(1)(x[:, -1]))


def wide_and_deep() -> Any:
    wide, deep = Input((5,), name="wide"), Input((7,), name="deep")
    x = L.Dense(8, activation="selu", kernel_initializer="lecun_normal")(deep)
    x = L.AlphaDropout(0.0)(L.GaussianNoise(0.0)(x))
    dot = L.Dot(axes=1, normalize=True)([L.Dense(4)(wide), L.Dense(4)(x)])
    return Model([wide, deep], L.Dense(1)(L.Concatenate()([wide, x, dot])))


def autoencoder_of_two_models() -> Any:
    encoder_in, decoder_in = Input((12,)), Input((3,))
    encoder = Model(encoder_in, L.Dense(3, "relu")(encoder_in), name="encoder")
    decoder = Model(decoder_in, L.Dense(12, "sigmoid")(decoder_in), name="decoder")
    inputs = Input((12,))
    code = encoder(inputs)
    return Model(inputs, [decoder(code), code])


def application_with_new_head() -> Any:
    base = keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, weights=None, include_top=False, pooling="avg"
    )
    base.trainable = False
    inputs = Input((32, 32, 3))
    return Model(inputs, L.Dense(3)(base(L.Rescaling(1 / 127.5, -1)(inputs), training=False)))


def compiled_and_trained() -> Any:
    model = Sequential([Input((4,)), L.Dense(4), L.BatchNormalization(), L.Dense(1)])
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    model.train_on_batch(rng.normal(size=(8, 4)), rng.normal(size=(8, 1)))
    return model


def loaded_masked_lstm() -> Any:
    return _loaded(masked_lstm_stack())


def loaded_seq2seq_gru() -> Any:
    return _loaded(seq2seq_gru_masked())


def loaded_bidirectional() -> Any:
    return _loaded(bidirectional_merge_modes())


def loaded_transformer() -> Any:
    return _loaded(transformer_block())


def loaded_nested() -> Any:
    return _loaded(doubly_nested_partly_frozen())


def loaded_ops() -> Any:
    return _loaded(ops_graph())


def loaded_preprocessing() -> Any:
    return _loaded(adapted_preprocessing())


def _loaded(model: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return keras.saving.load_model(path)


MODELS: Mapping[str, Callable[[], Any]] = {
    name: value
    for name, value in list(globals().items())
    if callable(value)
    and getattr(value, "__module__", None) == __name__
    and not isinstance(value, type)
    and not name.startswith("_")
}
