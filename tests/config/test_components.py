from __future__ import annotations

import pytest

from tfopt.config.components import (
    BUILDERS,
    DOTTED_SETTINGS,
    PASSES,
    SOURCE_SETTINGS,
    SOURCES,
    SOURCES_WITH_VALIDATION,
)
from tfopt.config.schema import STEP_ORDER, Data
from tfopt.registry import resolve


@pytest.mark.parametrize("table", [SOURCES, BUILDERS, PASSES])
def test_every_entry_can_be_imported(table: dict[str, str]) -> None:
    assert len(table) > 0
    for name in table:
        assert callable(resolve(table, "component", name))


def test_the_tables_agree_with_the_schema() -> None:
    assert {"distill", *PASSES} == set(STEP_ORDER)  # a lesson is no pass: another model comes out
    assert set(SOURCE_SETTINGS) == set(SOURCES)
    assert set(SOURCES) >= SOURCES_WITH_VALIDATION
    assert frozenset().union(*SOURCE_SETTINGS.values(), DOTTED_SETTINGS) <= set(Data.model_fields)
