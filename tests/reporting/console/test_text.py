import io
import math

import pytest

from tfopt.evaluation.metrics import Accuracy, MeanAbsoluteError
from tfopt.reporting.console.text import aligned, logs_text, printable, result_rows, score_text

ACCURACY = Accuracy().info(10)
ERROR = MeanAbsoluteError().info(10)


@pytest.mark.parametrize(
    ("metric", "baseline", "gate", "expected"),
    [
        (ACCURACY, 0.989, 0.984, "accuracy 0.987 (float 0.989, gate >= 0.984)"),
        (ERROR, 0.9, 1.0, "mean absolute error 0.987 (float 0.9, gate <= 1)"),
        (ACCURACY, None, None, "accuracy 0.987"),
        (ACCURACY, math.nan, math.nan, "accuracy 0.987"),
        (None, None, 0.5, "metric 0.987 (gate 0.5)"),
    ],
)
def test_scores_stand_beside_the_gate(metric, baseline, gate, expected):
    assert score_text(0.987, metric=metric, baseline=baseline, gate=gate) == expected


def test_a_score_that_is_no_number_says_nan():
    assert score_text(math.nan, metric=ACCURACY) == "accuracy nan"


def test_logs_of_every_kind():
    logs = {"loss": math.inf, "zero_fraction": 0.5, "learning_rate": 1e-4, "epoch_mode": "x"}
    expected = "loss inf, zero fraction 50.0%, learning rate 0.0001, epoch mode x"
    assert logs_text(logs) == expected


def test_printable_keeps_line_ends_on_request():
    stream = io.StringIO()
    assert printable("a\nb\x00", stream) == "a b "
    assert printable("a\nb\x00", stream, is_one_line=False) == "a\nb "


def test_final_table(run_result):
    header, before, after = result_rows(run_result)
    assert header[4] == "accuracy"
    assert before[:4] == ["float model", "1,727,588", "1,596,102", "1.0x smaller"]
    assert after == [
        "export/lenet5_int8.tflite",
        "441,912",
        "17,800",
        "97x smaller",
        "98.7%",
        "drop 0.2 points, -0.3 to 0.7",
        "0.0613 ms",
        "met",
    ]


def test_no_rows_no_lines():
    assert aligned([]) == []
