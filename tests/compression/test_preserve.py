from __future__ import annotations

import numpy as np
import pytest

from tfopt.compression.layers.masked import PrunedLayer
from tfopt.compression.layers.quantized import SchemedLayer
from tfopt.compression.preserve import (
    give_weights,
    holding,
    kept_in,
    require_kept,
    require_unwrapped,
    unwrapped,
)
from tfopt.compression.weight_statistics import layer_kernels
from tfopt.errors import InputError, VerificationError
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, keras

L = keras.layers
RANDOM = np.random.default_rng(0)
SPARSE = np.where(RANDOM.random((12, 16)) < 0.6, 0, RANDOM.normal(size=(12, 16))).astype("f")
SHARED = RANDOM.choice([-0.3, 0.1, 0.7], size=(12, 16)).astype("f")


def test_what_is_kept_is_read_off_the_kernel() -> None:
    assert kept_in(SPARSE) == {"bits": None, "masked": True, "shared": 0}
    assert kept_in(SHARED) == {"bits": None, "masked": False, "shared": 3}
    assert kept_in(SPARSE * 0 + 1) == kept_in(RANDOM.normal(size=(12, 16))) == {}


def held_model(model: Model) -> Model:
    kernels = {layer.name: layer_kernels(layer) for layer in graph.layers_of(model)}
    return graph.rebuild(
        model, lambda layer: holding(layer, kernels[layer.name]), move_weights=give_weights
    )


@pytest.mark.parametrize("kernel", [SPARSE, SHARED], ids=["pruned", "clustered"])
def test_training_keeps_zeros_and_values(
    kernel: np.ndarray, dense: Model, rows: np.ndarray, labels: np.ndarray, train: object
) -> None:
    dense.get_layer("hidden").kernel.assign(kernel)
    wrapped = held_model(dense)
    assert isinstance(wrapped.get_layer("held_hidden"), SchemedLayer)
    assert isinstance(wrapped.get_layer("out"), L.Dense)
    np.testing.assert_array_equal(wrapped(rows), dense(rows))
    train(wrapped, rows, labels)  # type: ignore[operator]
    plain = unwrapped(wrapped)
    np.testing.assert_array_equal(plain(rows), wrapped(rows))
    after = plain.get_layer("hidden").kernel.numpy()
    assert np.any(after != kernel)
    require_kept({"hidden": {"kernel": kernel}}, {"hidden": {"kernel": after}}, step="test")


def test_frozen_and_untouched_layers_are_not_wrapped(dense: Model) -> None:
    dense.get_layer("hidden").kernel.assign(SPARSE)
    dense.get_layer("hidden").trainable = False
    assert not [layer for layer in held_model(dense).layers if isinstance(layer, SchemedLayer)]


def test_a_pruned_recurrent_layer_is_wrapped_by_tfmot() -> None:
    layer = L.LSTM(4)
    assert isinstance(holding(layer, {"cell.kernel": SPARSE}), PrunedLayer)
    assert holding(layer, {"cell.kernel": SHARED}) is layer


def test_attention_cannot_be_wrapped() -> None:
    layer = L.MultiHeadAttention(2, 3)
    assert holding(layer, {"_query_dense.kernel": SPARSE}) is layer


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (SPARSE, np.where(SPARSE == 0, 1e-9, SPARSE), r"'hidden' lost zeros: 0\.\d+ before, 0\.0"),
        (SHARED, SHARED + np.eye(12, 16) * 1e-3, "lost its shared values: 3 before, 6 after"),
        (SHARED, SHARED * 0, "every weight of layer 'hidden' became zero"),
    ],
)
def test_losses_are_named(before: np.ndarray, after: np.ndarray, message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        require_kept({"hidden": {"kernel": before}}, {"hidden": {"kernel": after}}, step="test")


def test_a_wrapped_model_is_refused(dense: Model) -> None:
    dense.get_layer("hidden").kernel.assign(SPARSE)
    wrapped = held_model(dense)
    with pytest.raises(InputError, match=r"prune: .* in the middle of another step \('held_hid"):
        require_unwrapped(wrapped, step="prune")
