from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import ValidationError

from tfopt.config.base import Section


class Inner(Section):
    flag: bool = False


class Outer(Section):
    count: int = 0
    rate: float | None = None
    flag: bool = False
    either: Literal["auto"] | bool = "auto"
    sizes: tuple[int, ...] = ()
    layers: dict[str, float] = {}  # pydantic copies it
    anything: dict[str, Any] = {}  # pydantic copies it
    inner: Inner = Inner()


@pytest.mark.parametrize(
    "raw", [{"count": True}, {"rate": False}, {"sizes": [1, True]}, {"layers": {"a": False}}]
)
def test_a_boolean_is_no_number(raw: Any) -> None:
    with pytest.raises(ValidationError, match="true and false .* do not fit here"):
        Outer.model_validate(raw)


@pytest.mark.parametrize(
    "raw", [{"flag": True}, {"either": False}, {"anything": {"a": True}}, {"inner": {"flag": True}}]
)
def test_booleans_where_they_belong(raw: Any) -> None:
    assert Outer.model_validate(raw).model_dump(exclude_unset=True) == raw


def test_sections_are_frozen_and_closed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Outer().count = 3  # type: ignore[misc]  # that is the point
    with pytest.raises(ValidationError, match="Extra inputs"):
        Outer.model_validate({"coumt": 3})
