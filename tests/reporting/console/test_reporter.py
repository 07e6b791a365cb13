import subprocess
import sys

import pytest

from tfopt.reporting.console import make_reporter
from tfopt.reporting.console.plain_reporter import PlainReporter, QuietReporter
from tfopt.reporting.console.rich_reporter import RichReporter


def test_a_terminal_gets_the_live_view(terminal):
    assert type(make_reporter(quiet=False, stream=terminal)) is RichReporter


def test_a_file_gets_plain_lines(log):
    assert type(make_reporter(quiet=False, stream=log)) is PlainReporter


def test_quiet_wins(terminal):
    assert type(make_reporter(quiet=True, stream=terminal)) is QuietReporter


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("CI", "true", PlainReporter),
        ("CI", "1", PlainReporter),
        ("CI", "false", RichReporter),
        ("CI", "", RichReporter),
        ("TERM", "dumb", PlainReporter),
    ],
)
def test_the_environment_is_heeded(terminal, monkeypatch, name, value, kind):
    monkeypatch.setenv(name, value)
    assert type(make_reporter(quiet=False, stream=terminal)) is kind


def test_no_color_is_heeded(terminal, monkeypatch, run_result):
    monkeypatch.setenv("NO_COLOR", "1")
    make_reporter(quiet=False, stream=terminal).run_done(run_result, None)
    assert "\x1b[1mPASS" in terminal.getvalue()


def test_the_default_stream_is_standard_error(capsys):
    make_reporter(quiet=False).message("hello")
    assert capsys.readouterr().err == "hello\n"


def test_importing_the_console_is_light():
    heavy = "{'rich', 'tensorflow', 'tf_keras', 'keras', 'matplotlib', 'jinja2'}"
    code = f"import sys, tfopt.reporting.console; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
