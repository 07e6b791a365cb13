"""The plain layer of an operation, with its settings; test_operations compares the numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras as keras3
import pytest
from keras import ops

from tfopt.bridge.to_tf_keras.operation_layers import plain_call
from tfopt.keras2.core import keras as keras2


def _plain(
    function: Callable[..., Any], *shapes: tuple[int | None, ...], dtype: str = "float32"
) -> Any:
    inputs = [keras3.Input(shape, dtype=dtype) for shape in shapes]
    node = function(*inputs)._keras_history
    given = node.operation._inbound_nodes[node.node_index].arguments
    table = {id(old): keras2.Input(old.shape[1:], dtype=dtype) for old in inputs}
    args, kwargs = keras3.tree.map_structure(
        lambda value: table.get(id(value), value), (given.args, given.kwargs)
    )
    return plain_call(node.operation, args, kwargs)


@pytest.mark.parametrize(
    ("function", "shape", "settings"),
    [
        (lambda x: x - 3, (4,), {"scale": 1.0, "offset": -3.0}),
        (lambda x: 3 - x, (4,), {"scale": -1.0, "offset": 3.0}),
        (lambda x: x / -8, (4,), {"scale": -0.125, "offset": 0.0}),
        (lambda x: ops.softmax(x, axis=1), (5, 4), {"axis": 1}),
        (lambda x: ops.leaky_relu(x, 0.3), (4,), {"alpha": 0.3}),
        (lambda x: ops.reshape(x, (-1, 2, 3)), (6,), {"target_shape": (2, 3)}),
        (lambda x: ops.squeeze(x, -2), (3, 1, 2), {"target_shape": (3, 2)}),
        (lambda x: ops.expand_dims(x, -1), (3,), {"target_shape": (3, 1)}),
        (lambda x: ops.transpose(x, (0, 3, 1, 2)), (3, 1, 2), {"dims": (3, 1, 2)}),
        (lambda x: ops.swapaxes(x, -1, 1), (3, 1, 2), {"dims": (3, 2, 1)}),
        (
            lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0))),
            (3, 2),
            {"padding": (1, 2)},
        ),
        (
            lambda x: ops.mean(x, (2, 1), keepdims=True),
            (3, 2, 4),
            {"keepdims": True, "data_format": "channels_last"},
        ),
    ],
)
def test_settings(function: Any, shape: Any, settings: dict[str, Any]) -> None:
    assert _plain(function, shape).settings == settings


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: x / 0, (4,)),
        (lambda x: 1 / x, (4,)),
        (lambda x: x * float("inf"), (4,)),
        (lambda x: ops.reshape(x, (-1, 2)), (6,)),
        (lambda x: ops.reshape(x, (-1, 6)), (None, 2)),
        (lambda x: ops.reshape(x, (-1,)), (6,)),
        (lambda x: ops.squeeze(x), (3, 1)),
        (lambda x: ops.expand_dims(x, 0), (3,)),
        (lambda x: ops.mean(x), (3, 2, 4)),
        (lambda x: ops.mean(x, (1, 3)), (3, 2, 4)),
        (lambda x: ops.pad(x, 1), (3, 2)),
        (lambda x: ops.pad(x, ((0, 0), (1, 1), (0, 0)), constant_values=1), (3, 2)),
        (lambda x: ops.relu(x), ()),
    ],
)
def test_no_plain_layer_does_the_same(function: Any, shape: Any) -> None:
    assert _plain(function, shape) is None


def test_unequal_ranks_and_integers_have_no_plain_layer() -> None:
    assert _plain(lambda x, y: x + y, (4, 3), (3,)) is None
    assert _plain(lambda x, y: x + y, (3,), (3,), dtype="int32") is None
    assert _plain(lambda x, y: x + y, (3,), (3,)) is not None


def test_a_users_operation_of_the_same_name_is_not_taken_for_ours() -> None:
    class Relu(keras3.Operation):
        def call(self, x: Any) -> Any:
            return x + 1

    assert _plain(lambda x: Relu()(x), (3,)) is None


def test_a_masked_tensor_has_no_plain_layer() -> None:
    ids = keras2.Input((3,), dtype="int32")
    masked = keras2.layers.Embedding(5, 4, mask_zero=True)(ids)
    op = ops.relu(keras3.Input((3, 4)))._keras_history.operation
    assert plain_call(op, [masked], {}) is None
    assert plain_call(op, [keras2.Input((3, 4))], {}) is not None
