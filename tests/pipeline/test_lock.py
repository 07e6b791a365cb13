"""The lock of a run's folder: one process at a time, and none after its death."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tfopt.errors import ExitCode, StorageError
from tfopt.pipeline.lock import LOCK, held_alone, require_free
from tfopt.pipeline.run_directory import MANIFEST, check_run_dir, held_run_dir, open_run_dir

ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import sys, time
from pathlib import Path
from tfopt.pipeline.run_directory import held_run_dir

with held_run_dir(Path(sys.argv[1]), resume=True):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that works in the folder ``run``."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_told_who_holds_the_folder(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    before = (run / MANIFEST).read_bytes()
    message = rf"The run in .*/run is already .* by process {holder.pid} on .*another --output"
    for attempt in (check_run_dir, open_and_close):
        with pytest.raises(StorageError, match=message) as caught:
            attempt(run, resume=True)
        assert caught.value.exit_code == ExitCode.BAD_INPUT
    assert (run / MANIFEST).read_bytes() == before


def open_and_close(run: Path, *, resume: bool) -> None:
    with held_run_dir(run, resume=resume) as directory:
        assert directory.is_locked


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_dies_with_its_process(
    number: signal.Signals, holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    holder.send_signal(number)
    holder.wait()
    check_run_dir(tmp_path / "run", resume=True)
    open_and_close(tmp_path / "run", resume=True)


def test_the_command_refuses_a_held_folder_before_tensorflow_is_loaded(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text("name: a\ndata: {source: digits}\nmodel: {builder: lenet5}\n")
    program = (
        "import sys; from tfopt.cli.main import main\n"
        "code = main(sys.argv[1:]); print(code, 'tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "run", "a.yaml", "--resume", "-o", "run"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "2 False\n"
    assert done.stderr.startswith(
        f"error: The run in run is already being worked on by process {holder.pid}"
    )
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_that_was_used_is_free_again(tmp_path: Path) -> None:
    for resume in (False, True):
        open_and_close(tmp_path / "run", resume=resume)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {LOCK, MANIFEST}


def test_an_error_lets_the_lock_go(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), held_alone(tmp_path):
        raise ValueError("stop")
    require_free(tmp_path)


def test_a_run_killed_with_nothing_but_its_lock_can_be_started_again(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("123456 elsewhere\n")
    for resume in (True, False):
        check_run_dir(tmp_path, resume=resume)
    open_run_dir(tmp_path, resume=True)


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"half"])
def test_a_holder_that_has_not_written_its_number_yet(content: bytes, tmp_path: Path) -> None:
    with held_alone(tmp_path):
        (tmp_path / LOCK).write_bytes(content)
        with pytest.raises(StorageError, match="by another process"):
            require_free(tmp_path)


def fail_with(number: int) -> Any:
    def failing(*_: Any) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return failing


def test_a_file_system_without_locks_is_used_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", fail_with(errno.ENOLCK))
    with held_run_dir(tmp_path / "run", resume=False) as directory:
        assert not directory.is_locked
    check_run_dir(tmp_path / "run", resume=True)
    monkeypatch.setattr(fcntl, "flock", fail_with(errno.EIO))
    with pytest.raises(StorageError, match="cannot be locked: Input/output error"):
        open_and_close(tmp_path / "run", resume=True)


def test_a_lock_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with pytest.raises(StorageError, match=r"\.lock cannot be taken: Is a directory"):
        open_and_close(tmp_path, resume=True)
