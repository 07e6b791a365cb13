"""TensorFlow operators in a tf_keras graph become keras.ops of the same results."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras2

# keras/src/backend/tensorflow/core.py (3.15.1) reads each weight that way when it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")

L = keras2.layers
RNG = np.random.default_rng(7)


def floats(*shape):
    return RNG.normal(size=shape).astype("float32")


OPERATORS = {
    "arithmetic": lambda x, y: (1 - x) * y / 2 + x**2 - abs(-y) % 3 + y // 2,
    "constants": lambda x, y: x * np.arange(6, dtype="float32") + tf.constant([[1.0]] * 4),
    "compare": lambda x, y: tf.cast((x > 0) & ~(y <= x) | (x == y), "float32") * x,
    "slices": lambda x, y: [x[:, 0], x[..., None], x[:, 1:3, ::2], y[:, -1]],
    "shapes": lambda x, y: tf.squeeze(
        tf.expand_dims(tf.reshape(tf.transpose(x, [0, 2, 1]), [-1, 3, 8]), 1), 1
    ),
    "join": lambda x, y: tf.stack([tf.concat([x, y], -1), tf.tile(x, [1, 1, 2])], axis=1),
    "split": lambda x, y: [
        *tf.split(x, 2, axis=-1),
        *tf.split(y, [1, 3], 1),
        *tf.unstack(x, axis=1),
    ],
    "reduce": lambda x, y: [
        tf.reduce_mean(x, -1),
        tf.reduce_sum(x, [1, 2], keepdims=True),
        tf.reduce_max(y, axis=1),
        tf.math.reduce_std(x, -1),
        tf.argmax(x, -1),
    ],
    "maths": lambda x, y: tf.sqrt(tf.exp(x)) + tf.math.log(tf.square(y) + 1.0) + tf.tanh(x),
    "activations": lambda x, y: [
        *(tf.nn.relu(x), tf.nn.softmax(x), tf.nn.leaky_relu(x), tf.nn.gelu(x), tf.nn.silu(y)),
        *(tf.nn.relu6(x), tf.nn.elu(x), tf.nn.log_softmax(y, axis=1)),
    ],
    "matmul": lambda x, y: [
        tf.matmul(x, y, transpose_b=True),
        x @ tf.transpose(y, [0, 2, 1]),
        tf.einsum("abc,adc->abd", x, y),
    ],
    "choose": lambda x, y: [
        tf.where(x > 0, x, y),
        tf.gather(x, [0, 2], axis=1),
        tf.clip_by_value(x, -0.2, 0.3),
        tf.pad(x, [[0, 0], [1, 2], [0, 0]]),
        tf.math.l2_normalize(y, -1),
    ],
    "backend": lambda x, y: keras2.backend.concatenate([keras2.backend.relu(x), y]),
    "integers": lambda x, y: tf.cast(x * 4, "int32") / 3,
    "used twice": lambda x, y: [L.Dense(3, name="add")(x + y) + 1.0, x + 1.0],
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name, check):
    x, y = keras2.Input((4, 6)), keras2.Input((4, 6))
    model = keras2.Model([x, y], OPERATORS[name](x, y))
    check(model, [floats(2, 4, 6), floats(2, 4, 6)])
