"""Say in words of the recipe what pydantic found wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from tfopt.config.distill import Loss
from tfopt.config.schema import Export, Step
from tfopt.registry import did_you_mean

Place = Sequence[int | str]

_WANTED: Mapping[str, str] = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "path_type": "a path",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping of settings",
    "model_attributes_type": "a number, or a mapping with schedule",
    "dataclass_type": "a mapping of settings",
    "string_pattern_mismatch": "letters, digits, '.', '_' and '-', beginning with a letter or "
    "digit",
}


@dataclass(frozen=True, slots=True)
class _Problem:
    """One problem at one place.

    Attributes:
        place: Keys and positions in the recipe, without pydantic's own tags.
        wanted: What belongs there, if that is all there is to say.
        text: The problem in words, otherwise.
        received: What was given, in words, if it helps.
        is_alternative: Whether another form of the same setting failed too.
    """

    place: tuple[int | str, ...]
    wanted: str = ""
    text: str = ""
    received: str = ""
    is_alternative: bool = False


def describe(error: ValidationError, section: type[BaseModel], raw: Any) -> list[str]:
    """Return one line for each problem that pydantic found.

    Args:
        error: What validating ``raw`` raised.
        section: The section that it was validated as.
        raw: The plain data.
    """
    found = [_problem(details, section, raw) for details in error.errors()]
    lines = []
    for problem in found:
        if problem.is_alternative and any(_is_inside(other, problem) for other in found):
            continue  # the form that was meant is the one whose parts were looked at
        wanted = [other.wanted for other in found if other.place == problem.place]
        lines.append(_line(problem, " or ".join(dict.fromkeys(filter(None, wanted)))))
    return list(dict.fromkeys(lines))


def _is_inside(inner: _Problem, outer: _Problem) -> bool:
    depth = len(outer.place)
    return len(inner.place) > depth and inner.place[:depth] == outer.place


def _line(problem: _Problem, wanted: str) -> str:
    where = place_text(problem.place)
    if problem.text:
        return f"{where}{problem.text}"
    return f"{where}: must be {wanted}{problem.received}"


def place_text(place: Place) -> str:
    """Return ``steps[0].prune.epochs`` for its parts.

    Example:
        >>> place_text(("steps", 0, "prune"))
        'steps[0].prune'
    """
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.lstrip(".") or "the recipe"


def _problem(details: Any, section: type[BaseModel], raw: Any) -> _Problem:
    kind, loc = details["type"], tuple(details["loc"])
    if kind in ("extra_forbidden", "invalid_key"):
        return _unknown_key(loc, section, raw)
    if kind == "missing":
        return _Problem((*_place(loc[:-1], raw), loc[-1]), text=" is required")
    place = _place(loc, raw)
    is_alternative = _is_alternative(loc, raw)
    received = details.get("input")
    shown = "" if isinstance(received, dict | list | tuple) else f". Received: {_short(received)}."
    if kind in _WANTED:
        return _Problem(place, _WANTED[kind], received=shown, is_alternative=is_alternative)
    if kind == "literal_error":
        options = [option.strip(" '") for option in _options(details["ctx"]["expected"])]
        near = did_you_mean(str(received), options)
        wanted = options[0] if len(options) == 1 else f"one of {', '.join(options)}"
        return _Problem(place, wanted, received=shown + near, is_alternative=is_alternative)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _unknown_schedule(details, place)
    if kind in ("too_long", "too_short"):
        limit = details["ctx"].get("max_length", details["ctx"].get("min_length"))
        bound = "at most" if kind == "too_long" else "at least"
        return _Problem(place, text=f": must have {bound} {limit} entries")
    message = str(details["msg"]).removeprefix("Value error, ")
    message = message.replace("Input should be", "must be", 1)
    message = message[0].lower() + message[1:]
    text = f": {message}" + ("" if kind == "value_error" else shown)
    return _Problem(place, text=text)


def _unknown_key(loc: Place, section: type[BaseModel], raw: Any) -> _Problem:
    *parents, key = loc
    place = _place(parents, raw)
    owner = _section_at(parents, section)
    known = list(owner.model_fields)
    near = did_you_mean(str(key), known).strip()
    hint = f"; {near[0].lower()}{near[1:]}" if near else f"; known: {', '.join(known)}"
    kind = {Step: "a step", Export: "an export format", Loss: "a distillation loss"}.get(owner)
    if kind is not None:
        return _Problem(place, text=f": {str(key)!r} is not {kind}{hint}")
    return _Problem((*place, str(key)), text=f" is not a setting{hint}")


def _unknown_schedule(details: Any, place: tuple[int | str, ...]) -> _Problem:
    """Return the problem of a learning rate whose ``schedule`` is missing or unknown."""
    context = details["ctx"]
    if details["type"] == "union_tag_not_found":
        return _Problem((*place, context["discriminator"].strip("'")), text=" is required")
    options = [option.strip(" '") for option in _options(context["expected_tags"])]
    near = did_you_mean(str(context["tag"]), options)
    received = f". Received: {context['tag']!r}.{near}"
    field = context["discriminator"].strip("'")
    return _Problem((*place, field), f"one of {', '.join(options)}", received=received)


def _options(text: str) -> list[str]:
    return text.replace(" or ", ", ").split(",")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _place(loc: Place, raw: Any) -> tuple[int | str, ...]:
    """Return a location without the tags (``cosine``, ``float``) that pydantic puts in it."""
    kept, value = [], raw
    for part in loc:
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            continue
        kept.append(part)
    return tuple(kept)


def _is_alternative(loc: Place, raw: Any) -> bool:
    """Return whether the last part is a union tag: another form of the setting was tried."""
    return bool(loc) and len(_place(loc, raw)) == len(_place(loc[:-1], raw))


def _section_at(loc: Place, section: type[BaseModel]) -> type[BaseModel]:
    """Return the section at a location; a union tag chooses among several."""
    choices: list[type[BaseModel]] = [section]
    for part in loc:
        tagged = [choice for choice in choices if part in _tags(choice)]
        if tagged:
            choices = tagged
        elif isinstance(part, str) and part in choices[0].model_fields:
            choices = _sections_in(choices[0].model_fields[part].annotation) or choices
    return choices[0]


def _tags(section: type[BaseModel]) -> tuple[Any, ...]:
    """Return the values of ``schedule`` that choose a section."""
    chooser = section.model_fields.get("schedule")
    return get_args(chooser.annotation) if chooser is not None and chooser.is_required() else ()


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections_in(part)]
