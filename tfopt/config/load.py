"""Read a recipe and report every problem at once, before anything heavy is imported."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from tfopt.config.schema import STEP_ORDER, Data, Recipe
from tfopt.config.tables import BUILDERS, SOURCES
from tfopt.errors import RecipeError
from tfopt.registry import did_you_mean


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice, which YAML would silently overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  # signature of yaml.SafeLoader
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is written twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


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
    raw = _read(path)
    problems = [problem for text in overrides if (problem := _override(raw, text))]
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
        found += [_describe(details, raw) for details in error.errors()]
    found += _across_sections(raw)
    if found or recipe is None:
        unique = list(dict.fromkeys(found))
        lines = "\n".join(f"  - {problem}" for problem in unique)
        raise RecipeError(f"{origin}: {len(unique)} problem(s)\n{lines}")
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
        lines = "\n".join(f"  - {_describe(details, raw)}" for details in error.errors())
        raise RecipeError(f"{origin}: {error.error_count()} problem(s)\n{lines}") from error


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


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, _names_in(path.parent), n=1)
        hint = f" Did you mean {str(path.with_name(near[0]))!r}?" if near else ""
        raise RecipeError(f"There is no recipe {str(path)!r}.{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"The recipe {str(path)!r} cannot be read: {error}") from error
    try:
        raw = yaml.load(text, Loader=_UniqueKeyLoader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise RecipeError(f"The recipe {str(path)!r} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise RecipeError(
            f"The recipe {str(path)!r} must be a mapping of sections (name, data, model, ...). "
            f"Received: {type(raw).__name__}."
        )
    return raw


def _override(raw: Any, text: str) -> str | None:
    """Apply one ``a.b=c`` in place; return a problem, or None."""
    dotted, equals, value_text = text.partition("=")
    if not equals or not dotted:
        return f"--set {text!r} is not of the form a.b=value"
    try:
        value = yaml.load(value_text, Loader=_UniqueKeyLoader)  # a SafeLoader
    except yaml.YAMLError:
        return f"--set {text!r}: the value is not valid YAML"
    *parents, last = dotted.split(".")
    place = raw
    for index, key in enumerate(parents):
        place = _child(place, key)
        if place is None:
            where = ".".join(parents[: index + 1])
            return f"--set {text!r}: there is no {where!r} in the recipe"
    if isinstance(place, list):
        position = _position(place, last)
        if position is None:
            return f"--set {text!r}: the list has no entry {last!r}"
        place[position] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        return f"--set {text!r}: {'.'.join(parents)!r} is not a section"
    return None


def _child(place: Any, key: str) -> Any:
    if isinstance(place, dict):
        if place.get(key) is None:
            place[key] = {}
        return place[key]
    if isinstance(place, list):
        position = _position(place, key)
        if position is None:
            return None
        entry = place[position]
        if key.isdigit():
            return entry
        if not isinstance(entry, dict):
            place[position] = {key: {}}
        elif entry[key] is None:
            entry[key] = {}
        return place[position][key]
    return None


def _position(entries: list[Any], key: str) -> int | None:
    """Return the place of a list entry addressed by number, or by its only key."""
    if key.isdigit():
        return int(key) if int(key) < len(entries) else None
    for position, entry in enumerate(entries):
        if entry == key or (isinstance(entry, dict) and key in entry):
            return position
    return None


def _across_sections(raw: Any) -> list[str]:
    """Return problems that no single section can see."""
    if not isinstance(raw, dict):
        return []
    return [
        *_name_problems(raw),
        *_file_problems(raw),
        *_order_problems(raw),
        *_export_problems(raw),
        *_validation_problems(raw),
    ]


def _name_problems(raw: Mapping[str, Any]) -> list[str]:
    problems = []
    for section, key, table in (("data", "source", SOURCES), ("model", "builder", BUILDERS)):
        part = raw.get(section)
        name = part.get(key) if isinstance(part, dict) else None
        if isinstance(name, str) and name and ":" not in name and name not in table:
            near = did_you_mean(name, table).strip() or f"Known: {', '.join(sorted(table))}."
            problems.append(
                f"{section}.{key} {name!r} is not known. {near} Your own is written as "
                "package.module:function."
            )
    return problems


def _file_problems(raw: Mapping[str, Any]) -> list[str]:
    problems = []
    for section in ("data", "model"):
        part = raw.get(section)
        path = part.get("path") if isinstance(part, dict) else None
        # A data path may be a glob pattern; its reader says when it matches nothing.
        if isinstance(path, str) and not set("*?[") & set(path) and not Path(path).exists():
            near = did_you_mean(Path(path).name, _names_in(Path(path).parent))
            problems.append(f"{section}.path {path!r} does not exist.{near}")
    return problems


def _names_in(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []


def _export_problems(raw: Mapping[str, Any]) -> list[str]:
    exports = raw.get("export") or []
    seen: set[Any] = set()
    problems = []
    for position, entry in enumerate(exports if isinstance(exports, list) else []):
        settings = entry.get("litert") if isinstance(entry, dict) else None
        precision = settings.get("precision", "int8") if isinstance(settings, dict) else "int8"
        if isinstance(precision, str) and precision in seen:
            problems.append(f"export[{position}].litert: precision {precision!r} is listed twice")
        seen.add(str(precision))
    return problems


def _order_problems(raw: Mapping[str, Any]) -> list[str]:
    steps = raw.get("steps") or []
    if not isinstance(steps, list):
        return []
    problems: list[str] = []
    names = [_step_name(entry) for entry in steps]
    for position, name in enumerate(names):
        if name not in STEP_ORDER:
            continue
        later = [
            earlier
            for earlier in names[:position]
            if earlier in STEP_ORDER and STEP_ORDER.index(earlier) > STEP_ORDER.index(name)
        ]
        if later:
            problems.append(
                f"steps[{position}].{name} comes after {later[0]!r}, and would undo what that step "
                f"made; the legal order is {', '.join(STEP_ORDER)}"
            )
        if name in names[:position]:
            problems.append(f"steps[{position}].{name} is listed twice")
    return problems


def _step_name(entry: Any) -> str | None:
    if isinstance(entry, str):
        return entry
    if isinstance(entry, dict) and len(entry) == 1:
        return str(next(iter(entry)))
    return None


def _validation_problems(raw: Mapping[str, Any]) -> list[str]:
    data = raw.get("data")
    if not isinstance(data, dict) or data.get("validation_fraction"):
        return []
    problems = []
    for where, fit in _fits(raw):
        stopping = fit.get("early_stopping")
        rate = fit.get("learning_rate")
        wants = [
            ("keep: best", fit.get("keep") == "best"),
            (
                "early_stopping",
                isinstance(stopping, dict)
                and stopping.get("monitor", "val_loss") in ("val_loss", "val_metric"),
            ),
            ("learning_rate", isinstance(rate, dict) and rate.get("monitor") == "val_loss"),
        ]
        problems += [
            f"{where}.{setting} needs rows to judge epochs by that are not the reported test rows; "
            "set data.validation_fraction, for example 0.1"
            for setting, wanted in wants
            if wanted
        ]
    return problems


def _fits(raw: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = [("train", raw["train"])] if isinstance(raw.get("train"), dict) else []
    steps = raw.get("steps")
    for position, entry in enumerate(steps if isinstance(steps, list) else []):
        name = _step_name(entry)
        if isinstance(entry, dict) and isinstance(entry.get(name), dict):
            found.append((f"steps[{position}].{name}", entry[name]))
    return found


def _describe(details: Any, raw: Any) -> str:
    where = _location(details["loc"], raw)
    kind = details["type"]
    if kind == "extra_forbidden":
        known = _known_keys(details["loc"][:-1], raw)
        near = did_you_mean(str(details["loc"][-1]), known).strip()
        hint = f"; {near[0].lower()}{near[1:]}" if near else f"; known: {', '.join(known)}"
        return f"{where} is not a setting{hint}"
    if kind == "missing":
        return f"{where} is required"
    message = str(details["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    received = details.get("input")
    if kind == "value_error" or isinstance(received, dict | list):
        return f"{where}: {message}"
    near = ""
    if kind == "literal_error":
        options = [
            part.strip(" '") for part in details["ctx"]["expected"].replace(" or ", ", ").split(",")
        ]
        near = did_you_mean(str(received), options)
    return f"{where}: {message}. Received: {received!r}.{near}"


def _location(loc: Sequence[int | str], raw: Any) -> str:
    text = ""
    for part in _without_tags(loc, raw):
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".") or "the recipe"


def _without_tags(loc: Sequence[int | str], raw: Any) -> list[int | str]:
    """Drop the union tags (such as ``cosine``) that pydantic puts in a location."""
    kept: list[int | str] = []
    place = raw
    for position, part in enumerate(loc):
        is_last = position == len(loc) - 1
        if isinstance(place, dict) and part not in place:
            if not is_last or place.get("schedule") == part:
                continue
            place = None
        elif isinstance(place, dict) or (isinstance(place, list) and isinstance(part, int)):
            place = place[part]  # type: ignore[index]  # part fits the container here
        else:
            place = None
        kept.append(part)
    return kept


def _known_keys(loc: Sequence[int | str], raw: Any) -> list[str]:
    """Return the settings of the section at ``loc``."""
    section: type[BaseModel] = Recipe
    for part in loc:
        if isinstance(part, int):
            continue
        models = _sections_of(section, part)
        if models:
            section = models[0]
    return list(section.model_fields)


def _sections_of(section: type[BaseModel], key: str) -> list[type[BaseModel]]:
    """Return the section under ``key``: of a field, or of a union member tagged ``key``."""
    if key in section.model_fields:
        found = _models_in(section.model_fields[key].annotation)
        return found or [section]
    return []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
