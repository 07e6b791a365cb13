"""Read a recipe and report every problem at once, before anything heavy is imported."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from tfopt.config.cross_checks import cross_problems
from tfopt.config.error_messages import describe
from tfopt.config.schema import Data, Recipe
from tfopt.config.yaml_file import apply_overrides, read_recipe_file
from tfopt.errors import RecipeError


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and validate a recipe file.

    Args:
        path: A YAML file.
        overrides: ``a.b=c`` assignments; the value is read as YAML. Entries of a list
            are addressed by number or by their key: ``steps.prune.epochs=3``.

    Returns:
        The validated recipe.

    Raises:
        RecipeError: If the file cannot be read, is not YAML, or has problems; the
            message lists all of them.
    """
    raw = read_recipe_file(path)
    problems = apply_overrides(raw, overrides)
    return parse_recipe(raw, origin=str(path), problems=problems)


def parse_recipe(raw: Any, *, origin: str, problems: Sequence[str] = ()) -> Recipe:
    """Validate a recipe given as plain data.

    Args:
        raw: What YAML gave: mappings, lists, scalars.
        origin: Named in the message: the file.
        problems: Problems found earlier, listed with the new ones.

    Returns:
        The validated recipe.

    Raises:
        RecipeError: If there is any problem.
    """
    found = list(problems)
    recipe = None
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        found += describe(error, Recipe, raw)
    found += cross_problems(raw)
    if found or recipe is None:
        raise _error(origin, found)
    return recipe


def parse_data(raw: Any, *, origin: str) -> Data:
    """Validate a data section on its own.

    Raises:
        RecipeError: If there is any problem; the message lists all.
    """
    whole = {"name": "data", "data": raw, "model": {"builder": "lenet5"}}
    return parse_recipe(whole, origin=origin).data


def parse_section(section: type[BaseModel], raw: Mapping[str, Any], *, origin: str) -> Any:
    """Validate the settings of one section, given as plain data.

    Raises:
        RecipeError: If there is any problem; the message lists all.
    """
    try:
        return section.model_validate(raw)
    except ValidationError as error:
        raise _error(origin, describe(error, section, raw)) from error


def recipe_to_plain(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as plain data that ``parse_recipe`` takes back."""
    return recipe.model_dump(mode="json", exclude_none=True, exclude_unset=True)


def recipe_to_yaml(recipe: Recipe) -> str:
    """Return the resolved recipe as YAML, with every default written out."""
    plain = recipe.model_dump(mode="json", exclude_none=True)
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def recipe_sha256(recipe: Recipe) -> str:
    """Return the SHA-256 of the resolved recipe, as 64 hexadecimal digits."""
    return settings_sha256(recipe.model_dump(mode="json"))


def settings_sha256(settings: Any) -> str:
    """Return the SHA-256 of plain data, whatever the order of its keys."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _error(origin: str, problems: Sequence[str]) -> RecipeError:
    unique = list(dict.fromkeys(problems))
    count = f"{len(unique)} problem{'' if len(unique) == 1 else 's'}"
    return RecipeError("\n".join([f"{origin}: {count}", *(f"  - {line}" for line in unique)]))
