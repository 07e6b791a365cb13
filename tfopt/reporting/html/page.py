"""One self-contained HTML page about a run: no network, no scripts, works from a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from tfopt.reporting.html.curves import Curve, stage_curves
from tfopt.reporting.html.histograms import HistogramCard, histogram_card
from tfopt.reporting.html.tables import file_rows, layer_table, remarks, spread_rows, stage_rows
from tfopt.reporting.html.tradeoff import tradeoff_panels
from tfopt.reporting.text import (
    finite,
    gate_text,
    is_share,
    metric_label,
    metric_text,
    milliseconds_text,
    ratio_of,
    times,
    value_text,
)
from tfopt.reporting.verdict import headline_artifact, verdict
from tfopt.results import Artifact, Latency, RunResult, WeightHistogram


@dataclass(frozen=True, slots=True)
class Tile:
    """A number that a hurried reader takes away: what it is, how much, against what."""

    label: str
    value: str
    context: str


@dataclass(frozen=True, slots=True)
class StageCurves:
    """The training curves of one stage."""

    stage: str
    epochs: int
    curves: Sequence[Curve]


def render_report(
    result: RunResult,
    *,
    histograms: Sequence[WeightHistogram] = (),
    recipe_yaml: str = "",
) -> str:
    """Return the report of a run as one HTML page.

    Args:
        result: Everything the run found; every part but the name may be missing.
        histograms: Weight histograms, one a layer, in model order.
        recipe_yaml: The resolved recipe.

    Returns:
        A whole HTML document with its styles and plots inside.
    """
    steps, layers = layer_table(result.stages)
    page = _template().render(
        result=result,
        styles=_styles(),
        verdict=verdict(result),
        tiles=_tiles(result),
        gate=_gate_sentence(result),
        metric_name=metric_label(result.metric),
        drop_name="Drop" if is_share(result.metric) else "Worse by",
        files=file_rows(result),
        panels=tradeoff_panels(result),
        stages=stage_rows(result),
        spread=spread_rows(result),
        steps=steps,
        layers=layers,
        remarks=remarks(result),
        curves=_curves(result),
        cards=_cards(histograms),
        machine=_flat(result.machine),
        recipe_yaml=recipe_yaml,
    )
    # A path that is not UTF-8 holds lone surrogates, which no file can take.
    return page.encode(errors="replace").decode()


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfopt.reporting", "html"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["typeset"] = _typeset
    environment.filters["values"] = _values
    environment.filters["breakable"] = _breakable
    return environment.get_template("page.html.j2")


def _styles() -> Markup:
    sheet = resources.files("tfopt.reporting.html").joinpath("page.css").read_text(encoding="utf-8")
    return Markup(sheet)  # the package's own style sheet


def _gate_sentence(result: RunResult) -> str:
    if result.max_drop is None:
        return "There was no gate."
    amount = gate_text(result.max_drop, result.metric).removeprefix("gate")
    if amount.startswith(":"):
        return f"The gate asks for{amount[1:]}."
    return f"The gate allows a loss of{amount}."


def _tiles(result: RunResult) -> list[Tile]:
    artifact = headline_artifact(result)
    last = result.stages[-1].metric if result.stages else None
    metric = finite(artifact.metric if artifact else last)
    tiles = []
    if artifact is not None:
        tiles.append(_size_tile(artifact, result))
    if metric is not None:
        tiles.append(_metric_tile(metric, result))
    if artifact is not None and artifact.latency_ms is not None:
        tiles.append(_latency_tile(result, artifact.latency_ms))
    if artifact is not None and artifact.int8_op_fraction is not None:
        share = value_text("int8_op_fraction", artifact.int8_op_fraction)
        tiles.append(Tile("operators on integers", share, f"{artifact.precision} file"))
    if result.baseline is not None and len(tiles) < 4:
        tiles.append(Tile("parameters", f"{result.baseline.parameters:,}", "of the float model"))
    return tiles


def _size_tile(artifact: Artifact, result: RunResult) -> Tile:
    before = result.baseline.litert_float_bytes if result.baseline else None
    ratio = ratio_of(before, artifact.gzip_bytes)
    context = f"{artifact.gzip_bytes:,} bytes after gzip"
    if before is not None:
        context = f"{before:,} -> {context}"
    if len(result.artifacts) > 1:
        context = f"{artifact.precision} file: {context}"
    if ratio is None:
        return Tile("size", f"{artifact.gzip_bytes:,} B", context)
    is_smaller = ratio >= 1
    return Tile(
        "smaller" if is_smaller else "larger", times(ratio if is_smaller else 1 / ratio), context
    )


def _metric_tile(metric: float, result: RunResult) -> Tile:
    before = result.baseline.metric if result.baseline else None
    context = f"float model {metric_text(before, result.metric)}"
    if result.metric is not None:
        context += f", on {result.metric.examples:,} examples"
    return Tile(metric_label(result.metric), metric_text(metric, result.metric), context)


def _latency_tile(result: RunResult, latency: Latency) -> Tile:
    before = result.baseline.latency_ms if result.baseline else None
    threads = f"{latency.threads} thread{'' if latency.threads == 1 else 's'}"
    context = f"median, {threads}"
    if before is not None:
        context = f"float model {milliseconds_text(before.p50)}, {context}"
    return Tile("per inference", milliseconds_text(latency.p50), context)


def _curves(result: RunResult) -> list[StageCurves]:
    found = []
    for index, stage in enumerate(result.stages):
        curves = stage_curves(stage, plot_id=f"curve-{index}")
        if curves:
            epochs = max(len(values) for values in stage.history.values())
            found.append(StageCurves(stage.name, epochs, curves))
    return found


def _cards(histograms: Sequence[WeightHistogram]) -> list[HistogramCard]:
    return [
        histogram_card(histogram, plot_id=f"weights-{index}")
        for index, histogram in enumerate(histograms)
    ]


def _flat(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return nested facts as lines of name and value."""
    lines: list[tuple[str, str]] = []
    for name, value in facts.items():
        label = str(name).replace("_", " ")
        if isinstance(value, Mapping):
            lines += [(f"{label}: {inner}", text) for inner, text in _flat(value)]
        elif isinstance(value, list | tuple):
            lines.append((label, ", ".join(str(entry) for entry in value)))
        else:
            lines.append((label, value_text(str(name), value)))
    return lines


def _values(values: Mapping[str, Any]) -> str:
    """Return a layer's measurements in one line."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value_text(name, value)}" for name, value in values.items()
    )


def _typeset(line: str) -> str:
    """Return a line of ASCII wording with the arrows, times and minus signs of print."""
    line = line.replace(" -> ", " \N{RIGHTWARDS ARROW} ")
    line = re.sub(r"(?<=\d)x(?= smaller| larger|$)", "\N{MULTIPLICATION SIGN}", line)
    return re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", line)


def _breakable(name: str) -> Markup:
    """Return a long name with places where the browser may break the line."""
    pieces = re.split(r"(?<=[/_.\-])", name)
    return Markup("<wbr>").join(pieces)
