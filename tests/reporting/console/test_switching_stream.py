from __future__ import annotations

import io

from tfopt.reporting.console import make_reporter
from tfopt.reporting.console.switching_stream import Voice


def test_it_speaks_where_it_is_told_to() -> None:
    aloud, aside = io.StringIO(), io.StringIO()
    voice = Voice(aloud, aside)
    reporter = make_reporter(quiet=False, stream=voice)
    reporter.message("to the log")
    voice.speak(True)
    reporter.message("to the user")
    voice.speak(False)
    reporter.message("to the log again")
    assert aloud.getvalue() == "to the user\n"
    assert aside.getvalue() == "to the log\nto the log again\n"
    assert not voice.isatty()
