"""Horovod's timeline is there at the end of a run that asked for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tfopt.distributed.horovod.strategy import Horovod
from tfopt.errors import StorageError


def horovod(*, writes: bool, told: list[str]) -> Any:
    """Return one rank of a Horovod that keeps account of its timeline."""

    def start_timeline(path: str) -> None:
        told.append("start")
        if writes:
            Path(path).write_text("[]")

    return SimpleNamespace(
        rank=lambda: 0,
        size=lambda: 1,
        start_timeline=start_timeline,
        stop_timeline=lambda: told.append("stop"),
    )


def test_a_timeline_is_written_if_it_is_asked_for(tmp_path: Path) -> None:
    told: list[str] = []
    with Horovod(horovod(writes=True, told=told)).recorded(tmp_path / "timeline.json"):
        pass
    assert not told
    with Horovod(horovod(writes=True, told=told), has_timeline=True).recorded(tmp_path / "t.json"):
        assert told == ["start"]
    assert told == ["start", "stop"]


def test_a_timeline_that_is_missing_is_an_error(tmp_path: Path) -> None:
    strategy = Horovod(horovod(writes=False, told=[]), has_timeline=True)
    with (
        pytest.raises(StorageError, match=r"did not write its timeline .*lost\.json"),
        strategy.recorded(tmp_path / "lost.json"),
    ):
        pass


def test_the_error_of_a_run_is_not_hidden(tmp_path: Path) -> None:
    told: list[str] = []
    strategy = Horovod(horovod(writes=False, told=told), has_timeline=True)
    with pytest.raises(KeyError, match="planted"), strategy.recorded(tmp_path / "lost.json"):
        raise KeyError("planted")
    assert told == ["start", "stop"]
