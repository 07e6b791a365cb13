from __future__ import annotations

import os
import signal
import tempfile
import threading
from pathlib import Path

import pytest

from tfopt.errors import StorageError
from tfopt.reporting.process_log import quiet_tensorflow, terminable


def test_native_noise_goes_to_the_log_and_our_lines_to_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with quiet_tensorflow(log_to=run / "log.txt", beside="results.json") as stream:
        run.mkdir()
        (run / "results.json").touch()
        os.write(2, b"native noise\n")
        stream.write("our line\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "our line\nafter\n"
    assert (run / "log.txt").read_text() == "native noise\n"
    assert stream.closed


@pytest.mark.parametrize("exists", [True, False])
def test_a_run_that_never_began_leaves_no_log(exists: bool, tmp_path: Path) -> None:
    run = tmp_path / "run"
    if exists:
        run.mkdir()
    before = set(os.listdir(tempfile.gettempdir()))
    with (
        pytest.raises(ValueError, match="no"),
        quiet_tensorflow(log_to=run / "log.txt", beside="results.json"),
    ):
        raise ValueError("no")
    assert not (run / "log.txt").exists()
    left = {name for name in set(os.listdir(tempfile.gettempdir())) - before if "tfopt-" in name}
    assert not {name for name in left if name.endswith(".log")}


def test_a_log_that_cannot_be_kept_is_only_a_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.txt").mkdir()
    with quiet_tensorflow(log_to=tmp_path / "log.txt"):
        pass
    assert "warning: the log" in capfd.readouterr().err


def test_no_room_for_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**options: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    with (
        pytest.raises(StorageError, match="No temporary file can be made for the log: No space"),
        quiet_tensorflow(),
    ):
        pass


def test_a_terminated_process_is_interrupted_once_and_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminable():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_leave_signals_alone() -> None:
    done = []

    def work() -> None:
        with terminable():
            done.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.getsignal(signal.SIGTERM)]
