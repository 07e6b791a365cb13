"""The report as a reader opens it: from a file, on a desk and on a phone, light and dark."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tfopt.reporting.html.page import render_report
from tfopt.results import RankChange, RunResult

RUNS = Path(__file__).resolve().parents[1] / "reporting" / "html" / "conftest.py"
SPREAD = {
    "replicas": 2,
    "rows_per_second": 1234.5,
    "exchange_fraction": 0.07,
    "exchange_fraction_by_rank": [0.06, 0.08],
    "scaling_efficiency": 0.93,
}


@pytest.fixture(scope="module")
def runs() -> ModuleType:
    """The realistic runs of the report's own tests."""
    spec = importlib.util.spec_from_file_location("realistic_runs", RUNS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def spread_over_replicas(run: RunResult) -> RunResult:
    """Return the run with every section that a report can have."""
    stages = [
        dataclasses.replace(stage, evidence={**stage.evidence, **SPREAD}) for stage in run.stages
    ]
    change = RankChange(cause="lost", stage="prune", reached=63, resumed=60, size=1, seconds=3.4)
    return dataclasses.replace(run, stages=stages, rank_changes=[change], timeline="timeline.json")


def page_of(runs: ModuleType, kind: str) -> str:
    if kind == "failed":
        error = "TrainingError: the loss is not finite.\n" + "at step 12 of stage prune. " * 20
        run = runs.lenet_run(status="failed", error=error, artifacts=[], stages=[], baseline=None)
        return render_report(run)
    three = {"status": "gate_missed", "artifacts": runs.three_artifacts()}
    run = runs.lenet_run(**(three if kind == "gate missed" else {}))
    weights = [
        runs.weight_histogram(name, count, runs.ZEROS[name]) for name, _, count in runs.LAYERS
    ]
    recipe = "name: lenet5-mnist\nseed: 7\n" + "# " + "a long line of a recipe " * 12
    return render_report(spread_over_replicas(run), histograms=weights, recipe_yaml=recipe)


@pytest.mark.parametrize(
    ("width", "dark"),
    [(1200, False), (1200, True), (1100, False), (390, False), (390, True)],
    ids=["wide", "wide, dark", "narrowest with tables", "phone", "phone, dark"],
)
@pytest.mark.parametrize("kind", ["gate met", "gate missed", "failed"])
def test_a_report_is_whole_and_readable(
    look: Callable[..., Any], runs: ModuleType, tmp_path: Path, kind: str, width: int, dark: bool
) -> None:
    path = tmp_path / "report.html"
    path.write_text(page_of(runs, kind), encoding="utf-8")
    found = look(path.as_uri(), width=width, dark=dark)
    assert dataclasses.asdict(found) == {field.name: () for field in dataclasses.fields(found)}


def test_the_colours_follow_the_reader(chromium: Any, runs: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page_of(runs, "gate met"), encoding="utf-8")
    backgrounds = []
    for scheme in ("light", "dark"):
        page = chromium.new_page(color_scheme=scheme)
        page.goto(path.as_uri())
        backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.close()
    assert backgrounds == ["rgb(255, 255, 255)", "rgb(15, 19, 24)"]


PLANTED = {
    "requests": '<p>A picture from elsewhere</p><img alt="" src="http://127.0.0.1:9/picture.png">',
    "errors": "<p>A broken script</p><script>throw new Error('planted')</script>",
    "cut": '<p style="width: 5rem; overflow: hidden; white-space: nowrap">Text that is cut off</p>',
    "sideways": '<p style="width: 130rem">Wider than the window</p>',
    "small": '<p style="font-size: 7px">Too small to be read</p>',
    "barriers": '<p style="color: #ccc; background: #fff">Too pale to be read</p>',
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(look: Callable[..., Any], tmp_path: Path, fault: str) -> None:
    path = tmp_path / "page.html"
    path.write_text(
        '<!DOCTYPE html><html lang="en"><head><title>A page</title></head>'
        f"<body><main><h1>A page</h1>{PLANTED[fault]}</main></body></html>"
    )
    found = {
        name: lines for name, lines in dataclasses.asdict(look(path.as_uri())).items() if lines
    }
    expected = {"requests", "errors"} if fault == "requests" else {fault}
    assert set(found) == expected, found


def test_a_drawing_that_cuts_its_label_is_found(look: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(
        '<!DOCTYPE html><html lang="en"><head><title>A page</title></head><body><main><h1>A page'
        '</h1><svg role="img" aria-label="A drawing" width="100" height="40">'
        '<text x="60" y="20">label that is cut</text></svg></main></body></html>'
    )
    assert look(path.as_uri()).cut == ("text: label that is cut",)
