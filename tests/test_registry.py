from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tfopt.errors import InputError
from tfopt.registry import did_you_mean, import_dotted, resolve

Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a module into the current directory, which is not on the search path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".")])
    before = set(sys.modules)

    def module(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        return name

    yield module
    for name in set(sys.modules) - before:
        if name.startswith("registry_test_"):
            del sys.modules[name]


def test_names_that_are_near() -> None:
    known = ["warmup_fraction", "floor", "peak"]
    assert did_you_mean("peek", known) == " Did you mean 'peak'?"
    assert did_you_mean("warmup", known) == " Did you mean 'warmup_fraction'?"
    assert did_you_mean("zzz", known) == ""
    assert did_you_mean("", known) == ""
    assert did_you_mean("wa", known) == ""


def test_a_table_entry_is_imported_when_it_is_asked_for() -> None:
    assert resolve({"path": "pathlib:Path"}, "thing", "path") is Path
    with pytest.raises(
        InputError, match=r"No thing is named 'pth'. Did you mean 'path'\? Known: o, path."
    ):
        resolve({"path": "pathlib:Path", "o": "x:y"}, "thing", "pth")


@pytest.mark.parametrize("path", ["nocolon", ":f", "m:", ""])
def test_what_is_no_dotted_path(path: str) -> None:
    with pytest.raises(InputError, match="is not a dotted path. Write it as 'package.module:func"):
        import_dotted(path, "model builder")


FAILING = {
    "raises": ("raise KeyError('boom')", "its module fails: KeyError: 'boom'"),
    "does not parse": ("def f(:\n", "its module fails: SyntaxError: .*line 1"),
    "exits": ("import sys; sys.exit(3)", "its module fails: SystemExit: 3"),
    "needs more": ("import nosuchpackage", "No module named 'nosuchpackage'. The module must be"),
}


@pytest.mark.parametrize("name", FAILING)
def test_modules_that_cannot_be_imported_are_the_users_to_mend(name: str, write: Write) -> None:
    text, message = FAILING[name]
    module = write(f"registry_test_{name.replace(' ', '_')}", text)
    with pytest.raises(InputError, match=f"The data source '{module}:f' cannot be .*{message}"):
        import_dotted(f"{module}:f", "data source")


def test_a_missing_function_is_named_with_the_nearest(write: Write) -> None:
    module = write("registry_test_near", "def build(): ...")
    with pytest.raises(InputError, match=r"has no 'biuld'. Did you mean 'build'\?"):
        import_dotted(f"{module}:biuld", "model builder")


def test_scripts_beside_the_recipe_may_import_each_other_at_any_time(
    write: Write, tmp_path: Path
) -> None:
    write("registry_test_sibling", "VALUE = 3")
    module = write(
        "registry_test_late",
        "def value():\n    import registry_test_sibling\n    return registry_test_sibling.VALUE\n",
    )
    before = list(sys.path)
    function = import_dotted(f"{module}:value", "data source")
    assert sys.path == [*before, str(tmp_path)]
    assert function() == 3
    import_dotted(f"{module}:value", "data source")
    assert sys.path == [*before, str(tmp_path)]
