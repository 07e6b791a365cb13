import subprocess
import sys
import time

import psutil
import pytest

from tfopt.runtimes import run_child, signal_name


def test_status_and_both_streams_come_back():
    code = "import sys; print('out'); sys.stderr.write('err'); sys.exit(7)"
    done = run_child([sys.executable, "-c", code], time_limit_seconds=30)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err")


def test_a_late_child_is_gone_with_its_own_children(tmp_path):
    note = tmp_path / "pid"
    code = (
        "import subprocess, sys, time, pathlib;"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        f"pathlib.Path({str(note)!r}).write_text(str(p.pid)); time.sleep(600)"
    )
    with pytest.raises(subprocess.TimeoutExpired):
        run_child([sys.executable, "-c", code], time_limit_seconds=2)
    grandchild = int(note.read_text())
    deadline = time.monotonic() + 20
    while psutil.pid_exists(grandchild) and time.monotonic() < deadline:
        if psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.05)
    assert not psutil.pid_exists(grandchild)


def test_a_signal_is_a_negative_status():
    done = run_child([sys.executable, "-c", "import os; os.abort()"], time_limit_seconds=30)
    assert signal_name(-done.returncode) == "SIGABRT"
    assert signal_name(250) == "signal 250"


def test_the_child_imports_this_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tfopt.py").write_text("raise SystemExit('the wrong one')")
    done = run_child(
        [sys.executable, "-P", "-c", "import tfopt.errors; print('fine')"], time_limit_seconds=30
    )
    assert done.stdout == "fine\n"
