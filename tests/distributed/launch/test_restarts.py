from __future__ import annotations

import pytest

from tfopt.distributed.launch.launcher import LaunchPlan
from tfopt.distributed.launch.restarts import run_with_restarts
from tfopt.errors import ExitCode, InputError

LOST = 137


def plan(*words: str) -> LaunchPlan:
    return LaunchPlan(
        "horovodrun", 2, {"localhost": 2}, list(words) or ["run", "my.yaml", "-o", "out"]
    )


class Runs:
    """Ends with these codes, in order."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.words: list[list[str]] = []

    def __call__(self, plan: LaunchPlan) -> int:
        self.words.append(list(plan.words))
        return self.codes.pop(0)


def test_a_lost_process_costs_a_restart_from_the_checkpoint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Runs(LOST, ExitCode.PEERS_LOST, 0)
    assert run_with_restarts(plan(), 5, run=run) == 0
    first = ["run", "my.yaml", "-o", "out"]
    assert run.words == [first, *[[*first, "--resume"]] * 2]
    assert "a process was lost (exit code 137)" in capsys.readouterr().err


def test_restarts_end(capsys: pytest.CaptureFixture[str]) -> None:
    run = Runs(LOST, LOST, LOST)
    words = ("run", "my.yaml", "--output=out", "--resume")
    assert run_with_restarts(plan(*words), 2, run=run) == LOST
    assert run.words == [list(words)] * 3
    assert "Go on with the same command and --resume at its end" in capsys.readouterr().err


@pytest.mark.parametrize("code", [code for code in ExitCode if code != ExitCode.PEERS_LOST])
def test_what_would_come_again_is_not_tried_again(code: ExitCode) -> None:
    run = Runs(int(code))
    assert run_with_restarts(plan(), 5, run=run) == code
    assert len(run.words) == 1


def test_what_cannot_resume_is_refused() -> None:
    run = Runs(0)
    with pytest.raises(InputError, match="--restarts is for run.*'export' would begin anew"):
        run_with_restarts(plan("export", "model.keras"), 1, run=run)
    with pytest.raises(InputError, match="needs the run folder.* -- run my.yaml -o FOLDER"):
        run_with_restarts(plan("run", "my.yaml"), 1, run=run)
    with pytest.raises(InputError, match="at least 0. Received: -1"):
        run_with_restarts(plan(), -1, run=run)
    assert run.words == []
    assert run_with_restarts(plan("export", "model.keras"), 0, run=run) == 0
