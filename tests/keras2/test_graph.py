from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfopt.errors import ModelError
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, keras

L = keras.layers


def outputs_of(model: Model, inputs: object) -> list[np.ndarray]:
    return [np.asarray(tensor) for tensor in tf.nest.flatten(model(inputs, training=False))]


def assert_same_function(first: Model, second: Model, inputs: object) -> None:
    for left, right in zip(outputs_of(first, inputs), outputs_of(second, inputs), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_copy_has_its_own_weights(dense: Model, rows: np.ndarray) -> None:
    copied = graph.copy(dense)
    assert_same_function(dense, copied, rows)
    before = dense(rows).numpy()
    copied.layers[1].kernel.assign_add(tf.ones_like(copied.layers[1].kernel))
    np.testing.assert_array_equal(dense(rows), before)
    assert [layer.name for layer in graph.layers_of(copied)][1:] == ["hidden", "out"]


def test_nested_models_are_opened_and_names_stay_unique(images: np.ndarray) -> None:
    backbone = keras.Sequential([L.Input((8, 8, 4)), L.Conv2D(4, 3, name="out")], name="body")
    model = keras.Sequential(
        [L.Input((8, 8, 4)), backbone, L.Flatten(name="flat"), L.Dense(3, name="out")]
    )
    copied = graph.copy(model)
    names = [layer.name for layer in graph.layers_of(copied)]
    assert names[1:] == ["out", "flat", "out_1"]
    assert not any(isinstance(layer, keras.Model) for layer in copied.layers)
    assert_same_function(model, copied, images)


def test_the_structure_of_inputs_and_outputs_stays(images: np.ndarray) -> None:
    left, right = keras.Input((8, 8, 4), name="left"), keras.Input((8, 8, 4), name="right")
    both = L.Concatenate()([L.Flatten()(left), L.Flatten()(right)])
    model = keras.Model({"left": left, "right": right}, {"a": L.Dense(2)(both), "b": both})
    copied = graph.copy(model)
    inputs = {"left": images, "right": 2 * images}
    assert set(copied(inputs)) == {"a", "b"}
    assert_same_function(model, copied, inputs)


def test_losses_by_output_name_still_work(rows: np.ndarray) -> None:
    inputs = keras.Input((12,))
    outputs = [L.Dense(2, name="one")(inputs), L.Dense(3, name="two")(inputs)]
    model = keras.Model(inputs, outputs)
    copied = graph.rebuild(model, lambda layer: L.Dense(layer.units, name=f"new_{layer.name}"))
    assert copied.output_names == ["one", "two"]
    copied.compile("sgd", {"one": "mse", "two": "mae"})
    logs = copied.fit(rows, {"one": rows[:, :2], "two": rows[:, :3]}, verbose=0).history
    assert {"one_loss", "two_loss"} <= set(logs)


def test_a_pinned_training_flag_reaches_the_layers_inside(images: np.ndarray) -> None:
    backbone = keras.Sequential([L.Input((8, 8, 4)), L.BatchNormalization(), L.Dropout(0.9)])
    inputs = keras.Input((8, 8, 4))
    copied = graph.copy(keras.Model(inputs, backbone(inputs, training=False)))
    mean = copied.layers[1].moving_mean.numpy()
    np.testing.assert_array_equal(copied(images, training=True), copied(images, training=False))
    np.testing.assert_array_equal(copied.layers[1].moving_mean, mean)


def test_shared_layers_stay_shared(images: np.ndarray) -> None:
    tower = keras.Sequential([L.Input((8, 8, 4)), L.Conv2D(2, 3), L.Flatten()])
    left, right = keras.Input((8, 8, 4)), keras.Input((8, 8, 4))
    model = keras.Model([left, right], L.Subtract()([tower(left), tower(right)]))
    copied = graph.copy(model)
    assert len(copied.weights) == 2
    assert_same_function(model, copied, [images, images * 2])
    assert graph.consumers_of(copied)["flatten"] == ["subtract", "subtract"]


def test_producers_and_consumers_of_an_inner_output(dense: Model) -> None:
    tapped = keras.Model(dense.inputs, [dense.get_layer("hidden").output, dense.output])
    flat = graph.copy(tapped)
    assert graph.consumers_of(flat)["hidden"] == ["out", "<output>"]
    assert graph.producers_of(flat)["out"] == ["hidden"]


def test_ragged_inputs_stay_ragged() -> None:
    inputs = keras.Input((None, 3), ragged=True)
    model = keras.Model(inputs, L.Lambda(lambda ragged: ragged.to_tensor())(inputs))
    ragged = tf.ragged.constant([[[1.0, 2, 3]], [[1, 2, 3], [4, 5, 6]]], ragged_rank=1)
    assert_same_function(model, graph.copy(model), ragged)


def test_a_twin_trains_and_brings_everything_back(
    cnn: Model, images: np.ndarray, labels: np.ndarray, train: object
) -> None:
    before = [weight.numpy() for weight in cnn.weights]
    copied, bring_back = graph.twin(cnn)
    train(copied, images, labels, epochs=1)  # type: ignore[operator]
    for weight, value in zip(cnn.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
    bring_back()
    assert_same_function(cnn, copied, images)
    moved = dict(zip([w.name for w in cnn.weights], before, strict=True))
    for weight in cnn.non_trainable_weights:
        assert np.any(weight.numpy() != moved[weight.name]), weight.name
    assert not cnn._is_compiled


def test_a_mixed_precision_twin_answers_in_float32(cnn: Model, images: np.ndarray) -> None:
    copied, _ = graph.twin(cnn, dtype="mixed_float16")
    assert copied.get_layer("conv").compute_dtype == "float16"
    assert copied(images).dtype == tf.float32
    assert copied.output_names == ["out"]
    assert cnn.get_layer("conv").compute_dtype == "float32"


def test_kernels_are_found_in_cells_and_parts() -> None:
    inputs = keras.Input((5, 4))
    hidden = L.MultiHeadAttention(2, 3)(inputs, inputs)
    hidden = L.Bidirectional(L.LSTM(3, return_sequences=True))(hidden)
    hidden = L.RNN([L.GRUCell(2), L.GRUCell(2)], return_sequences=True)(hidden)
    model = keras.Model(inputs, L.TimeDistributed(L.Dense(2))(hidden))
    found = [sorted(graph.kernels_of(layer)) for layer in model.layers[1:]]
    assert found[0] == [f"_{part}_dense.kernel" for part in ("key", "output", "query", "value")]
    assert found[1] == [
        f"{side}_layer.cell.{name}"
        for side in ("backward", "forward")
        for name in ("kernel", "recurrent_kernel")
    ]
    assert found[2][-1] == "cell.cells.1.recurrent_kernel"
    assert found[3] == ["layer.kernel"]


def test_tied_weights_are_refused(rows: np.ndarray) -> None:
    layer = L.Dense(12)
    inputs = keras.Input((12,))
    hidden = layer(inputs)
    model = keras.Model(inputs, tf.matmul(hidden, layer.kernel, transpose_b=True))
    with pytest.raises(ModelError, match=r"variable .*tied weights"):
        graph.copy(model)


def test_added_losses_are_refused_rather_than_lost() -> None:
    inputs = keras.Input((4,))
    hidden = L.Dense(2)(inputs)
    model = keras.Model(inputs, L.Dense(1)(hidden))
    model.add_loss(tf.reduce_mean(hidden**2))
    with pytest.raises(ModelError, match="model.add_loss"):
        graph.copy(model)


def test_channels_first_is_refused() -> None:
    inputs = keras.Input((4, 8, 8))
    model = keras.Model(inputs, L.Conv2D(2, 3, data_format="channels_first", name="first")(inputs))
    with pytest.raises(ModelError, match=r"'first' works on data_format='channels_first'"):
        graph.copy(model)


def test_an_uncallable_replacement_names_the_layer(dense: Model) -> None:
    with pytest.raises(ModelError, match=r"'out' \(Dense\) cannot be called"):
        graph.rebuild(dense, lambda layer: L.Conv2D(1, 3) if layer.name == "out" else layer)


def test_colliding_names_are_an_error_of_ours(dense: Model) -> None:
    with pytest.raises(ModelError, match="cannot be built again"):
        graph.rebuild(dense, lambda layer: L.Dense(layer.units, name="same"))
