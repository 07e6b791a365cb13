"""Training curves: one small plot for each logged quantity of each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tfopt.reporting.html.svg import (
    Scale,
    drawing,
    element,
    line,
    padded_scale,
    path,
    text,
    tick_text,
)
from tfopt.reporting.text import finite
from tfopt.results import StageResult

_WIDTH, _HEIGHT = 330, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 34
_VALIDATION = "val_"

Series = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Curve:
    """One plot and its caption.

    Attributes:
        title: The logged quantity, such as ``loss``.
        svg: The drawing; None if no value was finite.
        has_validation: Whether a dashed validation line is in it.
    """

    title: str
    svg: Markup | None
    has_validation: bool


def stage_curves(stage: StageResult, *, plot_id: str) -> list[Curve]:
    """Return a plot for each quantity in the stage's history; ``val_x`` joins ``x``.

    Args:
        stage: A finished stage.
        plot_id: Prefix of the plots' ids, unique in the page.

    Returns:
        The plots, in the order of the history.
    """
    curves = []
    for index, (name, pair) in enumerate(_paired(stage.history).items()):
        training, validation = ([finite(value) for value in values] for values in pair)
        title = name.replace("_", " ")
        label = f"{title} by epoch in stage {stage.name}"
        svg = _plot(training, validation, plot_id=f"{plot_id}-{index}", title=label)
        curves.append(Curve(title, svg, has_validation=bool(validation)))
    return curves


def _paired(history: Mapping[str, Series]) -> dict[str, tuple[Series, Series]]:
    names = dict.fromkeys(name.removeprefix(_VALIDATION) for name in history)
    pairs = {
        name: (history.get(name) or (), history.get(_VALIDATION + name) or ()) for name in names
    }
    return {name: pair for name, pair in pairs.items() if pair[0] or pair[1]}


def _plot(training: Series, validation: Series, *, plot_id: str, title: str) -> Markup | None:
    values = [value for value in (*training, *validation) if value is not None]
    if not values:
        return None
    epochs = max(len(training), len(validation))
    bottom = _HEIGHT - _BOTTOM
    across = Scale(1, epochs, _LEFT + 6, _WIDTH - _RIGHT) if epochs > 1 else _centre()
    up = padded_scale(values, start=bottom, end=_TOP)
    lines = [
        *_series(training, across, up, css_class="train"),
        *_series(validation, across, up, css_class="validation"),
    ]
    parts = [*_axes(across, up, epochs), *lines]
    return drawing(parts, size=(_WIDTH, _HEIGHT), plot_id=plot_id, title=title)


def _centre() -> Scale:
    return Scale(0.5, 1.5, _LEFT, _WIDTH - _RIGHT)


def _axes(across: Scale, up: Scale, epochs: int) -> list[Markup]:
    bottom = _HEIGHT - _BOTTOM
    parts = []
    ticks = up.ticks(4)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 0.0
    for tick in ticks:
        y = up(tick)
        parts.append(line((_LEFT, y), (_WIDTH - _RIGHT, y), "grid"))
        parts.append(text(_LEFT - 6, y + 3.5, tick_text(tick, step), css_class="tick end"))
    whole = sorted({round(tick) for tick in across.ticks(5) if 1 <= round(tick) <= epochs})
    for epoch in whole or [1]:
        parts.append(text(across(epoch), bottom + 15, str(epoch), css_class="tick middle"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(text(middle, _HEIGHT - 4, "epoch", css_class="tick middle"))
    return parts


def _series(values: Series, across: Scale, up: Scale, *, css_class: str) -> list[Markup]:
    """Return the line, broken where a value is missing, and a dot where it is alone."""
    parts: list[Markup] = []
    run: list[tuple[float, float]] = []
    for index, value in enumerate([*values, None]):
        if value is not None:
            run.append((across(index + 1), up(value)))
            continue
        if len(run) > 1:
            parts.append(path(run, f"line {css_class}"))
        elif run:
            (x, y) = run[0]
            parts.append(element("circle", {"class": f"dot {css_class}", "cx": x, "cy": y, "r": 3}))
        run = []
    return parts
