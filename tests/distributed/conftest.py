"""One rank without a launcher; small models of both Kerases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


@pytest.fixture(params=["keras2", "keras3"])
def k(request: pytest.FixtureRequest) -> Any:
    """Either Keras, as a module."""
    import keras
    import tf_keras

    return tf_keras if request.param == "keras2" else keras


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    """16 rows of 3 numbers, and their 2 targets."""
    random = np.random.default_rng(0)
    return (
        random.normal(size=(16, 3)).astype(np.float32),
        random.normal(size=(16, 2)).astype(np.float32),
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    from tfopt.distributed.horovod.library import INSTALL, is_installed

    for item in items:
        if item.get_closest_marker("horovod") and not is_installed():
            item.add_marker(pytest.mark.skip(reason=f"Horovod is not installed: {INSTALL}"))
