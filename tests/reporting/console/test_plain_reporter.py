import dataclasses
import math

import pytest

from tfopt.reporting.console.plain_reporter import PlainReporter, QuietReporter
from tfopt.results import StageResult

CONTROLS = [chr(code) for code in (*range(32), *range(127, 160)) if chr(code) != "\n"]
HOSTILE = "\x1b[2J\r\x07\x9b31m\ttwo\u2713"


def test_a_run_reads_as_a_log(log, play, run_result):
    play(PlainReporter(log), run_result)
    lines = log.getvalue().splitlines()
    assert lines[0] == "lenet5: train, prune -> runs/lenet5"
    assert lines[1] == "[1/2] train: 2 epochs of 3 steps, target 98% zeros"
    assert lines[2] == (
        "[1/2] train: epoch 1/2: loss 0.5, accuracy 0.9, val accuracy 0.98, zero 0.5"
    )
    assert (
        "[2/2] prune: done in 28 s, accuracy 0.985 (float 0.989, gate >= 0.984), "
        "zero fraction 98.4%" in lines
    )
    assert "[2/2] prune: note: bn has no kernel" in lines
    assert "cluster: skipped, already done" in lines
    assert "warning: calibration data is narrow" in lines
    assert (
        "export/lenet5_int8.tflite: 441,912 bytes, 17,800 after gzip, accuracy 0.987, "
        "0.0613 ms median" in lines
    )
    assert "export/lenet5_int8.tflite: note: SOFTMAX stays in float" in lines
    assert lines[-3].startswith("PASS: 97x smaller after gzip")
    assert lines[-2:] == [
        "results: runs/lenet5/results.json",
        "report: runs/lenet5/report.html",
    ]


@pytest.mark.parametrize("reporter", [PlainReporter, QuietReporter])
def test_no_control_character_reaches_a_log(log, play, run_result, reporter):
    play(reporter(log), run_result, hostile=HOSTILE)
    found = [char for char in CONTROLS if char in log.getvalue()]
    assert found == []
    assert "calibration data is narrow" in log.getvalue()


def test_an_ascii_log_takes_any_text(ascii_log, play, run_result):
    play(PlainReporter(ascii_log), run_result, hostile=HOSTILE + "\udce9")
    ascii_log.seek(0)
    assert "two??" in ascii_log.read()


@pytest.mark.parametrize(
    ("epochs", "shown"),
    [
        (1, [1]),
        (10, list(range(1, 11))),
        (12, [2, 4, 6, 8, 10, 12]),
        (95, [*range(10, 91, 10), 95]),
    ],
)
def test_about_ten_epochs_of_a_stage_are_shown(log, epochs, shown):
    reporter = PlainReporter(log)
    reporter.stage_started("train", number=1, total=1, epochs=epochs, steps_per_epoch=1, target="")
    for epoch in range(1, epochs + 1):
        reporter.epoch_done(epoch, {"loss": 1.0})
    lines = [line for line in log.getvalue().splitlines() if "loss" in line]
    assert [int(line.split("epoch ")[1].split("/")[0]) for line in lines] == shown


def test_steps_write_nothing(log):
    reporter = PlainReporter(log)
    reporter.step_done(1)
    assert log.getvalue() == ""


def test_a_stage_without_epochs_or_known_steps(log):
    reporter = PlainReporter(log)
    reporter.stage_started("quantize", number=1, total=1, epochs=0, steps_per_epoch=0, target="")
    reporter.stage_done(StageResult("quantize", math.nan, math.nan), baseline=None, gate=None)
    assert log.getvalue().splitlines() == [
        "[1/1] quantize: 0 epochs",
        "[1/1] quantize: done in n/a, metric nan",
    ]


def test_quiet_says_warnings_and_the_verdict_only(log, play, run_result):
    play(QuietReporter(log), run_result)
    lines = log.getvalue().splitlines()
    assert lines[0] == "warning: calibration data is narrow"
    assert lines[1].startswith("PASS: 97x smaller")
    assert len(lines) == 2


@pytest.mark.parametrize("reporter", [PlainReporter, QuietReporter])
def test_a_failed_run_says_where_and_leaves_the_error_to_who_started_it(log, run_result, reporter):
    failed = dataclasses.replace(
        run_result, status="failed", error="no zeros\nmore", artifacts=(), failed_stage="prune"
    )
    reporter(log).run_done(failed, None)
    assert log.getvalue() == "FAILED at stage prune\n"


def test_each_line_reaches_the_stream_at_once(tmp_path):
    with (tmp_path / "log").open("w") as stream:
        PlainReporter(stream).message("half way\nthere")
        assert (tmp_path / "log").read_text() == "half way\nthere\n"
