"""What a strategy cannot train is said before training, all of it at once."""

from __future__ import annotations

from typing import Any

import pytest

from tfopt.config.schema import Recipe
from tfopt.distributed.limits import require_possible
from tfopt.errors import RecipeError

RECIPE: dict[str, Any] = {
    "name": "r",
    "data": {"source": "digits"},
    "model": {"builder": "lenet300"},
    "train": {"precision": "mixed_float16", "jit_compile": True},
    "steps": [{"prune": {}}, {"quantize": {"teacher": {}}}],
}


def test_parameter_servers_name_everything() -> None:
    with pytest.raises(RecipeError) as caught:
        require_possible("parameter_server", Recipe(**RECIPE))
    text = str(caught.value)
    assert "'parameter_server' cannot train this recipe: 4 problem(s)" in text
    for named in ("precision: mixed_float16", "jit_compile", r"steps[0].prune: masks", "teacher"):
        assert named in text
    assert "--resume --set 'strategy={kind: single}'" in text


def test_divided_weights_take_no_steps() -> None:
    with pytest.raises(RecipeError, match=r"(?s)steps\[0\].prune: its layers.*steps\[1\].quantize"):
        require_possible("model_parallel", Recipe(**{**RECIPE, "train": {}}))


def test_the_others_take_all() -> None:
    for kind in ("auto", "single", "tpu", "mirrored", "horovod"):
        require_possible(kind, Recipe(**RECIPE))
    require_possible("parameter_server", Recipe(**{**RECIPE, "train": {}, "steps": ["quantize"]}))
