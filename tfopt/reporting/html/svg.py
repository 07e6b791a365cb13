"""Small inline SVG drawings: elements, scales, axes.

Written by hand and not by a plotting library, so that the page's own colours (light,
dark, print) apply inside the plots, text stays text, and sixty plots stay small.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape


def element(name: str, attributes: Mapping[str, object], content: str = "") -> Markup:
    """Return one SVG element; numbers are cut to two decimals, text is escaped.

    Args:
        name: Tag name.
        attributes: Attribute name to value; None leaves the attribute out.
        content: Text, or markup made by this function.

    Returns:
        The element, safe to put into a page.

    Example:
        >>> str(element("text", {"x": 1 / 3}, "a < b"))
        '<text x="0.33">a &lt; b</text>'
    """
    parts = [name]
    for key, value in attributes.items():
        if value is not None:
            text = _number(value) if isinstance(value, float) else str(value)
            parts.append(f'{key}="{escape(text)}"')
    opening = " ".join(parts)
    inner = escape(content)
    # Name, attributes and content are escaped by now.
    return Markup(f"<{opening}>{inner}</{name}>" if inner else f"<{opening}/>")


def joined(parts: Iterable[Markup]) -> Markup:
    """Return the elements as one piece of markup."""
    return Markup("").join(parts)


def drawing(parts: Iterable[Markup], *, size: tuple[int, int], plot_id: str, title: str) -> Markup:
    """Return an ``<svg>`` of the given size with a title for screen readers.

    Args:
        parts: Elements in drawing order.
        size: Width and height, in CSS pixels.
        plot_id: Unique in the page; the title's id is made from it.
        title: What the plot shows, in a sentence.

    Returns:
        The drawing.
    """
    width, height = size
    label = element("title", {"id": f"{plot_id}-title"}, title)
    attributes = {
        "class": "plot",
        "role": "img",
        "aria-labelledby": f"{plot_id}-title",
        "viewBox": f"0 0 {width} {height}",
        "width": width,
        "height": height,
    }
    return element("svg", attributes, joined([label, *parts]))


def path(points: Sequence[tuple[float, float]], css_class: str) -> Markup:
    """Return a polyline through the points, as a compact path."""
    data = "M" + "L".join(f"{_number(x)},{_number(y)}" for x, y in points)
    return element("path", {"class": css_class, "d": data})


def text(x: float, y: float, content: str, *, css_class: str = "label") -> Markup:
    """Return a line of text at a place."""
    return element("text", {"class": css_class, "x": float(x), "y": float(y)}, content)


def line(start: tuple[float, float], end: tuple[float, float], css_class: str) -> Markup:
    """Return a straight line."""
    (x1, y1), (x2, y2) = start, end
    places = {"x1": float(x1), "y1": float(y1), "x2": float(x2), "y2": float(y2)}
    return element("line", {"class": css_class, **places})


@dataclass(frozen=True, slots=True)
class Scale:
    """A map from data values to pixels.

    Attributes:
        low: Smallest data value, ``< high``.
        high: Largest data value.
        start: Pixel of ``low``.
        end: Pixel of ``high``.
        is_log: Whether the map is logarithmic; then ``low > 0``.
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high = self.low, self.high
        if self.is_log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """Return about ``count`` round values inside the scale."""
        if self.is_log:
            found = _log_ticks(self.low, self.high, count)
            if len(found) >= 2:
                return found
        return _linear_ticks(self.low, self.high, count)


def padded_scale(
    values: Sequence[float], *, start: float, end: float, is_log: bool = False
) -> Scale:
    """Return a scale around the values with a margin, also when they are all equal.

    Args:
        values: Finite values, at least one; positive if ``is_log``.
        start: Pixel of the low end.
        end: Pixel of the high end.
        is_log: Whether to make a logarithmic scale.

    Returns:
        A scale with every value strictly inside.
    """
    low, high = min(values), max(values)
    if is_log:
        margin = max((high / low) ** 0.12, 1.15)
        return Scale(low / margin, high * margin, start, end, is_log=True)
    span = high - low
    # Half of float64's digits: below that the ticks would all read the same.
    margin = 0.08 * span if span > 1e-8 * abs(high) else max(abs(high) * 0.05, 1e-3)
    return Scale(low - margin, high + margin, start, end)


def tick_text(value: float, step: float) -> str:
    """Return a tick label with as many decimals as the step between ticks needs."""
    if value == 0:
        return "0"
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        return f"{value:.2g}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 3
    return f"{value:,.{min(decimals, 6)}f}"


def compact_text(value: float) -> str:
    """Return a large number in few characters: ``1.7M``, ``18k``."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def _linear_ticks(low: float, high: float, count: int) -> list[float]:
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.7)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**power for power in exponents for factor in factors]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) <= count + 2:
            return inside
    return inside[:: max(1, len(inside) // count)]


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
