"""Weight histograms: one small plot a layer, before above the axis and after below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tfopt.reporting.html.svg import Scale, drawing, element, line, text
from tfopt.reporting.text import MISSING, finite
from tfopt.results import WeightHistogram

_WIDTH, _HEIGHT = 260, 132
_MIDDLE, _BAR_HEIGHT = 58, 52
_BINS = 64


@dataclass(frozen=True, slots=True)
class HistogramCard:
    """One layer's plot and the numbers beneath it.

    Attributes:
        layer: Name of the layer.
        svg: The drawing; None if the counts cannot be drawn.
        zeros: Shares of zeros before and after, as text.
        zero_percent: Share of zeros after, in percent, for a bar; None if unknown.
        unique: Numbers of distinct values before and after, as text.
    """

    layer: str
    svg: Markup | None
    zeros: tuple[str, str]
    zero_percent: float | None
    unique: tuple[str, str]


def histogram_card(histogram: WeightHistogram, *, plot_id: str) -> HistogramCard:
    """Return the card of one layer.

    Args:
        histogram: Counts of one layer.
        plot_id: Unique in the page.

    Returns:
        The card; without a plot if the counts do not fit their edges.
    """
    after = finite(histogram.zero_fraction_after)
    return HistogramCard(
        layer=histogram.layer,
        svg=_plot(histogram, plot_id),
        zeros=(_percent(histogram.zero_fraction_before), _percent(histogram.zero_fraction_after)),
        zero_percent=None if after is None else round(100 * min(max(after, 0.0), 1.0), 1),
        unique=(_count(histogram.unique_before), _count(histogram.unique_after)),
    )


def _plot(histogram: WeightHistogram, plot_id: str) -> Markup | None:
    edges = [finite(edge) for edge in histogram.edges]
    known = [edge for edge in edges if edge is not None]
    bins = len(edges) - 1
    fits = len(histogram.before) == bins and len(histogram.after) == bins
    rising = all(first < second for first, second in zip(known, known[1:], strict=False))
    if bins < 1 or len(known) != len(edges) or not fits or not rising:
        return None
    known, counts = _rebinned(known, histogram.before, histogram.after)
    across = Scale(known[0], known[-1], 8, _WIDTH - 8)
    parts = [
        *_bars(known, counts[0], across, css_class="before", direction=-1),
        *_bars(known, counts[1], across, css_class="after", direction=1),
        line((8, _MIDDLE), (_WIDTH - 8, _MIDDLE), "axis"),
        *_labels(known, across),
    ]
    title = f"Weights of {histogram.layer}: float model above, final model below"
    return drawing(parts, size=(_WIDTH, _HEIGHT), plot_id=plot_id, title=title)


def _rebinned(
    edges: list[float], before: Sequence[int], after: Sequence[int]
) -> tuple[list[float], tuple[list[int], list[int]]]:
    """Merge neighbouring bins until there are few enough to draw."""
    factor = -(-(len(edges) - 1) // _BINS)
    merged = edges[:-1:factor] + edges[-1:]

    def summed(counts: Sequence[int]) -> list[int]:
        return [sum(counts[start : start + factor]) for start in range(0, len(counts), factor)]

    return merged, (summed(before), summed(after))


def _bars(
    edges: list[float],
    counts: list[int],
    across: Scale,
    *,
    css_class: str,
    direction: int,
) -> list[Markup]:
    """Return the bars as one path, and a cut mark where the bar at zero is too long.

    Bars are scaled to the longest one away from zero: after pruning nearly all weights
    are in the bin at zero, and the others would vanish beside it.
    """
    at_zero = [first <= 0 <= last for first, last in zip(edges, edges[1:], strict=False)]
    others = [count for count, is_zero in zip(counts, at_zero, strict=True) if not is_zero]
    longest = max(others, default=0) or max(counts)
    if max(counts) <= 2 * longest:
        longest = max(counts)
    if longest <= 0:
        return []
    data, cuts = "", []
    for index, count in enumerate(counts):
        height = _BAR_HEIGHT * min(count / longest, 1.0)
        if height <= 0:
            continue
        left, right = across(edges[index]), across(edges[index + 1])
        gap = 0.4 if right - left > 1.5 else 0.0
        data += f"M{left:.1f},{_MIDDLE}h{right - left - gap:.1f}v{direction * height:.1f}"
        data += f"H{left:.1f}z"
        if count > longest:
            cuts.append(_cut((left + right) / 2, _MIDDLE + direction * (_BAR_HEIGHT - 7)))
    return [element("path", {"class": f"bar {css_class}", "d": data}), *cuts]


def _cut(x: float, y: float) -> Markup:
    data = f"M{x - 5:.1f},{y + 2:.1f}l10,-4M{x - 5:.1f},{y + 5:.1f}l10,-4"
    return element("path", {"class": "cut", "d": data})


def _labels(edges: list[float], across: Scale) -> list[Markup]:
    bottom = _MIDDLE + _BAR_HEIGHT + 16
    low, high = edges[0], edges[-1]
    parts = [
        text(8, bottom, f"{low:.2g}", css_class="tick"),
        text(_WIDTH - 8, bottom, f"{high:.2g}", css_class="tick end"),
    ]
    # Beside an end label the zero would be printed over it.
    if low < 0 < high and 50 < across(0.0) < _WIDTH - 50:
        parts.append(text(across(0.0), bottom, "0", css_class="tick middle"))
    return parts


def _percent(value: float | None) -> str:
    number = finite(value)
    return MISSING if number is None else f"{100 * number:.1f}%"


def _count(value: int | None) -> str:
    return MISSING if value is None else f"{value:,}"
