"""keras.ops nodes in tf_keras: the numbers of Keras 3, and a model that survives a save."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import ops

from tfopt.bridge.to_tf_keras.operations import OBJECTS, KerasOperation, operation
from tfopt.bridge.to_tf_keras.twin import Names
from tfopt.errors import ModelError
from tfopt.keras2.core import keras as keras2

_RNG = np.random.default_rng(0)


def _converted(model: Any) -> Any:
    """Return the tf_keras graph of a Keras 3 model that holds inputs and operations only."""
    names = Names()
    inputs = [
        keras2.Input(batch_shape=tuple(t.shape), dtype=t.dtype, name=names.take(t.name))
        for t in model.inputs
    ]
    table = {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            args, kwargs = keras3.tree.map_structure(
                lambda value: table.get(id(value), value),
                (node.arguments.args, node.arguments.kwargs),
            )
            outputs = tf.nest.flatten(operation(node.operation, names).call(*args, **kwargs))
            table.update((id(old), new) for old, new in zip(node.outputs, outputs, strict=True))
    outputs = [table[id(tensor)] for tensor in model.outputs]
    return keras2.Model(inputs, outputs)


def _graph(function: Callable[..., Any], *arrays: np.ndarray) -> Any:
    inputs = [keras3.Input(a.shape[1:], dtype=a.dtype.name) for a in arrays]
    return keras3.Model(inputs, function(*inputs))


def _operation(function: Callable[..., Any], count: int = 1) -> Any:
    """Return the object that Keras 3 puts into a graph for a function of keras.ops."""
    output = function(*[keras3.Input((4,)) for _ in range(count)])
    return output._keras_history.operation


def _reloaded(model: Any) -> Any:
    config = json.loads(json.dumps(model.get_config()))
    return keras2.Model.from_config(config, custom_objects=dict(OBJECTS))


def _outputs(model: Any, arrays: Any) -> list[np.ndarray]:
    return [np.asarray(one) for one in tf.nest.flatten(model(list(arrays), training=False))]


def _layer_names(model: Any) -> list[str]:
    return [
        type(one).__name__ for one in model.layers if not isinstance(one, keras2.layers.InputLayer)
    ]


def _both(function: Callable[..., Any], *arrays: np.ndarray) -> tuple[Any, Any]:
    source = _graph(function, *arrays)
    return source, _converted(source)


def _floats(*shape: int) -> np.ndarray:
    return _RNG.uniform(0.05, 0.95, shape).astype("float32")


def _signed(*shape: int) -> np.ndarray:
    return _RNG.normal(size=shape).astype("float32") * 3


def _ints(*shape: int) -> np.ndarray:
    return _RNG.integers(1, 5, shape).astype("int32")


X, Y = _floats(3, 4), _floats(3, 4)
S = _signed(3, 4)
IMAGE = _signed(2, 6, 6, 3)
WIDE = _signed(2, 5, 4)
SQUARE = (_signed(2, 3, 3) + 6 * np.eye(3)).astype("float32")
POSITIVE = (SQUARE @ SQUARE.transpose(0, 2, 1)).astype("float32")
COUNTS, MORE = _ints(3, 4), _ints(3, 4)
BOOL = S > 0

_ONE_ARGUMENT = (
    "absolute arccos arcsin arctan arcsinh ceil cos cosh exp2 expm1 floor isfinite isinf isnan "
    "log log10 log1p log2 logical_not negative reciprocal round rsqrt sign sin sinh sqrt square "
    "tan tanh erf erfinv trunc relu relu6 sigmoid silu softplus softsign log_sigmoid hard_sigmoid "
    "hard_silu hard_tanh elu selu gelu celu leaky_relu soft_shrink hard_shrink tanh_shrink "
    "squareplus sparse_plus sparse_sigmoid softmax log_softmax sparsemax glu logsumexp nan_to_num "
    "ones_like zeros_like stop_gradient copy isposinf isneginf signbit deg2rad cbrt exp"
).split()
_TWO_ARGUMENTS = (
    "add subtract multiply divide true_divide maximum minimum power arctan2 mod floor_divide equal "
    "not_equal greater greater_equal less less_equal logaddexp divide_no_nan hypot fmod"
).split()
_ON_INTEGERS = "bitwise_and bitwise_or bitwise_xor left_shift right_shift add multiply".split()

CASES: dict[str, tuple[Any, ...]] = {
    **{f"{name}_1": (getattr(ops, name), X) for name in _ONE_ARGUMENT},
    **{f"{name}_2": (getattr(ops, name), X, Y) for name in _TWO_ARGUMENTS},
    **{f"{name}_int": (getattr(ops, name), COUNTS, MORE) for name in _ON_INTEGERS},
    "logical_and": (ops.logical_and, BOOL, S < 1),
    "signed_relu": (ops.relu, S),
    "signed_leaky_relu": (lambda x: ops.leaky_relu(x, negative_slope=0.3), S),
    "signed_elu": (lambda x: ops.elu(x, alpha=0.7), S),
    "signed_gelu_exact": (lambda x: ops.gelu(x, approximate=False), S),
    "signed_hard_sigmoid": (ops.hard_sigmoid, S),
    "threshold": (lambda x: ops.threshold(x, 0.2, 7.0), S),
    "softmax_axis": (lambda x: ops.softmax(x, axis=1), WIDE),
    "scalar_ops": (lambda x: (1 - (x * 2 + 3) / 4) / 3 - 0.5, X),
    "power_scalar": (lambda x: x**2.5 + 2.0**x, X),
    "array_constant": (lambda x: x + np.arange(4, dtype="float32"), X),
    "tensor_constant": (lambda x: x * tf.constant([1.0, 2.0, 3.0, 4.0]), X),
    "numpy_scalar": (lambda x: x * np.float32(1.5) + np.float64(0.5), X),
    "infinite_constant": (lambda x: ops.where(x > 0.5, x, -np.inf), X),
    "where": (lambda x, y: ops.where(x > y, x, y), X, Y),
    "clip": (lambda x: ops.clip(x, -1.0, 1.0), S),
    "cast": (lambda x: ops.cast(x, "int32") + 2, S),
    "cast_half": (lambda x: ops.cast(x, "float16") * 2, S),
    "half": (ops.square, S.astype("float16")),
    "double": (ops.sin, S.astype("float64")),
    "mean_all": (lambda x: ops.mean(x, axis=-1), X),
    "mean_image": (lambda x: ops.mean(x, axis=(1, 2)), IMAGE),
    "mean_image_keep": (lambda x: ops.mean(x, axis=[-3, -2], keepdims=True), IMAGE),
    "mean_steps": (lambda x: ops.mean(x, axis=1), WIDE),
    "max_image": (lambda x: ops.max(x, axis=(1, 2)), IMAGE),
    "max_steps": (lambda x: ops.amax(x, axis=1, keepdims=True), WIDE),
    "min": (lambda x: ops.min(x, axis=1), WIDE),
    "sum": (lambda x: ops.sum(x, axis=(1, 2)), WIDE),
    "prod": (lambda x: ops.prod(x, axis=1), X),
    "std": (lambda x: ops.std(x, axis=1), WIDE),
    "var": (lambda x: ops.var(x, axis=-1, keepdims=True), WIDE),
    "median": (lambda x: ops.median(x, axis=1), WIDE),
    "quantile": (lambda x: ops.quantile(x, 0.3, axis=1), WIDE),
    "moments": (lambda x: ops.moments(x, axes=[1]), WIDE),
    "all": (lambda x: ops.all(x > 0, axis=1), WIDE),
    "any": (lambda x: ops.any(x > 0, axis=1), WIDE),
    "argmax": (lambda x: ops.argmax(x, axis=1), WIDE),
    "argsort": (lambda x: ops.argsort(x, axis=-1), WIDE),
    "sort": (lambda x: ops.sort(x, axis=1), WIDE),
    "top_k": (lambda x: ops.top_k(x, k=2), WIDE),
    "in_top_k": (lambda x: ops.in_top_k(ops.argmax(x, axis=-1), x, k=1), X),
    "count_nonzero": (lambda x: ops.count_nonzero(x, axis=1), WIDE),
    "cumsum": (lambda x: ops.cumsum(x, axis=1), WIDE),
    "cumprod": (lambda x: ops.cumprod(x, axis=1), WIDE),
    "diff": (lambda x: ops.diff(x, axis=1), WIDE),
    "flip": (lambda x: ops.flip(x, axis=1), WIDE),
    "roll": (lambda x: ops.roll(x, 2, axis=1), WIDE),
    "repeat": (lambda x: ops.repeat(x, 2, axis=1), WIDE),
    "tile": (lambda x: ops.tile(x, (1, 2, 1)), WIDE),
    "take": (lambda x: ops.take(x, [0, 2], axis=1), WIDE),
    "take_tensor": (lambda x, i: ops.take(x, i, axis=1), WIDE, np.array([[0], [1]], "int32")),
    "take_along_axis": (lambda x: ops.take_along_axis(x, ops.argsort(x, axis=1), axis=1), WIDE),
    "getitem": (lambda x: x[:, 1:, ::2], WIDE),
    "getitem_ellipsis": (lambda x: x[..., None, -1], WIDE),
    "getitem_int": (lambda x: x[:, 0], WIDE),
    "split": (lambda x: ops.split(x, 2, axis=-1), WIDE),
    "split_at": (lambda x: ops.split(x, [1, 3], axis=1), WIDE),
    "unstack": (lambda x: ops.unstack(x, axis=2), WIDE),
    "concatenate": (lambda x, y: ops.concatenate([x, y, x], axis=-1), X, Y),
    "concatenate_constant": (
        lambda x: ops.concatenate([x, ops.ones_like(x), x * 0], axis=1),
        WIDE,
    ),
    "stack": (lambda x, y: ops.stack([x, y], axis=1), X, Y),
    "hstack": (lambda x, y: ops.hstack([x, y]), X, Y),
    "append": (lambda x, y: ops.append(x, y, axis=1), X, Y),
    "reshape": (lambda x: ops.reshape(x, (-1, 20)), WIDE),
    "reshape_deep": (lambda x: ops.reshape(x, (-1, 2, 2, 5)), WIDE),
    "reshape_batch": (lambda x: ops.reshape(x, (-1, 4)), WIDE),
    "squeeze": (lambda x: ops.squeeze(ops.expand_dims(x, 2), axis=2), WIDE),
    "expand_dims_last": (lambda x: ops.expand_dims(x, -1), WIDE),
    "expand_dims_batch": (lambda x: ops.expand_dims(x, 0), WIDE),
    "transpose": (lambda x: ops.transpose(x, (0, 2, 1)), WIDE),
    "transpose_batch": (lambda x: ops.transpose(x, (1, 0, 2)), WIDE),
    "transpose_all": (lambda x: ops.transpose(x), WIDE),
    "swapaxes": (lambda x: ops.swapaxes(x, 1, -1), WIDE),
    "moveaxis": (lambda x: ops.moveaxis(x, 1, 2), WIDE),
    "ravel": (lambda x: ops.ravel(x), X),
    "pad_image": (lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 3), (0, 0))), IMAGE),
    "pad_steps": (lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0))), WIDE),
    "pad_value": (lambda x: ops.pad(x, ((0, 0), (1, 2)), constant_values=3.0), X),
    "pad_reflect": (lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0)), mode="reflect"), WIDE),
    "broadcast_add": (lambda x, y: x + y, WIDE, _floats(2, 1, 4)),
    "broadcast_rank": (lambda x, y: x * y[0], WIDE, WIDE),
    "broadcast_to": (lambda x: ops.broadcast_to(x[:, :1], (3, 4)), X),
    "matmul": (lambda x, y: ops.matmul(x, ops.transpose(y, (0, 2, 1))), WIDE, WIDE),
    "matmul_constant": (lambda x: ops.matmul(x, np.eye(4, dtype="float32") * 2), WIDE),
    "dot": (lambda x: ops.dot(x, np.ones((4, 2), "float32")), X),
    "tensordot": (lambda x: ops.tensordot(x, np.ones((4, 2), "float32"), axes=1), WIDE),
    "einsum": (lambda x, y: ops.einsum("btc,bsc->bts", x, y), WIDE, WIDE),
    "outer": (lambda x: ops.outer(x, np.array([1.0, 2.0], "float32")), X),
    "cross": (lambda x: ops.cross(x[:, :3], x[:, 1:]), X),
    "tril": (lambda x: ops.tril(x), WIDE),
    "triu": (lambda x: ops.triu(x, k=1), WIDE),
    "diagonal": (lambda x: ops.diagonal(x, axis1=1, axis2=2), SQUARE),
    "trace": (lambda x: ops.trace(x, axis1=1, axis2=2), SQUARE),
    "norm": (lambda x: ops.norm(x, axis=-1), WIDE),
    "normalize": (lambda x: ops.normalize(x, axis=-1), WIDE),
    "inv": (ops.inv, SQUARE),
    "det": (ops.det, SQUARE),
    "cholesky": (ops.cholesky, POSITIVE),
    "solve": (lambda x, y: ops.solve(x, y), SQUARE, SQUARE),
    "one_hot": (lambda i: ops.one_hot(i, 6), COUNTS),
    "multi_hot": (lambda i: ops.multi_hot(i, 6), COUNTS),
    "digitize": (lambda x: ops.digitize(x, np.array([0.2, 0.5])), X),
    "bincount": (lambda i: ops.bincount(i, minlength=6), COUNTS),
    "average": (lambda x: ops.average(x, axis=1), WIDE),
    "conv": (
        lambda x: ops.conv(x, np.ones((3, 3, 3, 2), "float32"), strides=1, padding="same"),
        IMAGE,
    ),
    "depthwise_conv": (lambda x: ops.depthwise_conv(x, np.ones((3, 3, 3, 1), "float32")), IMAGE),
    "max_pool": (lambda x: ops.max_pool(x, 2), IMAGE),
    "average_pool": (lambda x: ops.average_pool(x, 2, padding="same"), IMAGE),
    "resize": (lambda x: ops.image.resize(x, (3, 3)), IMAGE),
    "extract_patches": (lambda x: ops.image.extract_patches(x, (2, 2)), IMAGE),
    "rgb_to_grayscale": (ops.image.rgb_to_grayscale, _floats(2, 6, 6, 3)),
    "depth_to_space": (lambda x: ops.nn.depth_to_space(x, 2), _floats(2, 3, 3, 4)),
    "slice": (lambda x: ops.slice(x, [0, 1, 0], [2, 2, 4]), WIDE),
    "slice_update": (
        lambda x: ops.slice_update(x, [0, 0], np.zeros((1, 2), "float32")),
        X,
    ),
    "layer_normalization": (lambda x: ops.layer_normalization(x), WIDE),
    "dot_product_attention": (
        lambda x: ops.dot_product_attention(x, x, x),
        _floats(2, 5, 2, 4),
    ),
    "binary_crossentropy": (ops.binary_crossentropy, X, Y),
    "fft": (lambda x: ops.fft((x, x)), X),
    "isclose": (ops.isclose, X, Y),
    "meshgrid": (lambda x: ops.meshgrid(x[0], x[1]), X),
    "size": (lambda x: ops.size(x) + 0, WIDE),
}


def test_the_sweep_is_wide() -> None:
    assert len(CASES) >= 180


@pytest.mark.parametrize("case", CASES)
def test_gives_the_numbers_of_keras3_and_survives_its_config(case: str) -> None:
    function, *arrays = CASES[case]
    source, twin = _both(function, *arrays)
    wanted = [np.asarray(one) for one in tf.nest.flatten(source(arrays, training=False))]
    assert wanted
    again = _reloaded(twin)
    spec = [tf.TensorSpec((None, *a.shape[1:]), a.dtype) for a in arrays]
    traced = tf.function(lambda *given: again(list(given), training=False), input_signature=spec)
    for got in (_outputs(twin, arrays), [np.asarray(o) for o in tf.nest.flatten(traced(*arrays))]):
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
    for old, new in zip(source.outputs, twin.outputs, strict=True):
        assert new.shape.is_compatible_with(tuple(old.shape))
        assert new.shape[1:].num_elements() is not None or None in old.shape[1:]


@pytest.mark.parametrize(
    ("function", "arrays", "names"),
    [
        (lambda x, y: x + y, (X, Y), ["Add"]),
        (lambda x, y: x - y, (X, Y), ["Subtract"]),
        (lambda x, y: x * y, (WIDE, _floats(2, 1, 4)), ["Multiply"]),
        (lambda x, y: ops.maximum(x, y), (X, Y), ["Maximum"]),
        (lambda x, y: ops.minimum(x, y), (X, Y), ["Minimum"]),
        (lambda x: x * 2 + 3, (X,), ["Rescaling", "Rescaling"]),
        (lambda x: (1 - x) / 4, (X,), ["Rescaling", "Rescaling"]),
        (lambda x: -x, (X,), ["Rescaling"]),
        (ops.relu, (X,), ["ReLU"]),
        (ops.relu6, (X,), ["ReLU"]),
        (ops.leaky_relu, (X,), ["LeakyReLU"]),
        (ops.elu, (X,), ["ELU"]),
        (ops.sigmoid, (X,), ["Activation"]),
        (ops.silu, (X,), ["Activation"]),
        (ops.softmax, (X,), ["Softmax"]),
        (lambda x: ops.gelu(x, approximate=False), (X,), ["Activation"]),
        (lambda x, y: ops.concatenate([x, y], axis=1), (X, Y), ["Concatenate"]),
        (lambda x: ops.reshape(x, (-1, 20)), (WIDE,), ["Reshape"]),
        (lambda x: ops.transpose(x, (0, 2, 1)), (WIDE,), ["Permute"]),
        (lambda x: ops.mean(x, (1, 2)), (IMAGE,), ["GlobalAveragePooling2D"]),
        (lambda x: ops.mean(x, 1), (WIDE,), ["GlobalAveragePooling1D"]),
        (lambda x: ops.max(x, (1, 2)), (IMAGE,), ["GlobalMaxPooling2D"]),
        (lambda x: ops.expand_dims(x, 1), (X,), ["Reshape"]),
        (
            lambda x: ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))),
            (IMAGE,),
            ["ZeroPadding2D"],
        ),
        # Not the same maths, types or masks: the operation itself.
        (ops.hard_sigmoid, (X,), ["KerasOperation"]),
        (ops.gelu, (X,), ["KerasOperation"]),
        (lambda x, y: x + y, (COUNTS, MORE), ["KerasOperation"]),
        (lambda x: x / 3, (X,), ["KerasOperation"]),
        (lambda x: x * True, (X,), ["KerasOperation"]),
        (lambda x: x * np.float64(2), (X,), ["KerasOperation"]),
        (lambda x: x + np.ones(4, "float32"), (X,), ["KerasOperation"]),
        (lambda x: ops.reshape(x, (-1, 4)), (WIDE,), ["KerasOperation"]),
        (lambda x: ops.transpose(x, (1, 0, 2)), (WIDE,), ["KerasOperation"]),
        (lambda x: ops.mean(x, (1, 2)), (IMAGE.astype("float16"),), ["KerasOperation"]),
    ],
)
def test_plain_layers_where_the_maths_are_the_same(
    function: Any, arrays: Any, names: list[str]
) -> None:
    assert _layer_names(_both(function, *arrays)[1]) == names


def test_mixed_types_are_not_cast() -> None:
    source, twin = _both(lambda x, y: x + y, X, X.astype("float16"))
    assert _layer_names(twin) == ["KerasOperation"]
    assert twin.output.dtype == tf.float32
    np.testing.assert_array_equal(twin([X, X.astype("float16")]), source([X, X.astype("float16")]))


def test_a_mask_ends_at_an_operation_as_in_keras3() -> None:
    ids = np.array([[1, 2, 0], [3, 0, 0]], "int32")
    tensor = keras2.Input((3,), dtype="int32")
    masked = keras2.layers.Embedding(5, 4, mask_zero=True)(tensor)
    for op, args in ((_operation(ops.relu), ()), (_operation(ops.square), ())):
        out = operation(op, Names()).call(masked, *args)
        assert getattr(out, "_keras_mask", None) is None
        result = keras2.Model(tensor, out)(ids)
        assert getattr(result, "_keras_mask", None) is None
    kept = keras2.layers.ReLU()(masked)
    assert kept._keras_mask is not None  # what a plain layer would have done


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_constants_survive_a_file(tmp_path: Path, suffix: str) -> None:
    constants = np.array([np.nan, np.inf, 1e-30, 1 / 3], "float32")

    def function(x: Any, y: Any) -> Any:
        kept = ops.where(ops.isnan(x + constants), y, x)
        parts = ops.split(ops.concatenate([kept, y], axis=-1), [3, 5], axis=-1)
        return [parts[0], parts[2][:, ::-1] * np.array([2.0, 0.5, 1.0], "float32")]

    source, twin = _both(function, X, Y)
    path = tmp_path / f"model.{suffix}"
    if suffix == "h5":
        with pytest.warns(UserWarning, match="HDF5"):
            twin.save(path)
    else:
        twin.save(path)
    loaded = keras2.models.load_model(path, custom_objects=dict(OBJECTS), compile=False)
    for one, other in zip(_outputs(loaded, [X, Y]), _outputs(source, [X, Y]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_layer_is_made_again_from_its_config() -> None:
    twin = _both(lambda x: ops.einsum("btc,bsc->bts", x, x), WIDE)[1]
    layer = twin.layers[-1]
    assert isinstance(layer, KerasOperation)
    assert layer.operation_class == "Einsum"
    again = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(again(WIDE), layer(WIDE))
    assert layer.compute_output_shape((None, 5, 4)).as_list() == [None, 5, 5]


def test_a_custom_operation_keeps_its_settings() -> None:
    @keras3.saving.register_keras_serializable("tfopt_test")
    class Scaled(keras3.Operation):
        def __init__(self, factor: float, *, name: str | None = None) -> None:
            super().__init__(name=name)
            self.factor = factor

        def call(self, x: Any) -> Any:
            return x * self.factor

    source, twin = _both(lambda x: Scaled(2.5)(x), X)
    np.testing.assert_array_equal(_reloaded(twin)([X]), source([X]))


def test_an_unregistered_operation_is_refused() -> None:
    class Local(keras3.Operation):
        def call(self, x: Any) -> Any:
            return x

    with pytest.raises(ModelError, match=r"'Local'.*register_keras_serializable"):
        _both(lambda x: Local()(x), X)


def test_tied_weights_are_refused_by_name() -> None:
    dense = keras3.layers.Dense(4, name="encoder")
    dense.build((None, 4))
    tensor = keras2.Input((4,))
    with pytest.raises(ModelError, match=r"'matmul.*'.*encoder/kernel.*tied weights"):
        operation(_operation(ops.matmul, 2), Names()).call(tensor, dense.kernel)


def test_python_functions_as_arguments_are_refused() -> None:
    with pytest.raises(ModelError, match=r"Map.*Python function '<lambda>'.*registered Keras 3"):
        _both(lambda x: ops.map(lambda row: row * 2, x), X)


def test_an_operation_called_twice_gets_two_layers() -> None:
    op = _operation(ops.add, 2)
    source, twin = _both(lambda x, y: op(op(x, y), 2.0), X, Y)
    assert _layer_names(twin) == ["Add", "Rescaling"]
    np.testing.assert_array_equal(twin([X, Y]), source([X, Y]))


def test_litert_runs_a_model_of_operations() -> None:
    def function(x: Any) -> Any:
        scores = ops.softmax(ops.einsum("btc,bsc->bts", x, x) * 0.5 + np.eye(5, dtype="float32"))
        return ops.mean(ops.matmul(scores, x), axis=1)

    source, twin = _both(function, WIDE)
    content = tf.lite.TFLiteConverter.from_keras_model(twin).convert()
    interpreter = Interpreter(model_content=content)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, WIDE.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, WIDE)
    interpreter.invoke()
    got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(got, np.asarray(source([WIDE])), rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_keras3() -> None:
    source, twin = _both(lambda x, y: ops.silu(x * y + 2) * ops.gelu(y) - ops.log(x), X, Y)
    gradients = []
    for model in (source, twin):
        given = [tf.constant(X), tf.constant(Y)]
        with tf.GradientTape() as tape:
            tape.watch(given)
            loss = tf.reduce_sum(model(given))
        gradients.append(tape.gradient(loss, given))
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
