from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tfopt.config.load import (
    load_recipe,
    parse_data,
    parse_recipe,
    parse_section,
    recipe_sha256,
    recipe_to_plain,
    recipe_to_yaml,
    settings_sha256,
)
from tfopt.config.schema import PruneStep
from tfopt.errors import RecipeError

ROOT = Path(__file__).resolve().parents[2]
FULL: dict[str, Any] = {
    "name": "full",
    "seed": 3,
    "data": {
        "source": "pkg.mine:load",
        "arguments": {"size": None, "rows": [1, 2]},
        "augment": {"shift": 0.1},
        "validation_fraction": 0.1,
    },
    "model": {"builder": "pkg.mine:build", "preprocess": {"mean": [0.1, 0.2], "std": 2}},
    "train": {
        "epochs": 2,
        "learning_rate": "1e-3",
        "optimizer": "sgd",
        "gradient_clip": {"norm": 1},
        "early_stopping": {"patience": 2},
        "keep": "best",
    },
    "steps": [
        {"prune": {"pattern": "2:4", "layers": {"conv*": 0.5}}},
        {"cluster": None},
        "quantize",
    ],
    "export": ["litert", {"litert": {"precision": "int8_io"}}],
    "gate": {"max_drop": -0.5},
}


def test_shorthands_and_numbers_written_like_1e_3() -> None:
    recipe = parse_recipe(FULL, origin="here")
    assert recipe.train is not None
    assert recipe.train.learning_rate.peak == pytest.approx(1e-3)
    assert recipe.train.learning_rate.schedule == "constant"
    assert recipe.train.optimizer.name == "sgd"
    assert [step.name for step in recipe.steps] == ["prune", "cluster", "quantize"]
    assert [entry.litert.precision for entry in recipe.export if entry.litert] == [
        "int8",
        "int8_io",
    ]


def test_sections_with_everything_commented_out_are_empty(
    write: Callable[[str | bytes], Path],
) -> None:
    text = "name: a\ndata: {source: digits}\nmodel: {builder: lenet5}\nsteps:\nexport:\ntrain:\n"
    recipe = load_recipe(write(text))
    assert (recipe.steps, recipe.export, recipe.train) == ((), (), None)
    assert recipe.training is not None


def test_the_resolved_recipe_reads_back_as_itself(write: Callable[[str | bytes], Path]) -> None:
    recipe = parse_recipe(FULL, origin="here")
    text = recipe_to_yaml(recipe)
    assert yaml.safe_load(text)["train"]["early_stopping"]["monitor"] == "val_loss"
    again = load_recipe(write(text))
    assert recipe_sha256(again) == recipe_sha256(recipe)
    assert again.data.arguments == {"size": None, "rows": [1, 2]}


def test_plain_data_keeps_only_what_was_written() -> None:
    recipe = parse_recipe(FULL, origin="here")
    plain = recipe_to_plain(recipe)
    assert plain["steps"] == [
        {"prune": {"layers": {"conv*": 0.5}, "pattern": "2:4"}},
        {"cluster": {}},
        {"quantize": {}},
    ]
    assert recipe_sha256(parse_recipe(plain, origin="here")) == recipe_sha256(recipe)


def test_hashes_follow_the_meaning_and_not_the_writing() -> None:
    first = parse_recipe(FULL, origin="here")
    same = parse_recipe({**FULL, "metric": "auto"}, origin="elsewhere")
    other = parse_recipe({**FULL, "seed": 4}, origin="here")
    assert recipe_sha256(first) == recipe_sha256(same)
    assert recipe_sha256(first) != recipe_sha256(other)
    assert settings_sha256({"a": 1, "b": 2}) == settings_sha256({"b": 2, "a": 1})


def test_overrides_reach_the_recipe(write: Callable[[str | bytes], Path]) -> None:
    path = write("name: a\ndata: {source: digits}\nmodel: {builder: lenet5}\nsteps: [prune]\n")
    recipe = load_recipe(path, ["train.epochs=3", "steps.prune.sparsity=0.25", "name=b"])
    assert recipe.train is not None
    assert recipe.train.epochs == 3
    assert recipe.steps[0].prune is not None
    assert recipe.steps[0].prune.sparsity == 0.25
    assert recipe.name == "b"


def test_sections_on_their_own() -> None:
    assert parse_data({"source": "digits", "limit": 5}, origin="--data").limit == 5
    with pytest.raises(RecipeError, match="--data: 1 problem\n  - data.source 'digit' is not kno"):
        parse_data({"source": "digit"}, origin="--data")
    with pytest.raises(RecipeError, match="tfopt.prune: 2 problems\n  - epochs: .*\n  - spars"):
        parse_section(PruneStep, {"sparsty": 1, "epochs": 0}, origin="tfopt.prune")


def test_every_recipe_in_configs_is_valid() -> None:
    paths = sorted((ROOT / "configs").rglob("*.yaml"))
    assert len(paths) >= 2
    for path in paths:
        first_line = path.read_text().splitlines()[0]
        assert load_recipe(path).name
        assert str(path.relative_to(ROOT)) in first_line
