"""Read a recipe's YAML as plain data, and change it by ``a.b=value`` assignments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tfopt.errors import RecipeError
from tfopt.registry import did_you_mean

_WHOLE = "must be a mapping of sections (name, data, model, ...)"


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice, which YAML would silently overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  # signature of yaml.SafeLoader
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float):
                raise _failure("a key must be a name", key_node)
            if key in seen:
                raise _failure(f"the key {key!r} is written twice", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _as_text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


# A recipe has no use for dates, so they stay the text they are.
_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:timestamp", _as_text)


def read_recipe_file(path: Path) -> dict[Any, Any]:
    """Return what a recipe file holds, not validated.

    Raises:
        RecipeError: If it cannot be read, is not YAML, or is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = did_you_mean(path.name, names_in(path.parent))
        raise RecipeError(f"There is no recipe {str(path)!r}.{near}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"The recipe {str(path)!r} is not UTF-8 text: byte {error.start} is "
            f"0x{error.object[error.start]:02x}. Save it as UTF-8."
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(f"The recipe {str(path)!r} cannot be read: {reason}.") from error
    try:
        raw = _parse(text)
    except yaml.YAMLError as error:
        raise RecipeError(
            f"The recipe {str(path)!r} is not valid YAML: {_one_line(error)}."
        ) from error
    if raw is None:
        raise RecipeError(f"The recipe {str(path)!r} is empty; it {_WHOLE}.")
    if not isinstance(raw, dict):
        kind = "a list" if isinstance(raw, list) else f"{raw!r:.60}"
        raise RecipeError(f"The recipe {str(path)!r} {_WHOLE}. Received: {kind}.")
    return raw


def apply_overrides(raw: dict[Any, Any], overrides: Sequence[str]) -> list[str]:
    """Apply ``a.b=value`` assignments in place; return the problems found."""
    return [problem for text in overrides if (problem := _override(raw, text))]


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder; none if it cannot be listed."""
    try:
        return [entry.name for entry in folder.iterdir()]
    except (OSError, ValueError):
        return []


def _parse(text: str) -> Any:
    """Return plain data.

    Raises:
        yaml.YAMLError: Also for values that only fail when they are converted, and for a
            structure that holds itself.
    """
    try:
        return _without_cycles(yaml.load(text, Loader=_UniqueKeyLoader), ())  # a SafeLoader
    except (ValueError, TypeError, RecursionError) as error:
        raise yaml.YAMLError(str(error)) from error


def _without_cycles(value: Any, parents: tuple[int, ...]) -> Any:
    if id(value) in parents:
        raise yaml.YAMLError("an anchor (&) holds itself")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for entry in inner:
        _without_cycles(entry, (*parents, id(value)))
    return value


def _failure(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _one_line(error: yaml.YAMLError) -> str:
    """Return ``line 3, column 6: what is wrong``."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    context = getattr(error, "context", None)
    text = f"{problem} ({context})" if context else str(problem)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return place + " ".join(text.split())


def _override(raw: dict[Any, Any], text: str) -> str | None:
    """Apply one ``a.b=c`` in place; return a problem, or None."""
    dotted, equals, value_text = text.partition("=")
    *parents, last = (part.strip() for part in dotted.split("."))
    if not equals or not all([*parents, last]):
        return f"--set {text!r} is not of the form a.b=value"
    try:
        value = _parse(value_text)
    except yaml.YAMLError as error:
        return f"--set {text!r}: the value is not valid YAML: {_one_line(error)}"
    place: Any = raw
    for index, key in enumerate(parents):
        place = _child(place, key)
        if place is None:
            where = ".".join(parents[: index + 1])
            return f"--set {text!r}: there is no {where!r} in the recipe"
    if isinstance(place, list):
        position = _position(place, last)
        if position is None:
            return f"--set {text!r}: the list has no entry {last!r}"
        place[position] = value if last.isdigit() else {last: value}
    elif isinstance(place, dict):
        place[last] = value
    else:
        where = ".".join(parents)
        return f"--set {text!r}: {where!r} is {place!r} in the recipe, which has no settings"
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
