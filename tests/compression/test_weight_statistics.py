from __future__ import annotations

import numpy as np
import pytest

from tfopt.compression.weight_statistics import (
    is_clustered,
    is_pruned,
    layer_kernels,
    model_kernels,
    require_finite,
    unique_values,
    weight_histograms,
    zero_fraction,
)
from tfopt.errors import ModelError
from tfopt.keras2 import graph
from tfopt.keras2.core import Model

RANDOM = np.random.default_rng(0)
NORMAL = RANDOM.normal(size=(40, 30)).astype(np.float32)


def sparse(kernel: np.ndarray, share: float) -> np.ndarray:
    return np.where(np.abs(kernel) < np.quantile(np.abs(kernel), share), 0, kernel)


def clustered(shape: tuple[int, ...], count: int) -> np.ndarray:
    return RANDOM.choice(RANDOM.normal(size=count).astype(np.float32), size=shape)


def test_zero_fraction_counts_entries_not_kernels() -> None:
    assert zero_fraction({"a": np.zeros(9), "b": np.ones(1)}) == pytest.approx(0.9)
    assert zero_fraction({}) == 0


def test_zero_is_a_value_like_any_other() -> None:
    assert unique_values(np.array([0.0, -0.0, 1.0])) == 2


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_scattered_zeros_are_pruning(share: float) -> None:
    assert is_pruned(sparse(NORMAL, share))
    assert is_pruned(sparse(RANDOM.normal(size=(100, 1)), share))
    assert is_pruned(sparse(RANDOM.normal(size=200), share))


def test_what_only_looks_pruned() -> None:
    words = NORMAL.copy()
    words[5:15] = 0
    for kernel in (NORMAL, np.zeros((3, 3)), np.eye(9), words, np.zeros((0, 3))):
        assert not is_pruned(kernel.astype(np.float32))


@pytest.mark.parametrize("count", [2, 16, 200])
def test_few_values_are_clustering(count: int) -> None:
    assert is_clustered(clustered((40, 30), count))
    assert is_clustered(sparse(clustered((40, 30), 16), 0.5))


def test_what_only_looks_clustered() -> None:
    half = NORMAL.astype(np.float16).astype(np.float32)
    brain = (np.abs(np.repeat(NORMAL, 4)).view(np.uint32) & 0xFFFF0000).view(np.float32)
    others = (np.full((9, 9), 0.5), np.eye(9), np.zeros((4, 4)), sparse(NORMAL, 0.9))
    for kernel in (NORMAL, np.tile(half, (4, 1)), brain, *others):
        assert not is_clustered(kernel.astype(np.float32))


def test_a_large_table_of_rounded_values_is_not_clustered() -> None:
    """The position table of all-MiniLM-L6-v2: a third of its values are distinct."""
    table = np.round(RANDOM.normal(size=(512, 384)).astype(np.float32) * 8000) / np.float32(8001)
    assert 1024 < unique_values(table) < 0.75 * table.size
    assert not is_clustered(table)
    by_channel = np.concatenate([clustered((512, 1), 16) for _ in range(384)], axis=1)
    assert unique_values(by_channel) > 1024
    assert is_clustered(by_channel)


def test_kernels_are_named_by_layer_and_attribute(cnn: Model) -> None:
    found = model_kernels(graph.copy(cnn))
    assert sorted(found) == ["conv/kernel", "depthwise/depthwise_kernel", "out/kernel"]
    assert layer_kernels(cnn.get_layer("norm")) == {}


def test_weights_that_are_not_finite_name_the_layer(dense: Model) -> None:
    kernel = dense.get_layer("hidden").kernel
    kernel.assign(kernel * np.nan)
    with pytest.raises(ModelError, match="'hidden/kernel' .* not finite"):
        require_finite(dense)


def test_histograms_count_every_weight() -> None:
    after = sparse(NORMAL, 0.5)
    (found,) = weight_histograms({"a": NORMAL, "gone": NORMAL}, {"a": after}, bins=10)
    assert len(found.edges) == 11
    assert sum(found.before) == sum(found.after) == NORMAL.size
    assert found.zero_fraction_before == 0
    assert found.zero_fraction_after == pytest.approx(0.5)
    assert found.unique_before > found.unique_after


def test_histograms_leave_out_empty_and_reshaped_kernels() -> None:
    empty = np.zeros((0, 3))
    assert weight_histograms({"a": empty, "b": NORMAL}, {"a": empty, "b": NORMAL[1:]}) == []
