"""Paths of version 0.1.0 that files and scripts name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import tfopt


def test_compiled_files_find_the_optimizer() -> None:
    from tfopt.strategies import optimizer

    assert vars(optimizer)["DistributedOptimizer"] is tfopt.DistributedOptimizer


def test_a_host_discovery_script_runs_as_before(tmp_path: Path) -> None:
    (tmp_path / "hosts.txt").write_text("")
    words = [sys.executable, "-m", "tfopt.strategies.admission", str(tmp_path / "hosts.txt")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
