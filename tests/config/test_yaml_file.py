from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tfopt.config.yaml_file import apply_overrides, names_in, read_recipe_file
from tfopt.errors import RecipeError

UNREADABLE: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is empty; it must be a mapping of sections"),
    "only a comment": ("# nothing\n", "is empty"),
    "list": ("- a\n- b\n", "must be a mapping of sections .*Received: a list"),
    "text": ("hello", "must be a mapping.*Received: 'hello'"),
    "latin-1": (b"name: caf\xe9\n", "is not UTF-8 text: byte 9 is 0xe9"),
    "utf-16": ("name: a\n".encode("utf-16"), "is not UTF-8 text: byte 0 is 0xff"),
    "open brace": ("name: a\ndata: {source: x\nmodel: y\n", "line 3, column 6: expected ',' or"),
    "tab": ("data:\n\tsource: x\n", r"line 2, column 1: found character '\\t'"),
    "key twice": ("name: a\nseed: 1\nname: b\n", "line 3, column 1: the key 'name' is written"),
    "deep key twice": ("train:\n  epochs: 1\n  epochs: 2\n", "line 3, column 3: the key 'epochs'"),
    "list as key": ("? [1, 2]\n: 3\n", "line 1, column 3: a key must be a name"),
    "cycle": ("name: &a {b: *a}\n", "an anchor .* holds itself"),
    "unknown anchor": ("name: *zz\n", "line 1, column 7: found undefined alias 'zz'"),
    "python object": ("name: !!python/object:os.system {}\n", "could not determine a constructor"),
    "two documents": ("name: a\n---\nname: b\n", "line 2, column 1: .*another document"),
    "control character": (b"name: a\x00b\n", "special characters are not allowed"),
    "impossible number": ("seed: 0b2\nname: !!int abc\n", "not valid YAML"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_said_with_its_place(
    name: str, write: Callable[[str | bytes], Path]
) -> None:
    text, message = UNREADABLE[name]
    with pytest.raises(RecipeError, match=message):
        read_recipe_file(write(text))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "lenet5.yaml").write_text("a: 1")
    with pytest.raises(RecipeError, match=r"no recipe .*lenet.yaml'. Did you mean 'lenet5.yaml'\?"):
        read_recipe_file(tmp_path / "lenet.yaml")
    with pytest.raises(RecipeError, match="cannot be read: Is a directory"):
        read_recipe_file(tmp_path)
    with pytest.raises(RecipeError, match="cannot be read: File name too long"):
        read_recipe_file(tmp_path / ("x" * 5000))


def test_dates_stay_text(write: Callable[[str | bytes], Path]) -> None:
    found = read_recipe_file(write("name: 2024-13-45\nother: 2024-01-02\n"))
    assert found == {"name": "2024-13-45", "other": "2024-01-02"}


def recipe() -> dict[str, Any]:
    return {
        "data": {"source": "digits"},
        "train": None,
        "steps": [{"prune": {"epochs": 2}}, "quantize", {"cluster": None}],
    }


GOOD = {
    "train.epochs=5": ("train", {"epochs": 5}),
    "train.learning_rate={schedule: cosine, peak: 0.1}": (
        "train",
        {"learning_rate": {"schedule": "cosine", "peak": 0.1}},
    ),
    "gate.max_drop=-0.5": ("gate", {"max_drop": -0.5}),
    "name=": ("name", None),
    "data.path=a=b": ("data", {"source": "digits", "path": "a=b"}),
}


@pytest.mark.parametrize("text", GOOD)
def test_overrides_of_mappings(text: str) -> None:
    raw = recipe()
    assert apply_overrides(raw, [text]) == []
    key, value = GOOD[text]
    assert raw[key] == value


def test_overrides_of_lists_by_number_and_by_key() -> None:
    raw = recipe()
    assigned = ["steps.prune.epochs=7", "steps.quantize.epochs=1", "steps.cluster.clusters=4"]
    assert apply_overrides(raw, assigned) == []
    assert raw["steps"] == [
        {"prune": {"epochs": 7}},
        {"quantize": {"epochs": 1}},
        {"cluster": {"clusters": 4}},
    ]
    assert apply_overrides(raw, ["steps.0.prune.epochs=9", "steps.quantize={epochs: 0}"]) == []
    assert raw["steps"][0] == {"prune": {"epochs": 9}}
    assert raw["steps"][1] == {"quantize": {"epochs": 0}}


BAD = {
    "train.epochs": "not of the form a.b=value",
    "=3": "not of the form a.b=value",
    "a..b=3": "not of the form a.b=value",
    "train.epochs=[": "the value is not valid YAML: line 1, column 2",
    "data.source.x=1": "'data.source' is 'digits' in the recipe, which has no settings",
    "steps.prun.epochs=1": "there is no 'steps.prun' in the recipe",
    "steps.9.epochs=1": "there is no 'steps.9' in the recipe",
    "steps.9=quantize": "the list has no entry '9'",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_overrides_are_problems_that_quote_them(text: str) -> None:
    (problem,) = apply_overrides(recipe(), [text])
    assert problem.startswith(f"--set {text!r}")
    assert BAD[text] in problem


def test_names_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert names_in(tmp_path / "nosuch") == []
    assert names_in(tmp_path / ("x" * 5000)) == []
