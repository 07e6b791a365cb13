"""Find what is wrong with a recipe as a whole, which no single section can see.

These checks look at plain data, so that they run, and report, also where a section is
broken.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from tfopt.config.components import (
    BUILDERS,
    DOTTED_SETTINGS,
    SOURCE_SETTINGS,
    SOURCES,
    SOURCES_WITH_VALIDATION,
)
from tfopt.config.schema import STEP_ORDER, Data, Precision
from tfopt.config.yaml_file import names_in
from tfopt.registry import did_you_mean

_INTEGER_PRECISIONS = ("int8", "int8_io")
_OTHER_PRECISIONS = set(get_args(Precision)) - set(_INTEGER_PRECISIONS)
_CHOSEN_BY_SOURCE = frozenset().union(*SOURCE_SETTINGS.values(), DOTTED_SETTINGS)


def cross_problems(raw: Any) -> list[str]:
    """Return the problems that no single section can see, one line each.

    Args:
        raw: The recipe as plain data, not validated.
    """
    if not isinstance(raw, dict):
        return []
    return [
        *_name_problems(raw),
        *_file_problems(raw),
        *_source_problems(raw),
        *_order_problems(raw),
        *_export_problems(raw),
        *_validation_problems(raw),
        *_hidden_token_problems(raw),
    ]


def _section(raw: Mapping[Any, Any], name: str) -> Mapping[Any, Any]:
    part = raw.get(name)
    return part if isinstance(part, dict) else {}


def _entries(raw: Mapping[Any, Any], name: str) -> list[Any]:
    part = raw.get(name)
    return part if isinstance(part, list) else []


def _models(raw: Mapping[Any, Any]) -> list[tuple[str, Mapping[Any, Any]]]:
    """Return every section that names a model, with its place."""
    found = [("model", _section(raw, "model"))]
    for position, entry in enumerate(_entries(raw, "steps")):
        step = _section(entry, "distill") if isinstance(entry, dict) else {}
        place = f"steps[{position}].distill"
        found.append((f"{place}.student", _section(step, "student")))
        teachers = step.get("teacher")
        for number, teacher in enumerate(teachers if isinstance(teachers, list) else [teachers]):
            where = f"{place}.teacher" + (f"[{number}]" if isinstance(teachers, list) else "")
            found.append((where, teacher if isinstance(teacher, dict) else {}))
    return found


def _name_problems(raw: Mapping[Any, Any]) -> list[str]:
    problems = []
    named = [("data", _section(raw, "data"), "source", SOURCES)]
    named += [(place, section, "builder", BUILDERS) for place, section in _models(raw)]
    for place, section, key, table in named:
        name = section.get(key)
        if not isinstance(name, str) or not name:
            continue
        own = "Your own is written as package.module:function."
        if ":" in name:
            module, _, function = name.partition(":")
            words = [*module.split("."), function]
            if not all(word.isidentifier() for word in words):
                problems.append(f"{place}.{key} {name!r} is not a dotted path. {own}")
        elif name not in table:
            near = did_you_mean(name, table).strip() or f"Known: {', '.join(sorted(table))}."
            problems.append(f"{place}.{key} {name!r} is not known. {near} {own}")
    return problems


def _file_problems(raw: Mapping[Any, Any]) -> list[str]:
    problems = []
    for place, section in [("data", _section(raw, "data")), *_models(raw)]:
        path = section.get("path")
        # A data path may be a glob pattern; its reader says when it matches nothing.
        is_pattern = place == "data" and isinstance(path, str) and set("*?[") & set(path)
        if isinstance(path, str) and not is_pattern and not os.path.exists(path):
            near = did_you_mean(Path(path).name, names_in(Path(path).parent))
            problems.append(f"{place}.path {path!r:.200} does not exist.{near}")
    return problems


def _source_problems(raw: Mapping[Any, Any]) -> list[str]:
    """Return settings that the data source would silently ignore."""
    data = _section(raw, "data")
    source = data.get("source")
    if not isinstance(source, str) or not (":" in source or source in SOURCES):
        return []
    own = SOURCE_SETTINGS.get(source, _CHOSEN_BY_SOURCE)  # that of a package may read all
    takes = DOTTED_SETTINGS if ":" in source else own
    problems = []
    for name in sorted(_CHOSEN_BY_SOURCE - takes):
        default = Data.model_fields[name].get_default(call_default_factory=True)
        if data.get(name) not in (None, default):
            known = ", ".join(sorted(takes)) or "none of that kind"
            problems.append(
                f"data.{name} is not used by source {source!r} (it takes {known}); remove it"
            )
    return problems


def _export_problems(raw: Mapping[Any, Any]) -> list[str]:
    exports = _entries(raw, "export")
    if raw.get("gate") is not None and not exports and raw.get("export") in (None, []):
        return [
            "gate: there is no export whose drop it could judge; add one, such as export: "
            "[{litert: {precision: int8}}]"
        ]
    has_ranges = "quantize" in map(_step_name, _entries(raw, "steps"))
    seen: set[str] = set()
    problems = []
    for position, entry in enumerate(exports):
        settings = entry.get("litert") if isinstance(entry, dict) else None
        precision = settings.get("precision", "int8") if isinstance(settings, dict) else "int8"
        if not isinstance(precision, str):
            continue
        where = f"export[{position}].litert"
        if precision in seen:
            problems.append(f"{where}: precision {precision!r} is listed twice")
        if has_ranges and precision in _OTHER_PRECISIONS:
            problems.append(
                f"{where}: precision {precision!r} does not fit the quantize step, which trains "
                f"for 8-bit integers; use {' or '.join(_INTEGER_PRECISIONS)}, or remove the step"
            )
        seen.add(precision)
    return problems


def _order_problems(raw: Mapping[Any, Any]) -> list[str]:
    problems: list[str] = []
    names = [_step_name(entry) for entry in _entries(raw, "steps")]
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


def _validation_problems(raw: Mapping[Any, Any]) -> list[str]:
    data = raw.get("data")
    if not isinstance(data, dict) or data.get("validation_fraction"):
        return []
    source = str(data.get("source"))
    if source not in SOURCE_SETTINGS or source in SOURCES_WITH_VALIDATION:
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


def _fits(raw: Mapping[Any, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = [("train", raw["train"])] if isinstance(raw.get("train"), dict) else []
    for position, entry in enumerate(_entries(raw, "steps")):
        name = _step_name(entry)
        if isinstance(entry, dict) and isinstance(entry.get(name), dict):
            found.append((f"steps[{position}].{name}", entry[name]))
    return found


def _hidden_token_problems(raw: Mapping[Any, Any]) -> list[str]:
    """Return a masked language model whose mask token nothing tells."""
    keep = _section(_section(_section(raw, "train"), "transfer"), "keep_pretrained")
    is_told = keep.get("mask_token") is not None or _section(raw, "data").get("text") is not None
    if keep.get("masked_language_model") is None or is_told:
        return []
    return [
        "train.transfer.keep_pretrained: masked_language_model needs mask_token, for example 103 "
        "for BERT's uncased vocabulary, where no data.text has a tokenizer that tells it"
    ]
