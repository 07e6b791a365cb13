"""What a process remembers while the ranks of its run change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tfopt.distributed.elastic import run_state
from tfopt.distributed.elastic.run_state import Journey, RanksChanged
from tfopt.errors import InputError, PeersLost
from tfopt.results import RankChange


@pytest.fixture(autouse=True)
def left(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count how often the ranks were left."""
    found: list[str] = []
    monkeypatch.setattr(
        run_state, "leave", lambda *, lost: found.append("lost" if lost else "changed")
    )
    return found


def test_a_run_goes_on_while_there_is_progress(left: list[str]) -> None:
    own = Journey(commit_every_steps=5)
    ends: Iterator[Exception | None] = iter([PeersLost("cut"), RanksChanged("new"), None])

    def attempt() -> str:
        own.stage = "prune"
        own.go_on(len(left) * 10, size=2 + len(left))
        own.step += 7
        own.commits += 1
        if (error := next(ends)) is not None:
            raise error
        return "done"

    assert own.until_done(attempt) == "done"
    assert left == ["lost", "changed"]
    told = [(c.cause, c.stage, c.reached, c.resumed, c.size, c.seconds >= 0) for c in own.changes]
    assert told == [
        ("lost", "prune", 7, 10, 3, True),
        ("hosts changed", "prune", 17, 20, 4, True),
    ]


def test_losses_without_a_checkpoint_in_between_end_it(left: list[str]) -> None:
    def attempt() -> NoReturn:
        raise PeersLost("cut")

    with pytest.raises(PeersLost, match="for the 4th time without a checkpoint.*: cut"):
        Journey(1).until_done(attempt)
    assert len(left) == 3


def test_other_errors_end_it_at_once(left: list[str]) -> None:
    def attempt() -> NoReturn:
        raise InputError("no such file")

    with pytest.raises(InputError, match="no such file"):
        Journey(1).until_done(attempt)
    assert left == []


def test_a_change_outside_of_training_is_counted_once() -> None:
    own = Journey(1, stage="train", step=9)
    own.notice("lost")
    own.notice("hosts changed")
    own.stage = "prune"
    own.go_on(0, size=1)
    (change,) = own.changes
    assert (change.cause, change.stage, change.reached, change.resumed) == ("lost", "train", 9, 9)
    own.go_on(3, size=1)
    assert len(own.changes) == 1


def test_those_who_were_here_know_the_folder() -> None:
    change = RankChange("lost", "train", 9, 5, 1, 2.0)
    new, old = Journey(1), Journey(1, output=Path("out"), changes=[change])

    def gather(own: object) -> list[object]:
        return [(None, [], Path("runs/x-2")), (old.output, old.changes, Path("runs/x"))]

    assert new.meet(gather, Path("runs/x-2")) == (Path("out"), True)
    assert new.changes == [change]
    assert Journey(1).meet(lambda own: [own], Path("runs/x")) == (Path("runs/x"), False)


def test_checkpoints_within_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Journey(commit_every_steps=20)
    assert [step for step in range(1, 61) if own.is_due(step)] == [20, 40, 60]
    news = iter([False, True])
    monkeypatch.setattr(run_state, "hosts_changed", lambda: next(news))
    own.commit()
    with pytest.raises(RanksChanged):
        own.commit()
    assert own.commits == 2
