from collections.abc import Callable

import pytest

from tfopt.config.schema import Data
from tfopt.data.load import load_data
from tfopt.errors import DataError


@pytest.fixture
def refused() -> Callable[[Data, str], None]:
    """Return a function that loads data and expects a DataError of one line."""

    def check(settings: Data, message: str) -> None:
        with pytest.raises(DataError, match=message) as caught:
            load_data(settings, seed=0)
        assert "\n" not in str(caught.value)

    return check


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that makes a module of the user's and gives its dotted path."""
    monkeypatch.chdir(tmp_path)

    def make(body, function="load"):
        name = f"own_data_{len(list(tmp_path.iterdir()))}_{tmp_path.name.replace('-', '_')}"
        head = "import numpy as np\nimport tensorflow as tf\n"
        (tmp_path / f"{name}.py").write_text(head + body)
        return f"{name}:{function}"

    return make
