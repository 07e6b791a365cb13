from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tfopt.cli.arguments import (
    data_section,
    data_settings,
    one_step,
    recipe_from,
    resume_command,
    safe_name,
    typed,
)
from tfopt.cli.options import StepArguments
from tfopt.errors import InputError, RecipeError

RECIPE = """
name: whole
data: {source: digits, batch_size: 16, augment: {shift: 0.1}}
model: {builder: lenet300}
train: {epochs: 2}
steps:
  - prune: {sparsity: 0.5, epochs: 3}
  - quantize
export: [litert]
gate: {max_drop: 0.1}
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "my model.keras").touch()
    return tmp_path


def given(**changed: Any) -> StepArguments:
    values: dict[str, Any] = {
        "model": None, "config": None, "data": None, "overrides": (), "settings": {},
    }  # fmt: skip
    return StepArguments(**{**values, **changed})


def test_a_model_and_data_make_a_recipe_of_one_step(files: Path) -> None:
    settings = {"sparsity": 0.7, "epochs": None}
    recipe = one_step(
        "prune", given(model=Path("my model.keras"), data="digits", settings=settings)
    )
    assert recipe.name == "my-model-prune"
    assert recipe.training is None
    assert recipe.steps[0].prune is not None
    assert recipe.steps[0].prune.sparsity == 0.7
    assert recipe.steps[0].prune.epochs == 2
    assert (recipe.export, recipe.gate) == ((), None)


def test_a_recipe_brings_data_and_settings_and_options_win(files: Path) -> None:
    config = Path("recipe.yaml")
    recipe = one_step("prune", given(config=config, settings={"epochs": 1, "sparsity": None}))
    assert (recipe.steps[0].prune.epochs, recipe.steps[0].prune.sparsity) == (1, 0.5)  # type: ignore[union-attr]
    assert recipe.train is not None
    assert len(recipe.steps) == 1
    clustered = one_step("cluster", given(config=config, overrides=["data.limit=7"]))
    assert clustered.steps[0].name == "cluster"
    assert clustered.data.limit == 7
    loaded = one_step("quantize", given(config=config, model=Path("my model.keras")))
    assert loaded.training is None
    assert loaded.data.augment.shift == 0.1
    other = one_step("quantize", given(config=config, data="mnist5k"))
    assert (other.data.source, other.data.batch_size) == ("mnist5k", 16)


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "Give a model file, or a recipe with --config."),
    "no data": ({"model": Path("my model.keras")}, "Give the data: --data mnist5k, digits,"),
    "no model": ({"data": "digits"}, "Give a model file, or a recipe with --config."),
    "missing model": ({"model": Path("nosuch.keras"), "data": "digits"}, "There is no model 'nos"),
    "override of nothing": (
        {"model": Path("my model.keras"), "data": "digits", "overrides": ["a=b"]},
        "--set changes a recipe; give one with --config.",
    ),
    "bad setting": (
        {"model": Path("my model.keras"), "data": "digits", "settings": {"epochs": 0}},
        r"tfopt prune: 1 problem\n  - steps\[0\].prune.epochs: must be greater",
    ),
    "bad recipe": ({"config": Path("nosuch.yaml")}, "There is no recipe 'nosuch.yaml'."),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_is_missing_is_named(name: str, files: Path) -> None:
    changed, message = MISTAKES[name]
    with pytest.raises(InputError, match=message):
        one_step("prune", given(**changed))


def test_data(files: Path) -> None:
    assert data_settings("a/b.npz") == {"source": "npz", "path": "a/b.npz"}
    assert data_settings("pkg.mine:load") == {"source": "pkg.mine:load"}
    assert data_section(None, None) is None
    section = data_section(None, Path("recipe.yaml"))
    assert section is not None
    assert section.batch_size == 16
    with pytest.raises(RecipeError, match="--data digit: 1 problem\n  - data.source 'digit'"):
        data_section("digit", None)
    with pytest.raises(InputError, match="Give a recipe: a YAML file"):
        recipe_from(None, None)


@pytest.mark.parametrize(
    ("text", "name"),
    [("a b", "a-b"), ("../é.x", "---.x".lstrip("-.") or "model"), ("...", "model")],
)
def test_names_fit_a_recipe(text: str, name: str) -> None:
    assert safe_name(text) == name
    assert len(safe_name("x" * 500)) == 100


def test_commands_can_be_pasted() -> None:
    words = ["run", "my recipe.yaml", "-o", "old out", "--set", "a.b=[1, 2]", "--resume"]
    assert typed(words[:2]) == "tfopt run 'my recipe.yaml'"
    assert resume_command(words, Path("new out")) == (
        "tfopt run 'my recipe.yaml' --set 'a.b=[1, 2]' --output 'new out' --resume"
    )
    assert (
        resume_command(["run", "r", "--output=x"], Path("y")) == "tfopt run r --output y --resume"
    )
    assert resume_command(["run", "r", "-ox"], Path("y")) == "tfopt run r --output y --resume"
