from __future__ import annotations

import sys
from types import ModuleType

import pytest

from tfopt.distributed.launch import horovodrun


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (None, 0, ""),
        (
            RuntimeError("so was:\nProcess name: 1\nExit code: 3\n"),
            3,
            "rank 1 ended with exit code 3",
        ),
        (
            RuntimeError("so was:\nProcess name: b[0]\nExit code: -9\n"),
            137,
            "by signal 9 (SIGKILL)",
        ),
        (
            RuntimeError("so was:\nProcess name: 1\nExit code: 255\n"),
            255,
            "rank 1 ended with exit code 255: over ssh, a signal ended it or the connection",
        ),
        (ValueError("more processes\nthan slots"), 2, "horovodrun: more processes than slots\n"),
    ],
)
def test_a_line_and_a_code_stand_for_the_traceback(
    error: Exception | None,
    code: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    launcher = ModuleType("horovod.runner.launch")

    def run_commandline() -> None:
        if error is not None:
            raise error

    launcher.run_commandline = run_commandline  # type: ignore[attr-defined]  # stands for Horovod's
    monkeypatch.setitem(sys.modules, "horovod.runner.launch", launcher)
    monkeypatch.setitem(sys.modules, "horovod.runner", ModuleType("horovod.runner"))
    monkeypatch.setitem(sys.modules, "horovod", ModuleType("horovod"))
    assert horovodrun.main() == code
    told = capsys.readouterr().err
    assert text in told
    assert told.count("\n") == bool(text)
