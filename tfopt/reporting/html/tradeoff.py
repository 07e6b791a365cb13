"""The two panels that show what was paid for what: metric by size, metric by latency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup

from tfopt.reporting.html.svg import (
    Scale,
    compact_text,
    drawing,
    element,
    line,
    padded_scale,
    text,
    tick_text,
)
from tfopt.reporting.text import finite, interval_of, is_share, metric_label
from tfopt.reporting.verdict import gate_line
from tfopt.results import Artifact, Baseline, MetricInfo, RunResult

_WIDTH, _HEIGHT = 400, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 16, 46
_LABEL_HEIGHT = 14.0
# Of the widest font that the page's list of fonts may end at, so that no label is cut.
_CHARACTER_WIDTH = 8.5


@dataclass(frozen=True, slots=True)
class Point:
    """One file in a panel.

    Attributes:
        label: Short name printed beside the mark.
        x: Bytes or milliseconds, positive.
        y: Metric.
        interval: Ends of the 95% interval of the metric, if known.
        is_baseline: Whether this is the float file.
    """

    label: str
    x: float
    y: float
    interval: tuple[float, float] | None = None
    is_baseline: bool = False


@dataclass(frozen=True, slots=True)
class _Box:
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def covers(self, other: _Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel and what it could not show.

    Attributes:
        title: What the panel shows.
        svg: The drawing; None if there is nothing to draw.
        missing: Labels of the files that lack one of the two numbers.
    """

    title: str
    svg: Markup | None
    missing: tuple[str, ...]


def tradeoff_panels(result: RunResult) -> list[Panel]:
    """Return the size panel and the latency panel; empty if the run has no files."""
    if not result.artifacts:
        return []
    label = metric_label(result.metric)
    sizes = _panel(
        result,
        x_of=lambda entry: (
            entry.litert_float_gzip_bytes if isinstance(entry, Baseline) else entry.gzip_bytes
        ),
        title=f"{label} by size",
        axis="bytes after gzip (log scale)",
    )
    latencies = _panel(
        result,
        x_of=lambda entry: entry.latency_ms.p50 if entry.latency_ms else None,
        title=f"{label} by latency",
        axis="median latency, ms (log scale)",
    )
    return [sizes, latencies]


def _panel(
    result: RunResult,
    *,
    x_of: Callable[[Artifact | Baseline], float | None],
    title: str,
    axis: str,
) -> Panel:
    points, missing = [], []
    for label, entry in _entries(result):
        x, y = finite(x_of(entry)), finite(entry.metric)
        if x is None or y is None or x <= 0:
            missing.append(label)
            continue
        is_baseline = isinstance(entry, Baseline)
        interval = None if isinstance(entry, Baseline) else _metric_interval(entry, result)
        points.append(Point(label, x, y, interval, is_baseline=is_baseline))
    plot_id = f"plot-{'-'.join(title.split())}"
    svg = _draw(points, result, axis=axis, title=title, plot_id=plot_id) if points else None
    return Panel(title[0].upper() + title[1:], svg, tuple(missing))


def _entries(result: RunResult) -> list[tuple[str, Artifact | Baseline]]:
    """Return label and entry of the float file and of each artefact, labels unique."""
    entries: list[tuple[str, Artifact | Baseline]] = []
    if result.baseline is not None:
        entries.append(("float32 (before)", result.baseline))
    precisions = [entry.precision for entry in result.artifacts]
    for entry in result.artifacts:
        is_only = precisions.count(entry.precision) == 1
        entries.append((entry.precision if is_only else entry.path, entry))
    return entries


def _metric_interval(artifact: Artifact, result: RunResult) -> tuple[float, float] | None:
    """Return the interval of the metric that the interval of the drop stands for."""
    ends = interval_of(artifact.drop_ci95)
    baseline = finite(result.baseline.metric) if result.baseline else None
    if ends is None or baseline is None or result.metric is None:
        return None
    sign = 1 if result.metric.higher_is_better else -1
    first, second = baseline - sign * ends[0], baseline - sign * ends[1]
    return min(first, second), max(first, second)


def _draw(
    points: Sequence[Point], result: RunResult, *, axis: str, title: str, plot_id: str
) -> Markup:
    gate = gate_line(result)
    values = [point.y for point in points] + ([] if gate is None else [gate])
    for point in points:
        values += point.interval or ()
    across = padded_scale(
        [point.x for point in points], start=_LEFT + 10, end=_WIDTH - _RIGHT - 10, is_log=True
    )
    up = padded_scale(values, start=_HEIGHT - _BOTTOM, end=_TOP)
    parts = [*_axes(across, up, metric=result.metric, axis=axis)]
    if gate is not None:
        y = up(gate)
        parts.append(line((_LEFT, y), (_WIDTH - _RIGHT, y), "gate"))
        parts.append(text(_LEFT + 4, y + 12, "gate", css_class="gate-label"))
    marks = [mark for point in points for mark in _mark(point, across, up)]
    parts += [*marks, *_point_labels(points, across, up)]
    return drawing(parts, size=(_WIDTH, _HEIGHT), plot_id=plot_id, title=_spoken(title, points))


