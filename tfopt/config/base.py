"""What every group of settings of a recipe has in common."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Strict(BaseModel):
    """A frozen group of settings that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def refuse_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse ``epochs: yes``, which pydantic would read as 1.

        Raises:
            ValueError: If a boolean is given where none fits.
        """
        annotation = cls.model_fields[str(info.field_name)].annotation
        if _holds_boolean(value) and not _takes_boolean(annotation):
            raise ValueError("true and false (also written yes, no, on, off) do not fit here")
        return value


class Section(Strict):
    """A group of settings in which a boolean is never taken for a number."""

    _booleans = field_validator("*", mode="before")(Strict.refuse_boolean.__func__)  # type: ignore[attr-defined]  # a class method has it


def one_key_or_bare_name(schema: dict[str, Any]) -> None:
    """Tell editors that an entry has one key, or is just its name."""
    names = list(schema["properties"])
    entry = {key: schema.pop(key) for key in ("type", "properties", "additionalProperties")}
    schema["anyOf"] = [{"enum": names}, {**entry, "minProperties": 1, "maxProperties": 1}]


def defaults_for_bare_keys(raw: Any) -> Any:
    """Return ``{name: {}}`` for a bare name, and ``{}`` for an empty entry."""
    if isinstance(raw, str):
        return {raw: {}}
    if isinstance(raw, dict):
        return {key: {} if value is None else value for key, value in raw.items()}
    return raw


def _holds_boolean(value: Any) -> bool:
    if isinstance(value, dict):
        return any(isinstance(entry, bool) for entry in value.values())
    if isinstance(value, list | tuple):
        return any(isinstance(entry, bool) for entry in value)
    return isinstance(value, bool)


def _takes_boolean(annotation: Any) -> bool:
    """Return whether a boolean fits a type, or is refused in better words by a section."""
    if annotation in (bool, Any) or (
        isinstance(annotation, type) and issubclass(annotation, BaseModel)
    ):
        return True
    return any(_takes_boolean(part) for part in get_args(annotation))
