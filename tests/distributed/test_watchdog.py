from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tfopt.distributed import watchdog

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEP) as process:
        yield process
        process.kill()


def looked_at(number: int) -> watchdog.Process:
    found = watchdog.look_at(number)
    assert found is not None
    return found


def test_a_process_is_seen(sleeper: subprocess.Popen[bytes]) -> None:
    found = looked_at(sleeper.pid)
    assert found.parent == os.getpid()
    assert watchdog.is_there(found)
    sleeper.kill()
    sleeper.wait()
    assert not watchdog.is_there(found)


def test_a_stopped_process_is_ended(sleeper: subprocess.Popen[bytes]) -> None:
    words = [sys.executable, "-I", "-S", watchdog.__file__, str(sleeper.pid), "0.5"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as dog:
        sleeper.send_signal(signal.SIGSTOP)
        assert sleeper.wait(timeout=30) == -signal.SIGKILL
        assert dog.stderr is not None
        assert f"process {sleeper.pid} is ended: it was stopped by a signal" in dog.stderr.read()


def test_a_process_that_goes_on_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    words = [sys.executable, "-I", "-S", watchdog.__file__, str(sleeper.pid), "30"]
    with subprocess.Popen(words) as dog:
        sleeper.send_signal(signal.SIGSTOP)
        time.sleep(0.6)
        sleeper.send_signal(signal.SIGCONT)
        sleeper.terminate()
        assert sleeper.wait(timeout=30) == -signal.SIGTERM
        assert dog.wait(timeout=30) == 0


def test_it_ends_with_the_ssh_session(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(SLEEP) as server:
        session = looked_at(server.pid)
        monkeypatch.setattr(watchdog, "ssh_server_of", lambda process: session)
        server.kill()
        server.wait()
        process = looked_at(sleeper.pid)
        assert watchdog.watch(process, 30) == "the ssh session of its launcher ended"
        watchdog.end(process)
        assert sleeper.wait(timeout=30) == -signal.SIGTERM


def test_outside_ssh_there_is_no_session(sleeper: subprocess.Popen[bytes]) -> None:
    found = looked_at(sleeper.pid)
    fake = watchdog.Process(found.number, "sshd-session", "S", 1, found.start)
    assert watchdog.ssh_server_of(fake) == fake
