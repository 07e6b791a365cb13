from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans

from tfopt.compression.kmeans import SharedKernel, exact_sharing, share_channels, share_kernel

RANDOM = np.random.default_rng(0)
KERNELS = {
    "normal": RANDOM.normal(size=(3, 3, 4, 8)),
    "heavy tails": RANDOM.standard_t(2, size=(20, 30)),
    "one entry": np.array([[0.7]]),
    "constant": np.full((4, 5), 0.25),
    "all zero": np.zeros((4, 5)),
    "few values": RANDOM.choice([-0.5, 0.0, 0.25], size=(6, 7)),
    "mostly zero": np.where(RANDOM.random((30, 30)) < 0.9, 0, RANDOM.normal(size=(30, 30))),
    "outlier": np.append(RANDOM.normal(size=99) * 1e-3, 1e3),
}


def whole(shared: SharedKernel) -> np.ndarray:
    return shared.values[shared.indices]


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("clusters", [2, 3, 16])
@pytest.mark.parametrize("keep_zeros", [False, True])
@pytest.mark.parametrize("start", ["kmeans", "linear"])
def test_never_too_many_values_and_zeros_are_kept(
    name: str, clusters: int, keep_zeros: bool, start: str
) -> None:
    kernel = KERNELS[name].astype(np.float32)
    shared = share_kernel(kernel, clusters, keep_zeros=keep_zeros, initialization=start)
    assert shared.values.dtype == np.float32
    assert shared.indices.dtype == np.int32
    assert shared.values.size <= clusters
    result = whole(shared)
    assert result.shape == kernel.shape
    assert np.all(np.isfinite(result))
    assert result.min() >= kernel.min()
    assert result.max() <= kernel.max()
    if keep_zeros:
        assert not np.any(result[kernel == 0])


@pytest.mark.parametrize("name", ["one entry", "constant", "all zero", "few values"])
def test_kernels_with_few_values_stay_exactly_as_they_are(name: str) -> None:
    kernel = KERNELS[name].astype(np.float32)
    np.testing.assert_array_equal(whole(share_kernel(kernel, 4, keep_zeros=False)), kernel)


@pytest.mark.parametrize(("size", "clusters"), [((5, 5, 1, 20), 8), ((400, 50), 16)])
@pytest.mark.parametrize("kind", ["normal", "uniform", "laplace"])
def test_the_error_is_that_of_scikit_learn(size: tuple[int, ...], clusters: int, kind: str) -> None:
    kernel = getattr(np.random.default_rng(3), kind)(size=size).astype(np.float32)
    ours = np.mean((whole(share_kernel(kernel, clusters, keep_zeros=False)) - kernel) ** 2)
    theirs = KMeans(clusters, n_init=3, random_state=0).fit(kernel.reshape(-1, 1))
    assert ours <= 1.05 * theirs.inertia_ / kernel.size


def test_kmeans_beats_its_linear_start() -> None:
    kernel = KERNELS["heavy tails"].astype(np.float32)
    errors = [
        np.mean((whole(share_kernel(kernel, 8, keep_zeros=False, initialization=i)) - kernel) ** 2)
        for i in ("kmeans", "linear")
    ]
    assert errors[0] < 0.5 * errors[1]


def test_a_single_value_is_the_mean_whatever_the_start() -> None:
    kernel = np.array([0.0, 1.0, 2.0, 6.0], np.float32)
    shared = share_kernel(kernel, 2, keep_zeros=True, initialization="linear")
    np.testing.assert_array_equal(whole(shared), [0.0, 3.0, 3.0, 3.0])


def test_every_channel_has_its_own_values() -> None:
    kernel = RANDOM.normal(size=(3, 3, 4, 5)).astype(np.float32)
    kernel[..., 2] = 0.0
    result = whole(share_channels(kernel, 4, keep_zeros=True))
    counts = [np.unique(result[..., channel]).size for channel in range(5)]
    assert counts == [3, 3, 1, 3, 3]  # zero is the fourth
    assert np.unique(result).size == 13
    np.testing.assert_allclose(result, kernel, atol=1.5)


def test_exact_sharing_changes_nothing() -> None:
    kernel = KERNELS["few values"].astype(np.float32)
    shared = exact_sharing(kernel)
    assert shared.values.size == 3
    np.testing.assert_array_equal(whole(shared), kernel)
