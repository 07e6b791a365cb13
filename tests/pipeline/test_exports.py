"""Exports that fail do not stop the others, and each error is shown once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tfopt.errors import ExportError
from tfopt.pipeline import exports


class Reporter:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


LATER = "This export failed, for a reason given at the end."
CASES = {
    "good good": ([], None),
    "good bad1": ([], "bad1"),
    "bad1 good": ([LATER], "bad1"),
    "bad1 bad2": ([LATER, "bad2"], "bad1"),
    "bad1 bad2 good bad3": ([LATER, "bad2", "bad3"], "bad1"),
}


@pytest.mark.parametrize("names", CASES)
def test_the_first_error_is_left_to_the_end(names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def export_one(run: Any, model: Any, export: str) -> str:
        if export.startswith("bad"):
            raise ExportError(export)
        return export

    monkeypatch.setattr(exports, "_export_one", export_one)
    recipe = SimpleNamespace(export=tuple(names.split()))
    run: Any = SimpleNamespace(recipe=recipe, reporter=Reporter(), number=0)
    made, error = exports.export_all(run, None)
    warnings, message = CASES[names]
    assert made == [name for name in names.split() if name == "good"]
    assert run.number == len(names.split())
    assert run.reporter.warnings == warnings
    assert (str(error) if error else None) == message
