"""Turn what was typed after a verb into a recipe or a part of one; imports nothing heavy."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfopt.cli.options import StepArguments
from tfopt.config.load import load_recipe, parse_data, parse_recipe, recipe_to_plain
from tfopt.config.schema import Data, Recipe
from tfopt.errors import InputError


def recipe_from(path: Path | None, overrides: Sequence[str] | None) -> Recipe:
    """Return the recipe in a file.

    Raises:
        InputError: If there is no path, or the recipe has problems.
    """
    if path is None:
        raise InputError("Give a recipe: a YAML file, as an argument or with --config.")
    return load_recipe(path, overrides or ())


def one_step(name: str, given: StepArguments) -> Recipe:
    """Return a recipe with one step: that of the config, with the command's settings.

    Raises:
        InputError: If model, data or recipe are missing or have problems.
    """
    settings = {key: value for key, value in given.settings.items() if value is not None}
    if given.config is not None:
        plain = recipe_to_plain(recipe_from(given.config, given.overrides))
        steps = [entry[name] for entry in plain.get("steps", ()) if name in entry]
        plain.update(steps=[{name: {**(steps[0] if steps else {}), **settings}}], export=[])
        plain.pop("gate", None)
    elif given.overrides:
        raise InputError("--set changes a recipe; give one with --config.")
    elif given.model is None:
        raise InputError("Give a model file, or a recipe with --config.")
    else:
        plain = {"steps": [{name: settings}], "data": data_settings(given.data)}
    if given.model is not None:
        _require_file(given.model)
        model = {"path": str(given.model), "trust": given.trust}
        plain.update(model=model, name=safe_name(f"{given.model.stem}-{name}"))
        plain.pop("train", None)
    if given.data is not None:
        batch_size = {key: plain["data"][key] for key in ("batch_size",) if key in plain["data"]}
        plain["data"] = {**batch_size, **data_settings(given.data)}
    return parse_recipe(plain, origin=f"tfopt {name}")


def distill_settings(
    student: Path | None,
    alpha: float | None,
    temperature: float | None,
    epochs: int | None,
    *,
    trust: bool,
) -> dict[str, Any]:
    """Return the settings of a ``distill`` step that its options stand for.

    Raises:
        InputError: If there is no such student.
    """
    settings: dict[str, Any] = {"alpha": alpha, "epochs": epochs}
    if student is not None:
        _require_file(student)
        settings["student"] = {"path": str(student), "trust": trust}
    if temperature is not None:
        settings["losses"] = [{"soft_targets": {"temperature": temperature}}]
    return settings


def data_settings(data: str | None) -> dict[str, Any]:
    """Return the data section that ``--data`` stands for.

    Raises:
        InputError: If nothing was given.
    """
    if data is None:
        raise InputError(
            "Give the data: --data mnist5k, digits, FILE.npz or package.module:function, or a "
            "recipe with --config."
        )
    if data.endswith(".npz"):
        return {"source": "npz", "path": data}
    return {"source": data}


def data_section(data: str | None, config: Path | None) -> Data | None:
    """Return the data section of the options, or None if there is none.

    Raises:
        InputError: If data or recipe have problems.
    """
    if data is not None:
        return parse_data(data_settings(data), origin=f"--data {data}")
    if config is not None:
        return recipe_from(config, None).data
    return None


def metric_named(data: str | None, config: Path | None) -> str:
    """Return the metric of the recipe that gives the data; ``auto`` if none does.

    Raises:
        InputError: If the recipe has problems.
    """
    return "auto" if data is not None or config is None else recipe_from(config, None).metric


def safe_name(text: str) -> str:
    """Return a name that a recipe may have, near to ``text``.

    Example:
        >>> safe_name("my model (2)")
        'my-model--2-'
    """
    kept = "".join(
        char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in text
    )
    return kept.lstrip("._-")[:100] or "model"


def typed(words: Sequence[str]) -> str:
    """Return a command line as it would be typed.

    Example:
        >>> typed(["run", "my recipe.yaml"])
        "tfopt run 'my recipe.yaml'"
    """
    return shlex.join(["tfopt", *words])


def resume_command(words: Sequence[str], folder: Path) -> str:
    """Return the command that goes on with the run in ``folder``.

    Example:
        >>> resume_command(["run", "my.yaml"], Path("out"))
        'tfopt run my.yaml --output out --resume'
    """
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in ("-o", "--output"):
            next(rest, None)
        elif word != "--resume" and not word.startswith(("--output=", "-o")):
            kept.append(word)
    return typed([*kept, "--output", str(folder), "--resume"])


def _require_file(model: Path) -> None:
    """Raise unless a model file exists, in better words than the recipe's check has."""
    if not os.path.exists(model):
        raise InputError(f"There is no model {str(model)!r}.")
