"""What scripts/horovod/change_source.py changes, and that it knows its source."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts/horovod/change_source.py"
KNOWN = {
    "third_party/gloo/gloo/transport/tcp/pair.cc": (
        "#include <algorithm>\n"
        "  std::unique_lock<std::mutex> lock(m_, std::try_to_lock);\n  if (!lock) {\n    return;\n"
    ),
    "horovod/common/operations.cc": (
        "  state.last_cycle_start = std::chrono::steady_clock::now();\n\n  if (state.mark_cycles"
    ),
    "horovod/common/tensor_queue.h": (
        "#include <iostream>\n  void RemoveJoinTensor();\n\nprotected:\n"
    ),
    "horovod/common/tensor_queue.cc": (
        "Status TensorQueue::AddToTensorQueue(TensorTableEntry& e, Request& message) {\n"
        "                                          std::vector<Request>& messages) {\n"
    ),
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name, text in KNOWN.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def change(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False
    )


def test_the_known_source_is_changed_and_loses_nothing(source: Path) -> None:
    done = change(str(source))
    assert done.returncode == 0, done.stderr
    for name, before in KNOWN.items():
        after = (source / name).read_text().splitlines()
        assert len(after) > len(before.splitlines())
        left = iter(after)
        assert all(line in left for line in before.splitlines())  # all, in their order
    pair = (source / "third_party/gloo/gloo/transport/tcp/pair.cc").read_text()
    assert "  if (!lock) {\n    std::this_thread::sleep_for(" in pair


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("times", [0, 2])
def test_another_source_is_refused(source: Path, name: str, times: int) -> None:
    (source / name).write_text(KNOWN[name] * times)
    done = change(str(source))
    assert done.returncode == 1
    assert f"{source / name} is not that of Horovod 0.28.1" in done.stderr
    assert f"{times} times" in done.stderr


def test_a_source_is_changed_once(source: Path) -> None:
    assert change(str(source)).returncode == 0
    again = change(str(source))
    assert again.returncode == 1
    assert "has been changed already" in again.stderr


def test_usage() -> None:
    done = change()
    assert done.returncode == 1
    assert "python scripts/horovod/change_source.py horovod-0.28.1" in done.stderr