def _spoken(title: str, points: Sequence[Point]) -> str:
    each = "; ".join(f"{point.label}: {point.y:.4g} at {compact_text(point.x)}" for point in points)
    return f"{title}. {each}"


def _axes(across: Scale, up: Scale, *, metric: MetricInfo | None, axis: str) -> list[Markup]:
    bottom = _HEIGHT - _BOTTOM
    parts = []
    ticks = up.ticks(5)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 0.0
    for tick in ticks:
        label = tick_text(tick, step)
        if is_share(metric):
            label = f"{tick_text(100 * tick, 100 * step)}%"
        parts.append(line((_LEFT, up(tick)), (_WIDTH - _RIGHT, up(tick)), "grid"))
        parts.append(text(_LEFT - 6, up(tick) + 3.5, label, css_class="tick end"))
    for tick in across.ticks(5):
        parts.append(line((across(tick), bottom), (across(tick), bottom + 4), "axis"))
        label = compact_text(tick)
        parts.append(text(across(tick), bottom + 17, label, css_class="tick middle"))
    parts.append(line((_LEFT, bottom), (_WIDTH - _RIGHT, bottom), "axis"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(text(middle, _HEIGHT - 8, axis, css_class="tick middle"))
    return parts


def _mark(point: Point, across: Scale, up: Scale) -> list[Markup]:
    x, y = across(point.x), up(point.y)
    parts = []
    if point.interval is not None:
        low, high = (up(end) for end in point.interval)
        parts += [line((x, low), (x, high), "whisker")]
        parts += [line((x - 4, end), (x + 4, end), "whisker") for end in (low, high)]
    if point.is_baseline:
        square = {"x": x - 6, "y": y - 6, "width": 12, "height": 12}
        return [*parts, element("rect", {"class": "mark baseline", **square})]
    return [*parts, element("circle", {"class": "mark artifact", "cx": x, "cy": y, "r": 6})]


def _point_labels(points: Sequence[Point], across: Scale, up: Scale) -> list[Markup]:
    """Return one label a point, each where it covers least of what is already there."""
    taken = [box for point in points for box in _mark_boxes(point, across, up)]
    parts = []
    for point in sorted(points, key=lambda point: up(point.y)):
        label = _shortened(point.label)
        x, y = across(point.x), up(point.y)
        places = [place for place in _label_places(x, y, label) if _is_inside(place)]
        box = min(places or _label_places(x, y, label), key=partial(_cost, y=y, taken=taken))
        taken.append(box)
        is_right = box.left > x
        anchor_x = box.left if is_right else box.right
        if abs(box.bottom - y) > 2 * _LABEL_HEIGHT:
            parts.append(line((x, y), (anchor_x, box.bottom - 4), "leader"))
        css_class = "label" if is_right else "label end"
        parts.append(text(anchor_x, box.bottom - 3, label, css_class=css_class))
    return parts


def _mark_boxes(point: Point, across: Scale, up: Scale) -> list[_Box]:
    x, y = across(point.x), up(point.y)
    boxes = [_Box(x - 7, y - 7, x + 7, y + 7)]
    if point.interval is not None:
        low, high = up(point.interval[0]), up(point.interval[1])
        boxes.append(_Box(x - 4, high, x + 4, low))
    return boxes


def _label_places(x: float, y: float, label: str) -> list[_Box]:
    """Return boxes right and left of a point, near ones first."""
    width = _CHARACTER_WIDTH * len(label)
    bottoms = [y + sign * step * _LABEL_HEIGHT - 3 for step in range(12) for sign in (-1, 1)]
    return [
        _Box(left, bottom - _LABEL_HEIGHT, left + width, bottom)
        for bottom in bottoms
        for left in (x + 11, x - 11 - width)
    ]


def _is_inside(box: _Box) -> bool:
    is_across = _LEFT < box.left and box.right < _WIDTH - 4
    return is_across and _TOP - 10 < box.top and box.bottom < _HEIGHT - _BOTTOM


def _cost(box: _Box, *, y: float, taken: Sequence[_Box]) -> float:
    return 100 * sum(box.covers(other) for other in taken) + abs(box.bottom - y)


def _shortened(label: str) -> str:
    """Return the end of a long label: paths differ at the end; the table has all of it."""
    return label if len(label) <= 40 else f"...{label[-37:]}"
