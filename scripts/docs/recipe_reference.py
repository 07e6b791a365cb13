"""The page of recipe settings, made from the schema: fields, types, defaults, meanings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import griffe
import yaml
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

Schema = Mapping[str, Any]

INTRODUCTION = """# Recipe settings

Every section and setting of a recipe, made from the schema that checks it.
`tfopt schema` prints the same as JSON schema, for editors. How a recipe is written
and run is told in [Recipes](recipes.md).
"""

LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minItems": "at least {} entries",
    "maxItems": "at most {} entries",
}


def recipe_page(recipe: type[BaseModel]) -> str:
    """Return the page, in Markdown.

    Args:
        recipe: The section that holds all others.

    Returns:
        A heading and a table for each section, the recipe first, in the order in which
        the sections are met.

    Raises:
        ValueError: If a setting has no entry under ``Attributes`` in its section or a base.
    """
    return "\n".join([INTRODUCTION, *(_section(*each) for each in sections(recipe).items())])


def sections(recipe: type[BaseModel]) -> dict[type[BaseModel], str]:
    """Return the recipe and every section below it with its place, parents first.

    Args:
        recipe: The section that holds all others.

    Returns:
        Section to the keys that lead to it (``train.transfer``), each section once.
    """
    found: dict[type[BaseModel], str] = {}
    waiting = [(recipe, "")]
    while waiting:
        section, place = waiting.pop(0)
        if section in found:
            continue
        found[section] = place
        for name, field in section.model_fields.items():
            waiting += [(part, f"{place}.{name}".lstrip(".")) for part in _parts(field)]
    return found


def _parts(field: FieldInfo) -> Iterator[type[BaseModel]]:
    """Return the sections that a field's type names, at any depth."""
    waiting = [field.annotation]
    while waiting:
        annotation = waiting.pop(0)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        waiting += get_args(annotation)


def _section(section: type[BaseModel], place: str) -> str:
    title = f"{section.__name__}: `{place}`" if place else section.__name__
    lines = [f"## {title} {{ #{_anchor(section.__name__)} }}", "", _summary(section), ""]
    if section.model_fields:
        lines += ["| setting | type | default | meaning |", "|---|---|---|---|"]
    schema = section.model_json_schema()
    properties = schema.get("properties") or schema["anyOf"][1]["properties"]
    meanings = _meanings(section)
    for name, field in section.model_fields.items():
        if name not in meanings:
            raise ValueError(
                f"{section.__module__}.{section.__name__}.{name} has no meaning in the docs. "
                f"Write it under Attributes in the docstring of the class."
            )
        cells = [f"`{name}`", _type_text(properties[name]), _default(field), meanings[name]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _summary(section: type[BaseModel]) -> str:
    described = _parsed(section)[0]
    return _markdown(str(described.value))


def _meanings(section: type[BaseModel]) -> dict[str, str]:
    """Return what each field means, from the docstrings of the section and its bases."""
    found: dict[str, str] = {}
    for base in reversed([each for each in section.__mro__ if issubclass(each, BaseModel)]):
        for part in _parsed(base):
            if part.kind is griffe.DocstringSectionKind.attributes:
                found |= {entry.name: _markdown(entry.description) for entry in part.value}
    for name, field in section.model_fields.items():
        if len(get_args(field.annotation)) == 1 and field.is_required():
            found.setdefault(name, "Chooses this form.")
        for part in _parts(field):
            found.setdefault(name, _markdown(str(_parsed(part)[0].value).splitlines()[0]))
    return found


def _parsed(section: type[BaseModel]) -> list[griffe.DocstringSection]:
    text = griffe.Docstring(section.__doc__ or "", parser="google")
    return text.parse(warnings=False)


def _markdown(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text.strip()).replace("``", "`")


def _anchor(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def _type_text(schema: Schema) -> str:
    """Return a JSON schema's type in words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{_anchor(name)})"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_type_text(each) for each in schema[key]))
    limits = [text.format(schema[key]) for key, text in LIMITS.items() if key in schema]
    return ", ".join([_plain_type(schema), *([] if "prefixItems" in schema else limits)])


def _plain_type(schema: Schema) -> str:
    kind = schema.get("type", "any")
    if kind == "array" and "prefixItems" in schema:
        return "[" + ", ".join(_type_text(entry) for entry in schema["prefixItems"]) + "]"
    if kind == "array":
        return f"list of {_type_text(schema['items'])}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"name to {_type_text(schema['additionalProperties'])}"
    words = {"null": "none", "object": "mapping", "boolean": "true or false", "string": "text"}
    return str(schema.get("format") if schema.get("format") == "path" else words.get(kind, kind))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    plain = TypeAdapter(Any).dump_python(value, mode="json")
    written = _without_defaults(value, plain)
    if written is None:
        return "none"
    if written in ([], {}):
        return "its own defaults" if isinstance(value, BaseModel) else "empty"
    return f"`{_yaml(written)}`"


def _without_defaults(value: Any, plain: Any) -> Any:
    """Return a section's default as the settings that a recipe would have to write."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, tuple):
        return [_without_defaults(*pair) for pair in zip(value, plain, strict=True)]
    return plain


def _yaml(value: Any) -> str:
    """Return a value on one line, as a recipe has it."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
