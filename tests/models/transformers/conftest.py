"""The tiny pretrained models that PyTorch wrote, and folders to damage."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of fixtures: ``bert``, ``distilbert``, ``roberta``, ``gpt2``."""
    return DATA


@pytest.fixture
def damaged(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies a tiny model, with changed config and tensors."""
    from safetensors.numpy import load_file, save_file

    def copy(
        family: str = "bert",
        *,
        config: dict[str, Any] | None = None,
        drop: tuple[str, ...] = (),
        tensors: dict[str, Any] | None = None,
    ) -> Path:
        folder = tmp_path / family
        shutil.copytree(DATA / family, folder)
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**settings, **(config or {})}))
        if drop or tensors:
            file = folder / "model.safetensors"
            found = {**load_file(file), **(tensors or {})}
            save_file({k: np.ascontiguousarray(found[k]) for k in found if k not in drop}, file)
        return folder

    return copy


@pytest.fixture(scope="session")
def texts() -> dict[str, np.ndarray]:
    """Four rows of up to 12 tokens; the second is padded and the last has none."""
    lengths = np.array([12, 5, 9, 0])
    mask = (np.arange(12) < lengths[:, None]).astype(np.int32)
    ids = np.random.default_rng(0).integers(5, 60, mask.shape).astype(np.int32)
    return {"input_ids": ids * mask, "attention_mask": mask}
