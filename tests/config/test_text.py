from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tfopt.config.schema import Data, TextSettings

PIECES = {"tokenizer": "vocab.txt"}


def test_lengths_rise_to_the_longest_row() -> None:
    assert TextSettings(**PIECES).lengths == (16, 24, 32, 48, 64)
    assert TextSettings(**PIECES, max_tokens=10).lengths == (10,)
    assert TextSettings(**PIECES, max_tokens=128, buckets=(32, 128)).lengths == (32, 128)
    assert TextSettings(**PIECES, max_tokens=128, buckets=(32,)).lengths == (32, 128)
    assert TextSettings(**PIECES, padding="max").lengths == (64,)


MISTAKES: dict[str, tuple[type[Any], dict[str, Any], str]] = {
    "falling": (TextSettings, {**PIECES, "buckets": (32, 16)}, r"must rise .* received \[32, 16\]"),
    "too long": (TextSettings, {**PIECES, "buckets": (32, 65)}, r"at most max_tokens \(64\)"),
    "zero": (TextSettings, {**PIECES, "buckets": (0, 8)}, "must rise from at least 1"),
    "none": (TextSettings, {**PIECES, "padding": "max", "buckets": (8,)}, "has no buckets"),
    "three columns": (TextSettings, {**PIECES, "columns": ("a", "b", "c")}, "at most 2"),
    "tweets": (Data, {"source": "tweets"}, "'tweets' needs text"),
    "csv": (Data, {"source": "csv", "path": "a", "label": "b", "text": PIECES}, "text.columns"),
    "features": (
        Data,
        {"source": "csv", "path": "a", "label": "b", "features": ("c",),
         "text": {**PIECES, "columns": ("d",)}},
        "features are numbers",
    ),
    "columns": (
        Data, {"source": "tweets", "text": {**PIECES, "columns": ("d",)}}, "is for source 'csv'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str) -> None:
    section, settings, message = MISTAKES[name]
    with pytest.raises(ValidationError, match=message):
        section(**settings)
