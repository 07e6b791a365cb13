from __future__ import annotations

import os
from pathlib import Path

import pytest

from tfopt.distributed.launch.exit_reports import ENDS, RankEnd, read_cause, report_end
from tfopt.errors import ExitCode


@pytest.fixture
def ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "ends"
    path.touch()
    monkeypatch.setenv(ENDS, str(path))
    return path


def test_a_failure_tells_more_than_those_who_heard_of_it(ends: Path) -> None:
    assert read_cause(ends) is None
    assert report_end(3, ExitCode.INTERRUPTED, "interrupted")
    assert report_end(2, ExitCode.PEERS_LOST, "a peer is lost")
    found = read_cause(ends)
    assert found == RankEnd(2, 6, "a peer is lost")
    assert not found.is_cause
    assert report_end(1, ExitCode.BAD_INPUT, "no such file\nat all")
    assert report_end(0, ExitCode.BAD_INPUT, "Rank 1 of 4 failed: no such file")
    found = read_cause(ends)
    assert found == RankEnd(0, 2, "Rank 1 of 4 failed: no such file")
    assert found.is_cause


def test_a_torn_line_hides_nothing(ends: Path) -> None:
    report_end(1, 4, "the loss became nan")
    with ends.open("a") as file:
        file.write('{"rank": 0, "co')
    assert read_cause(ends) == RankEnd(1, 4, "the loss became nan")


def test_without_a_launcher_that_listens_a_process_speaks_itself(
    ends: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.unlink(ends)
    assert not report_end(1, 2, "no such file")
    assert not ends.exists()
    monkeypatch.delenv(ENDS)
    assert not report_end(1, 2, "no such file")
