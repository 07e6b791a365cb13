"""Launch a program on two ranks of this machine, and never leave one of its processes behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAUNCHERS = {
    "horovodrun": ["-m", "horovod.runner.launch", "--gloo", "-np", "2", "-H", "localhost:2"],
    "horovodrun --mpi": ["-m", "horovod.runner.launch", "--mpi", "-np", "2", "-H", "localhost:2"],
}
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", "2"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    from tfopt.distributed.horovod.library import INSTALL, is_installed

    for item in items:
        if item.get_closest_marker("horovod") and not is_installed():
            item.add_marker(pytest.mark.skip(reason=f"Horovod is not installed: {INSTALL}"))


@pytest.fixture(scope="session")
def launch() -> Callable[..., tuple[int, str]]:
    """Run a program on two ranks: ``launch("horovodrun", path, *words)``; code and output."""

    def run(launcher: str, *words: Any, seconds: int = 400) -> tuple[int, str]:
        before = (
            [*MPIRUN, sys.executable]
            if launcher == "mpirun"
            else [sys.executable, *LAUNCHERS[launcher], sys.executable]
        )
        started = subprocess.Popen(
            [*before, *map(str, words)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = started.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            # The launcher ends its ranks, which are groups of their own, when it is asked to.
            started.terminate()
            try:
                output, _ = started.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(started.pid, signal.SIGKILL)
                output, _ = started.communicate()
            pytest.fail(f"{launcher} was still running after {seconds} s:\n{output[-4000:]}")
        return started.returncode, output

    return run
