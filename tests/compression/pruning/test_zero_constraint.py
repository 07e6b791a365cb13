from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tfopt.compression.kmeans import share_kernel
from tfopt.compression.pruning.zero_constraint import held, require_trainable
from tfopt.errors import InputError
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, keras

L = keras.layers
Train = Callable[..., None]


def zero_half(variable: object) -> np.ndarray:
    values = variable.numpy()  # type: ignore[attr-defined]
    values[np.abs(values) < np.median(np.abs(values))] = 0
    variable.assign(values)  # type: ignore[attr-defined]
    return values == 0


def test_zeros_are_held_and_other_weights_train(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train
) -> None:
    kernel = dense.get_layer("hidden").kernel
    zeros, before = zero_half(kernel), kernel.numpy()
    with held(dense) as count:
        train(dense, rows, labels)
    assert count == 1
    np.testing.assert_array_equal(kernel.numpy() == 0, zeros)
    assert np.all(kernel.numpy()[~zeros] != before[~zeros])


def test_without_a_hold_the_zeros_come_back(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train
) -> None:
    zeros = zero_half(dense.get_layer("hidden").kernel)
    with held(dense):
        pass
    train(dense, rows, labels)
    assert np.mean(dense.get_layer("hidden").kernel.numpy()[zeros] == 0) < 0.1


def test_zeros_inside_recurrent_cells_are_held(labels: np.ndarray, train: Train) -> None:
    model = keras.Sequential([L.Input((5, 4)), L.Bidirectional(L.SimpleRNN(4)), L.Dense(3)])
    cell = model.layers[0].backward_layer.cell
    zeros = zero_half(cell.recurrent_kernel)
    with held(model) as count:
        train(model, np.random.default_rng(0).normal(size=(32, 5, 4)), labels)
    assert count == 1
    np.testing.assert_array_equal(cell.recurrent_kernel.numpy() == 0, zeros)


def test_zeros_are_held_under_mixed_precision(
    dense: Model, rows: np.ndarray, labels: np.ndarray, train: Train
) -> None:
    zeros = zero_half(dense.get_layer("hidden").kernel)
    copied, _ = graph.twin(dense, dtype="mixed_float16")
    with held(copied):
        train(copied, rows, labels)
    np.testing.assert_array_equal(copied.get_layer("hidden").kernel.numpy() == 0, zeros)


def test_a_constraint_of_the_layer_still_acts_and_comes_back(
    rows: np.ndarray, labels: np.ndarray, train: Train
) -> None:
    layer = L.Dense(3, kernel_constraint="non_neg")
    model = keras.Sequential([L.Input((12,)), layer])
    zeros = zero_half(layer.kernel)
    own = layer.kernel.constraint
    with held(model):
        train(model, rows, labels)
    assert layer.kernel.constraint is own
    assert np.all(layer.kernel.numpy() >= 0)
    assert not np.any(layer.kernel.numpy()[zeros])


def test_a_fresh_kernel_of_zeros_is_not_held() -> None:
    model = keras.Sequential([L.Input((12,)), L.Dense(3, kernel_initializer="zeros")])
    with held(model) as count:
        assert count == 0


def test_a_clustered_model_is_not_trained_on(dense: Model) -> None:
    kernel = dense.get_layer("hidden").kernel
    shared = share_kernel(kernel.numpy(), 8, keep_zeros=False)
    kernel.assign(shared.values[shared.indices])
    with pytest.raises(InputError, match=r"'hidden' is clustered: .*192 weights holds 8 distinct"):
        require_trainable(dense)
    dense.get_layer("hidden").trainable = False
    require_trainable(dense)


@pytest.mark.parametrize("start", ["zeros", "ones", "identity", "glorot_uniform"])
def test_fresh_and_pruned_models_may_be_trained(start: str) -> None:
    model = keras.Sequential([L.Input((12,)), L.Dense(12, kernel_initializer=start)])
    require_trainable(model)
    if start == "glorot_uniform":
        zero_half(model.layers[0].kernel)
        require_trainable(model)
