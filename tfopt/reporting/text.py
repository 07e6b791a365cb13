"""Put measured numbers into words: metrics, drops, sizes and durations.

The report page and the console say the same because both take it from here. All text is
ASCII, since terminals in C locales exist.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from tfopt.results import MetricInfo

MISSING = "n/a"
_SHARES = {"sparsity", "top1_agreement", "scaling_efficiency"}


def finite(value: Any) -> float | None:
    """Return ``value`` as a float, or None if it is missing or not finite.

    ``results.json`` writes NaN as null, so None and NaN mean the same to readers.

    Args:
        value: A number or None.

    Returns:
        A finite number or None.

    Example:
        >>> finite(float("nan")), finite(None), finite(2)
        (None, None, 2.0)
    """
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def metric_label(metric: MetricInfo | None) -> str:
    """Return the metric's name for people: ``top-5 accuracy``."""
    return "metric" if metric is None else metric.label


def is_share(metric: MetricInfo | None) -> bool:
    """Return whether the metric is a share, and so is written in percent and points."""
    return metric is not None and metric.unit == "points"


def metric_text(value: float | None, metric: MetricInfo | None) -> str:
    """Return a metric value with its unit.

    Args:
        value: The value; None or NaN if it was not measured.
        metric: The metric, or None if unknown.

    Returns:
        Per cent with the decimals that the number of rows resolves, or four digits.

    Example:
        >>> metric_text(0.987, MetricInfo("accuracy", True, 1000, "accuracy", "points"))
        '98.7%'
        >>> metric_text(0.012341, MetricInfo("error", False, 10, "error", "number"))
        '0.01234'
    """
    number = finite(value)
    if number is None:
        return MISSING
    if is_share(metric):
        return f"{100 * number:.{_digits(metric)}f}%"
    return f"{number:.4g}"


def difference_text(value: float, metric: MetricInfo | None) -> str:
    """Return a difference of two metric values, without its unit: ``-0.3``."""
    if is_share(metric):
        # Adding 0.0 turns the -0.0 that rounding makes into 0.0.
        return f"{round(100 * value, _digits(metric)) + 0.0:.{_digits(metric)}f}"
    return f"{value:.3g}"


def drop_text(
    drop: float | None, interval: tuple[float, float] | None, metric: MetricInfo | None
) -> str:
    """Return how much worse or better a file scores, in a clause.

    Args:
        drop: Signed so that positive is worse, whatever the metric's direction.
        interval: 95% interval of ``drop``; turned round together with a gain.
        metric: The metric, or None if unknown.

    Returns:
        ``drop 0.2 points, 95% interval -0.3 to 0.7``; errors get ``worse by``.
    """
    number = finite(drop)
    if number is None:
        return "drop not measured"
    share = is_share(metric)
    is_gain = number < 0 and float(difference_text(number, metric)) != 0
    words = ("gain", "drop") if share else ("better by", "worse by")
    unit = " points" if share else ""
    text = f"{words[0 if is_gain else 1]} {difference_text(abs(number), metric)}{unit}"
    ends = interval_of(interval)
    if ends is None:
        return text
    low, high = (-ends[1], -ends[0]) if is_gain else ends
    return f"{text}, 95% interval {difference_text(low, metric)} to {difference_text(high, metric)}"


def interval_of(interval: Any) -> tuple[float, float] | None:
    """Return the two finite ends of an interval, or None."""
    if not interval or len(interval) != 2:
        return None
    low, high = finite(interval[0]), finite(interval[1])
    return None if low is None or high is None else (low, high)


def gate_text(max_drop: float, metric: MetricInfo | None) -> str:
    """Return the gate in the metric's unit: ``gate 0.5 points``."""
    share = is_share(metric)
    amount = f"{abs(100 * max_drop if share else max_drop):.4g}{' points' if share else ''}"
    return f"gate {amount}" if max_drop >= 0 else f"gate: a gain of {amount}"


def ratio_text(before: float | None, after: float | None) -> str:
    """Return how much smaller ``after`` is; rounded down, so that it never overclaims.

    Args:
        before: Bytes of the reference.
        after: Bytes of the file.

    Returns:
        The factor and its direction, or ``n/a``.

    Example:
        >>> ratio_text(1_727_588, 17_800), ratio_text(100, 26), ratio_text(10, 12)
        ('97x smaller', '3.8x smaller', '1.2x larger')
    """
    ratio = ratio_of(before, after)
    if ratio is None:
        return MISSING
    if ratio == 1:
        return "same size"
    return f"{times(ratio)} smaller" if ratio > 1 else f"{times(1 / ratio)} larger"


def ratio_of(before: float | None, after: float | None) -> float | None:
    """Return ``before / after``, or None if either is missing or not positive."""
    first, second = finite(before), finite(after)
    if first is None or second is None or first <= 0 or second <= 0:
        return None
    return first / second


def times(ratio: float) -> str:
    """Return a factor, rounded down: ``97x``, ``3.8x``."""
    # The tolerance keeps 1.2 (stored as 1.1999...) at 1.2.
    whole = math.floor(ratio + 1e-9)
    return f"{whole:,}x" if ratio >= 10 else f"{math.floor(ratio * 10 + 1e-9) / 10:.1f}x"


def seconds_text(seconds: float | None) -> str:
    """Return a duration: ``4.2 s``, ``3 min 12 s``, ``1 h 2 min``."""
    number = finite(seconds)
    if number is None:
        return MISSING
    if number < 9.95:
        return f"{number:.1f} s"
    whole = round(number)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def milliseconds_text(milliseconds: float | None) -> str:
    """Return a latency with three significant digits: ``0.0813 ms``."""
    number = finite(milliseconds)
    if number is None:
        return MISSING
    return f"{number:.3g} ms" if number < 1000 else f"{number:,.0f} ms"


def value_text(name: str, value: Any) -> str:
    """Return a measured number in the unit that its name states.

    Args:
        name: Name of the number; one with ``fraction`` in it is written in per cent.
        value: The number, or any other evidence.

    Returns:
        Text for a table.

    Example:
        >>> value_text("zero_fraction", 0.97), value_text("unique_weights", 16.0)
        ('97.0%', '16')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is not None and not isinstance(value, Real):
        return str(value)
    number = finite(value)
    if number is None:
        return MISSING
    if "fraction" in name or name in _SHARES:
        return f"{100 * number:.1f}%"
    return f"{number:,.0f}" if number.is_integer() and abs(number) < 1e15 else f"{number:.4g}"


def spread_text(evidence: Mapping[str, Any]) -> str:
    """Return how fast several replicas trained a stage together, in a clause.

    Args:
        evidence: Of the stage; what is missing is left out.

    Returns:
        ``2 replicas, 9,150 rows a second, 31.2% of a step waiting for others, ...``.
    """
    parts = [f"{evidence['replicas']} replicas, {evidence['rows_per_second']:,.0f} rows a second"]
    if finite(evidence.get("exchange_fraction")) is not None:
        wait, efficiency = (
            value_text(name, evidence[name]) for name in ("exchange_fraction", "scaling_efficiency")
        )
        parts += [f"{wait} of a step waiting for others", f"scaling efficiency {efficiency}"]
    return ", ".join(parts)


def _digits(metric: MetricInfo | None) -> int:
    """Return decimals of a percentage: as many as the number of rows can resolve."""
    examples = metric.examples if metric else 0
    return 1 if examples <= 1000 else 2
