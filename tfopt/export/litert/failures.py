"""Say in one or two lines why the converter failed, and what to do."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet

_LONGEST = 300


def explain(text: str, *, layers: AbstractSet[str]) -> str:
    """Return the cause of a failed conversion, from what the converter printed.

    Args:
        text: The exception's text, and what went to standard error.
        layers: Names of the model's layers, to name the one an op came from.

    Returns:
        One or two sentences.

    Example:
        >>> explain("error: 'tf.Erf' op is neither a custom op nor a flex op", layers=set())
        'It needs the TensorFlow op(s) Erf, which the built-in op set lacks. Set \
export.litert.select_tf_ops: true, or replace these layers.'
    """
    if missing := missing_operators(text):
        sources = _layers_of(text, missing, layers)
        where = f" (layer {', '.join(map(repr, sources))})" if sources else ""
        return (
            f"It needs the TensorFlow op(s) {', '.join(missing)}{where}, which the built-in op set "
            "lacks. Set export.litert.select_tf_ops: true, or replace these layers."
        )
    if "Select TensorFlow op(s)" in text:
        return (
            "It needs TensorFlow ops outside the built-in set, and integer ranges cannot be "
            "calibrated through those. Use precision float32, float16 or dynamic, or replace these "
            "layers."
        )
    failed = re.search(r"'tf[l]?\.(\w+)' op ([^\n]+)", text)
    if failed:
        sources = _layers_of(text, [failed[1]], layers)
        where = f" (layer {', '.join(map(repr, sources))})" if sources else ""
        return f"Its op {failed[1]}{where} {_short(failed[2])}."
    return f"The converter says: {_short(_telling_line(text))}."


def missing_operators(text: str) -> list[str]:
    """Return the TensorFlow ops that the built-in set lacks, sorted."""
    named = re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", text)
    for line in re.findall(r"(?:TF Select|Flex|Custom) ops: ([^\n]+)", text):
        named += [name.strip() for name in line.split(",")]
    return sorted(set(filter(None, named)))


def _layers_of(text: str, operators: list[str], layers: AbstractSet[str]) -> list[str]:
    """Return the layers that ops came from, read off locations such as ``m/layer/Erf@f``."""
    found = []
    for operator in operators:
        for path in re.findall(rf'"{re.escape(operator)}:", "([^"@]+)@', text):
            parts = path.split("/")
            # A layer may hold slashes itself, so the longest run of parts counts.
            names = {
                "/".join(parts[i:j])
                for i in range(len(parts))
                for j in range(i + 1, len(parts) + 1)
            }
            found += sorted(names & layers, key=len)[-1:]
    return list(dict.fromkeys(found))


def _telling_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if not lines:
        return "nothing"
    errors = [line for line in lines if re.search(r"\berror\b|Error: ", line)]
    line = (errors or lines)[0]
    # A location can fill a screen: loc(callsite(fused[...] at ...)): error: ...
    return re.sub(r"^.*loc\(.*?\)+: (?:error: )?", "", line)


def _short(text: str) -> str:
    text = text.strip().rstrip(".")
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
