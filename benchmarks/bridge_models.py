"""Models made by hand, one for each way to write one, for benchmarks/bridge_coverage.py."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import bridge_models_plain as plain
import keras
import numpy as np
from keras import layers as L  # noqa: N812  # as every Keras user writes it
from keras import ops
from layer_case import scatter
from layer_cases_others import Scale

Input, Model, Sequential = keras.Input, keras.Model, keras.Sequential


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
    x = L.EinsumDense("abc,cd->abd", (6, 8), bias_axes="d", activation="relu")(x)
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

    def call(self, x: Any, *, training: bool | None = None) -> Any:
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
    word, text = Input((1,), dtype="string", name="word"), Input((), dtype="string", name="text")
    normalize, buckets = L.Normalization(), L.Discretization(num_bins=4, output_mode="one_hot")
    normalize.adapt(rng.normal(3, 2, size=(50, 3)))
    buckets.adapt(rng.normal(size=(50, 1)))
    lookup, vectorize = (
        L.StringLookup(output_mode="multi_hot"),
        L.TextVectorization(output_mode="tf_idf"),
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
    return Model(inputs, L.GlobalAveragePooling2D()(plain.cnn(x)))


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
    return _loaded(plain.masked_lstm_stack())


def loaded_seq2seq_gru() -> Any:
    return _loaded(plain.seq2seq_gru_masked())


def loaded_bidirectional() -> Any:
    return _loaded(plain.bidirectional_merge_modes())


def loaded_transformer() -> Any:
    return _loaded(plain.transformer_block())


def loaded_nested() -> Any:
    return _loaded(plain.doubly_nested_partly_frozen())


def loaded_ops() -> Any:
    return _loaded(plain.ops_graph())


def loaded_preprocessing() -> Any:
    return _loaded(adapted_preprocessing())


def _loaded(model: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return keras.saving.load_model(path)


WITHOUT_STEP = frozenset(
    {
        # What Keras 3 trains is the adapter, which is merged into the kernel; or it is random.
        *("lora_dense", "lora_embedding_and_einsum"),
        *("augmentation", "augmentation_of_keras3_only"),
    }
)
LESS_THAN_FLOAT32 = frozenset(
    {"bfloat16", "mixed_float16", "mixed_bfloat16", "quantized_int8", "quantized_int4"}
)
"""Models whose own precision is below that of float32; ``to_tf_keras`` allows them more."""


def _models_of(names: Mapping[str, Any], module: str) -> Mapping[str, Callable[[], Any]]:
    """Return the functions of a module that take nothing and make a model."""
    return {
        name: value
        for name, value in names.items()
        if inspect.isfunction(value)
        and value.__module__ == module
        and not inspect.signature(value).parameters
    }


MODELS: Mapping[str, Callable[[], Any]] = {
    **_models_of(vars(plain), plain.__name__),
    **_models_of(globals(), __name__),
}
