from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tfopt.config.load import parse_recipe
from tfopt.errors import RecipeError

Problems = Callable[..., list[str]]
MODEL = "name: a\nmodel: {builder: lenet5}\n"

ONE = {
    "order": (
        "steps: [quantize, prune]",
        "steps[1].prune comes after 'quantize', and would undo what that step made; the legal "
        "order is distill, prune, cluster, quantize",
    ),
    "twice": ("steps: [cluster, {cluster: {}}]", "steps[1].cluster is listed twice"),
    "same precision": (
        "export: [litert, {litert: {precision: int8}}]",
        "export[1].litert: precision 'int8' is listed twice",
    ),
    "float of trained integers": (
        "steps: [quantize]\nexport: [{litert: {precision: float16}}]",
        "export[0].litert: precision 'float16' does not fit the quantize step",
    ),
    "gate of nothing": ("gate: {max_drop: 0.1}", "gate: there is no export whose drop it could"),
    "best of no rows": ("train: {keep: best}", "train.keep: best needs rows to judge epochs by"),
    "stopping on no rows": (
        "steps: [{prune: {early_stopping: {patience: 1}}}]",
        "steps[0].prune.early_stopping needs rows",
    ),
    "plateau on no rows": (
        "train: {learning_rate: {schedule: plateau, peak: 0.1, monitor: val_loss}}",
        "train.learning_rate needs rows",
    ),
}


@pytest.mark.parametrize("name", ONE)
def test_what_does_not_fit_together(name: str, problems: Problems) -> None:
    added, message = ONE[name]
    (problem,) = problems(added)
    assert problem.startswith(message)


SOURCES = {
    "path of digits": (
        "{source: digits, path: recipe.yaml}",
        "data.path is not used by source 'digits' (it takes none of that kind); remove it",
    ),
    "size of npz": (
        "{source: npz, path: '*.npz', image_size: [8, 8]}",
        "data.image_size is not used by source 'npz' (it takes path, text)",
    ),
    "arguments of csv": (
        "{source: csv, path: '*.csv', label: y, arguments: {a: 1}}",
        "data.arguments is not used by source 'csv' (it takes features, label, path, text)",
    ),
    "path of a function": (
        "{source: 'mine:load', label: y}",
        "data.label is not used by source 'mine:load' (it takes arguments, text)",
    ),
    "no dotted path": ("{source: 'a b:load'}", "data.source 'a b:load' is not a dotted path."),
    "nothing after the colon": ("{source: 'mine:'}", "data.source 'mine:' is not a dotted path."),
    "unknown": ("{source: zzz}", "data.source 'zzz' is not known. Known: csv, digits, images,"),
    "no path": ("{source: npz}", "data: source 'npz' needs path"),
    "no name": ("{source: tfds}", "data: source 'tfds' needs name"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_settings_that_a_source_would_ignore(
    name: str, problems: Problems, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    data, message = SOURCES[name]
    (problem,) = problems(base=f"{MODEL}data: {data}\n")
    assert problem.startswith(message)


def test_missing_files_are_named_with_the_nearest(
    problems: Problems, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.keras").touch()
    base = "name: a\ndata: {source: npz, path: rows.npz}\nmodel: {path: modl.keras}\n"
    assert problems(base=base) == [
        "data.path 'rows.npz' does not exist.",
        "model.path 'modl.keras' does not exist. Did you mean 'model.keras'?",
    ]
    (problem,) = problems(
        base=f"name: a\ndata: {{source: digits}}\nmodel: {{path: {'x' * 5000}}}\n"
    )
    assert problem.startswith("model.path 'xxx")
    assert len(problem) < 300


@pytest.mark.parametrize("source", ["mine:load", "images", "npz"])
def test_sources_that_may_bring_validation_rows_are_not_refused(
    source: str, tmp_path: Path
) -> None:
    data = {"source": source}
    if source != "mine:load":
        data |= {"path": str(tmp_path), "image_size": [8, 8]}
    if source == "npz":
        del data["image_size"]
    raw = {"name": "a", "data": data, "model": {"builder": "lenet5"}, "train": {"keep": "best"}}
    assert parse_recipe(raw, origin="here").training.keep == "best"


def test_broken_sections_do_not_stop_the_other_checks() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe({"data": [], "model": 3, "steps": {}, "export": 1, "train": 2}, origin="here")
    assert "here: 6 problems" in str(caught.value)
    with pytest.raises(RecipeError, match="the recipe: must be a mapping of settings"):
        parse_recipe([1], origin="here")
