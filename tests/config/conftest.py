from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tfopt.config.load import load_recipe
from tfopt.errors import RecipeError

Problems = Callable[..., list[str]]

BASE = "name: a\ndata: {source: digits}\nmodel: {builder: lenet5}\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write_recipe(text: str | bytes) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_recipe


@pytest.fixture
def problems(write: Callable[[str | bytes], Path]) -> Problems:
    """Return the problems that are reported for a good recipe with some text added."""

    def problems_of(added: str = "", *overrides: str, base: str = BASE) -> list[str]:
        path = write(base + added)
        with pytest.raises(RecipeError) as caught:
            load_recipe(path, overrides)
        first, *lines = str(caught.value).splitlines()
        plural = "" if len(lines) == 1 else "s"
        assert first == f"{path}: {len(lines)} problem{plural}"
        assert all(line.startswith("  - ") for line in lines)
        return [line.removeprefix("  - ") for line in lines]

    return problems_of
