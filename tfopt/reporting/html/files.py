"""Make the report again from the files of a run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tfopt.errors import InputError
from tfopt.reporting.html.page import render_report
from tfopt.results import run_result_from_json, weight_histograms_from_json

Parsed = TypeVar("Parsed")

# What reading well-formed JSON of another shape raises.
_MISSHAPEN = (ValueError, TypeError, KeyError, AttributeError)


def report_from_run_dir(path: Path) -> str:
    """Return the report of a run folder as HTML.

    Args:
        path: Folder with ``results.json``, and perhaps ``weights.json`` and
            ``recipe.yaml``.

    Returns:
        The page, as ``render_report`` gives it.

    Raises:
        InputError: If the folder or its ``results.json`` is missing, or a file in it
            cannot be read.
    """
    results = path / "results.json"
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise InputError(
            f"The run folder {str(path)!r} {what}. Give the folder that `tfopt run` wrote, "
            "which holds results.json."
        )
    if not results.is_file():
        raise InputError(
            f"The folder {str(path)!r} has no results.json, so it is not a finished run. Give the "
            "folder that `tfopt run` wrote, or finish the run with `tfopt run RECIPE --resume`."
        )
    result = _parsed(results, run_result_from_json)
    weights = path / "weights.json"
    histograms = _parsed(weights, weight_histograms_from_json) if weights.is_file() else []
    recipe = path / "recipe.yaml"
    recipe_yaml = _text(recipe) if recipe.is_file() else ""
    try:
        return render_report(result, histograms=histograms, recipe_yaml=recipe_yaml)
    except _MISSHAPEN as error:
        raise InputError(
            f"{str(results)!r} or {str(weights)!r} holds a value of the wrong kind: {error}. "
            "Run the recipe again to write them anew."
        ) from error


def _parsed(path: Path, parse: Callable[[str], Parsed]) -> Parsed:
    try:
        return parse(_text(path))
    except _MISSHAPEN as error:
        raise InputError(
            f"{str(path)!r} is damaged, or of another version of tfopt: {error!s}. Run the recipe "
            "again to write it anew."
        ) from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}.") from error
