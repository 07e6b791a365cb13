from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tfopt.config.schema import Model, PruneStep, Recipe, Step

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = Recipe.model_json_schema()
BASE = {"name": "a", "data": {"source": "digits"}, "model": {"builder": "lenet5"}}


def fits(schema: Any, value: Any) -> bool:
    """A small validator of the parts of JSON schema that the recipe's schema is made of."""
    known = {
        "$defs", "$ref", "additionalProperties", "anyOf", "const", "default", "description",
        "discriminator", "enum", "exclusiveMaximum", "exclusiveMinimum", "format", "items",
        "maximum", "maxItems", "maxLength", "maxProperties", "minimum", "minItems", "minLength",
        "minProperties", "oneOf", "pattern", "prefixItems", "properties", "required", "title",
        "type",
    }  # fmt: skip
    assert set(schema) <= known, set(schema) - known
    if "$ref" in schema:
        return fits(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], value)
    types = {
        "object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
        "number": (int, float), "null": type(None),
    }  # fmt: skip
    checks = [
        "type" not in schema
        or (
            isinstance(value, types[schema["type"]])
            and (schema["type"] == "boolean" or not isinstance(value, bool))
        ),
        "enum" not in schema or value in schema["enum"],
        "const" not in schema or value == schema["const"],
        "anyOf" not in schema or any(fits(part, value) for part in schema["anyOf"]),
        "oneOf" not in schema or sum(fits(part, value) for part in schema["oneOf"]) == 1,
    ]
    if isinstance(value, str):
        checks.append(re.search(schema.get("pattern", ""), value) is not None)
        checks.append(len(value) >= schema.get("minLength", 0))
    if isinstance(value, int | float) and not isinstance(value, bool):
        checks += [
            value >= schema.get("minimum", value),
            value <= schema.get("maximum", value),
            value > schema.get("exclusiveMinimum", value - 1),
            value < schema.get("exclusiveMaximum", value + 1),
        ]
    if isinstance(value, list):
        checks.append(schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 99))
        parts = schema.get("prefixItems", [schema.get("items", {})] * len(value))
        checks += [fits(part, entry) for part, entry in zip(parts, value, strict=False)]
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        more = schema.get("additionalProperties", True)
        checks.append(set(schema.get("required", ())) <= set(value))
        checks.append(
            schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", 99)
        )
        for key, entry in value.items():
            part = properties.get(key, more)
            checks.append(part if isinstance(part, bool) else fits(part, entry))
    return all(checks)


def test_the_json_schema_takes_every_recipe_in_configs() -> None:
    paths = sorted((ROOT / "configs").rglob("*.yaml"))
    assert len(paths) >= 2
    for path in paths:
        assert fits(SCHEMA, yaml.safe_load(path.read_text())), path


GOOD = {
    "shorthands": {"train": {"learning_rate": 0.001, "optimizer": "adam"}},
    "long forms": {
        "train": {
            "learning_rate": {"schedule": "step", "peak": 0.1, "at_epochs": [3]},
            "optimizer": {"name": "sgd", "momentum": 0.9},
        }
    },
    "bare steps": {"steps": ["prune", {"cluster": None}, {"quantize": {"epochs": 0}}]},
    "bare export": {"export": ["litert", {"litert": {"precision": "float16"}}]},
    "nothing optional": {"train": None, "gate": None},
    "preprocess": {"model": {"builder": "a:b", "preprocess": {"mean": [0.5], "crop": [8, 8]}}},
}
BAD = {
    "unknown key": {"trian": {}},
    "unknown step": {"steps": ["prun"]},
    "two steps in one": {"steps": [{"prune": {}, "cluster": {}}]},
    "empty step": {"steps": [{}]},
    "deep unknown key": {"steps": [{"prune": {"sparsty": 1}}]},
    "out of range": {"steps": [{"prune": {"sparsity": 1.0}}]},
    "unknown optimizer": {"train": {"optimizer": "adamm"}},
    "text as a rate": {"train": {"learning_rate": "fast"}},
}


@pytest.mark.parametrize("name", GOOD)
def test_the_json_schema_takes_what_the_recipe_takes(name: str) -> None:
    raw = {**BASE, **GOOD[name]}
    Recipe.model_validate(raw)
    assert fits(SCHEMA, raw)


@pytest.mark.parametrize("name", BAD)
def test_the_json_schema_refuses_what_the_recipe_refuses(name: str) -> None:
    raw = {**BASE, **BAD[name]}
    with pytest.raises(ValidationError):
        Recipe.model_validate(raw)
    assert not fits(SCHEMA, raw)


def test_a_built_model_is_trained_by_default_and_a_loaded_one_is_not() -> None:
    built = Recipe.model_validate(BASE)
    loaded = Recipe.model_validate({**BASE, "model": {"path": "m.keras"}})
    assert built.training is not None
    assert loaded.training is None


@pytest.mark.parametrize(
    ("section", "raw", "message"),
    [
        (Model, {}, "set exactly one of builder and path"),
        (Model, {"builder": "a", "path": "b"}, "set exactly one of builder and path"),
        (PruneStep, {"begin": 0.6}, r"begin \(0.6\) must be before end \(0.6\)"),
        (
            PruneStep,
            {"pattern": "2:4", "sparsity": 0.5, "end": 1},
            "fixes the sparsity at 0.5 and applies it at once; remove end, sparsity",
        ),
        (
            Step,
            {"prune": {}, "quantize": {}},
            "write exactly one of distill, prune, cluster, quantize",
        ),
    ],
)
def test_settings_that_contradict_each_other(section: Any, raw: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        section.model_validate(raw)


def test_what_2_4_fixes_is_not_written() -> None:
    plain = PruneStep(pattern="2:4", epochs=1).model_dump(mode="json")
    assert not {"sparsity", "schedule", "begin", "end"} & set(plain)
    assert PruneStep.model_validate(plain) == PruneStep(pattern="2:4", epochs=1)
    assert PruneStep(epochs=1).model_dump()["sparsity"] == 0.8
