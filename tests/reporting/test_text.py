import math

import numpy as np
import pytest

from tfopt.evaluation.metrics import Accuracy, MeanSquaredError, Top5Accuracy
from tfopt.reporting.text import (
    drop_text,
    gate_text,
    metric_label,
    metric_text,
    milliseconds_text,
    ratio_text,
    seconds_text,
    spread_text,
    value_text,
)

ACCURACY = Accuracy().info(1000)
ERROR = MeanSquaredError().info(50)


@pytest.mark.parametrize(
    ("drop", "interval", "metric", "expected"),
    [
        (0.002, (-0.003, 0.007), ACCURACY, "drop 0.2 points, 95% interval -0.3 to 0.7"),
        (-0.002, (-0.007, 0.003), ACCURACY, "gain 0.2 points, 95% interval -0.3 to 0.7"),
        (0.0, None, ACCURACY, "drop 0.0 points"),
        (-1e-9, None, ACCURACY, "drop 0.0 points"),
        (0.0008, (0.0001, 0.0015), ERROR, "worse by 0.0008, 95% interval 0.0001 to 0.0015"),
        (-0.25, (-0.5, -0.1), ERROR, "better by 0.25, 95% interval 0.1 to 0.5"),
        (None, None, ACCURACY, "drop not measured"),
        (math.nan, (0.0, 1.0), ACCURACY, "drop not measured"),
        (0.1, (math.nan, 1.0), ACCURACY, "drop 10.0 points"),
        (0.1, None, None, "worse by 0.1"),
    ],
)
def test_drops(drop, interval, metric, expected):
    assert drop_text(drop, interval, metric) == expected


def test_more_rows_resolve_more_digits():
    assert metric_text(0.98765, Top5Accuracy().info(1000)) == "98.8%"
    assert metric_text(0.98765, Top5Accuracy().info(50_000)) == "98.77%"


def test_metric_labels():
    assert metric_label(Top5Accuracy().info(1)) == "top-5 accuracy"
    assert metric_label(None) == "metric"


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_values_that_are_no_numbers(value):
    assert metric_text(value, ACCURACY) == "n/a"
    assert seconds_text(value) == "n/a"
    assert milliseconds_text(value) == "n/a"
    assert value_text("zero_fraction", value) == "n/a"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (1_727_588, 17_800, "97x smaller"),
        (1_727_588, 17_280, "99x smaller"),
        (399, 100, "3.9x smaller"),
        (12, 10, "1.2x smaller"),
        (10, 10, "same size"),
        (10, 100, "10x larger"),
        (10, 0, "n/a"),
        (None, 10, "n/a"),
        (12_345_000, 10, "1,234,500x smaller"),
    ],
)
def test_ratios_never_overclaim(before, after, expected):
    assert ratio_text(before, after) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (3725, "1 h 2 min")],
)
def test_durations(seconds, expected):
    assert seconds_text(seconds) == expected


def test_gates():
    assert gate_text(0.005, ACCURACY) == "gate 0.5 points"
    assert gate_text(0.0025, ACCURACY) == "gate 0.25 points"
    assert gate_text(-0.5, ACCURACY) == "gate: a gain of 50 points"
    assert gate_text(0.001, ERROR) == "gate 0.001"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("zero_fraction", np.float32(0.25), "25.0%"),
        ("unique_weights", np.int64(16), "16"),
        ("parameters", 431_080, "431,080"),
        ("range_max", 0.43871, "0.4387"),
        ("converged", True, "yes"),
        ("converged", False, "no"),
        ("mode", "PCQAT", "PCQAT"),
        ("tiny", 1.5e-9, "1.5e-09"),
    ],
)
def test_values_take_the_unit_of_their_name(name, value, expected):
    assert value_text(name, value) == expected


def test_spread_says_what_is_known():
    known = {"replicas": 2, "rows_per_second": 9150.4}
    assert spread_text(known) == "2 replicas, 9,150 rows a second"
    waiting = {"exchange_fraction": 0.312, "scaling_efficiency": 0.6}
    assert spread_text({**known, **waiting}) == (
        "2 replicas, 9,150 rows a second, 31.2% of a step waiting for others, scaling efficiency "
        "60.0%"
    )
