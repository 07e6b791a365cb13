import dataclasses
import io
import math
import re
import sys

import pytest

from tfopt.reporting.console.rich_reporter import RichReporter
from tfopt.results import StageResult

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def visible(stream) -> str:
    return ESCAPES.sub("", stream.getvalue())


def test_a_run_shows_stage_epoch_and_gate(terminal, play, run_result):
    play(RichReporter(terminal), run_result)
    text = visible(terminal)
    assert "[2/2] prune" in text
    assert "epoch 2/2" in text
    assert "measuring, validation accuracy 0.98 (float 0.989, gate >= 0.984), loss 0.25" in text
    assert "done in 28 s, accuracy 0.985 (float 0.989, gate >= 0.984), zero fraction 98.4%" in text
    assert "note: bn has no kernel" in text
    assert "drop 0.2 points, -0.3 to 0.7" in text
    assert "PASS: 97x smaller after gzip" in text
    assert "results  runs/lenet5/results.json" in text
    assert "report   runs/lenet5/report.html" in text


def test_markup_and_escapes_of_the_run_are_only_text(terminal, play, run_result):
    play(RichReporter(terminal), run_result, hostile="[red]x[/] [/] :smile: \x1b[2J\x07")
    text = visible(terminal)
    assert "a message[red]x[/] [/] :smile:  [2J" in text
    assert "\x1b[2J" not in terminal.getvalue()
    assert "\x07" not in terminal.getvalue()


def test_the_cursor_is_shown_again(terminal):
    reporter = RichReporter(terminal)
    reporter.stage_started("train", number=1, total=1, epochs=1, steps_per_epoch=5, target="")
    reporter.close()
    reporter.close()
    written = terminal.getvalue()
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


def test_a_stage_that_starts_while_another_runs_replaces_it(terminal):
    reporter = RichReporter(terminal)
    for name in ("train", "prune"):
        reporter.stage_started(name, number=1, total=1, epochs=1, steps_per_epoch=5, target="")
    reporter.close()
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h")


def test_without_colours_no_colour_is_written(terminal, play, run_result):
    play(RichReporter(terminal, use_color=False), run_result)
    colours = re.findall(r"\x1b\[(?:[0-9;]*;)?(?:3[0-7]|9[0-7]|38;[0-9;]*)m", terminal.getvalue())
    assert colours == []


def test_colours_are_used_otherwise(terminal, play, run_result):
    play(RichReporter(terminal), run_result)
    assert "\x1b[1;32mPASS" in terminal.getvalue()


def test_steps_are_counted_across_epochs(terminal, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(
        "tfopt.reporting.console.rich_reporter.time.monotonic", lambda: float(next(clock))
    )
    reporter = RichReporter(terminal)
    reporter.stage_started("train", number=1, total=1, epochs=3, steps_per_epoch=10, target="")
    task = reporter._progress.tasks[0]
    reporter.step_done(4)
    assert (task.completed, task.total) == (4, 30)
    reporter.epoch_done(1, {"loss": 0.1})
    reporter.step_done(2)
    assert task.completed == 12
    assert task.fields["epoch"] == "epoch 2/3"
    reporter.close()


def test_most_steps_do_not_touch_the_bar(terminal, monkeypatch):
    monkeypatch.setattr("tfopt.reporting.console.rich_reporter.time.monotonic", lambda: 5.0)
    reporter = RichReporter(terminal)
    reporter.stage_started("train", number=1, total=1, epochs=1, steps_per_epoch=999, target="")
    task = reporter._progress.tasks[0]
    for step in range(1, 900):
        reporter.step_done(step)
    assert task.completed == 1
    reporter.close()


def test_events_outside_a_stage_are_harmless(terminal):
    reporter = RichReporter(terminal)
    reporter.step_done(1)
    reporter.epoch_done(1, {"loss": 1.0})
    reporter.close()
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("logs", [{}, {"accuracy": math.nan}, {"loss": None, "x": "text"}])
def test_odd_logs_do_not_stop_a_run(terminal, logs):
    reporter = RichReporter(terminal)
    reporter.stage_started("quantize", number=1, total=1, epochs=0, steps_per_epoch=0, target="")
    reporter.epoch_done(1, logs)
    reporter.stage_done(StageResult("quantize", math.nan, 1.0), baseline=math.nan, gate=None)
    assert "metric nan" in visible(terminal)


def test_a_gate_without_a_metric_has_no_direction(terminal):
    reporter = RichReporter(terminal)
    reporter.stage_done(StageResult("prune", 0.5, 1.0), baseline=0.6, gate=0.7)
    assert "metric 0.5 (float 0.6, gate 0.7)" in visible(terminal)


def test_the_standard_streams_stay_as_they_are(terminal):
    before = (sys.stdout, sys.stderr)
    reporter = RichReporter(terminal)
    reporter.stage_started("train", number=1, total=1, epochs=1, steps_per_epoch=5, target="")
    assert (sys.stdout, sys.stderr) == before
    reporter.close()


def test_a_terminal_without_unicode(play, run_result):
    class AsciiTerminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    stream = AsciiTerminal(io.BytesIO(), encoding="ascii")
    play(RichReporter(stream), run_result, hostile="\u2713\u4e2d")
    stream.seek(0)
    assert "a message??" in stream.read()


def test_a_narrow_terminal_does_not_break_paths(terminal, play, run_result, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    play(RichReporter(terminal), run_result)
    assert "results  runs/lenet5/results.json" in visible(terminal)


def test_a_failed_run_says_where_and_leaves_the_error_to_who_started_it(terminal, run_result):
    failed = dataclasses.replace(
        run_result, status="failed", error="no zeros", artifacts=(), failed_stage="prune"
    )
    RichReporter(terminal).run_done(failed, None)
    assert visible(terminal) == "FAILED at stage prune\n"
