import getpass
import json
import os
import platform
import socket
import subprocess
import sys

from tfopt.evaluation import machine
from tfopt.evaluation.machine import describe_machine, package_versions

ARM = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd asimddp i8mm

processor\t: 1
Features\t: fp
"""


def test_the_machine_is_described_in_json():
    described = json.loads(json.dumps(describe_machine()))
    assert described["usable_cores"] == len(os.sched_getaffinity(0))
    assert described["usable_cores"] <= described["logical_cores"]
    assert described["memory_gb"] > 0.5
    assert described["cpu"]
    assert described["python"] == platform.python_version()


def test_neither_host_nor_user_is_named():
    text = json.dumps(describe_machine())
    assert socket.gethostname() not in text
    assert f'"{getpass.getuser()}"' not in text


def test_another_architecture(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    info.write_text(ARM)
    monkeypatch.setattr(machine, "_CPU_INFO", info)
    assert describe_machine()["cpu_flags"] == ["asimd", "asimddp", "i8mm"]


def test_no_cpuinfo_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "none")
    described = describe_machine()
    assert described["cpu_flags"] == []
    assert described["cpu"]


def test_versions_of_what_is_installed():
    versions = package_versions(["numpy", "no-such-package-here"])
    assert list(versions) == ["numpy"]
    assert "tensorflow" in package_versions()


def test_tensorflow_is_not_imported():
    code = (
        "import sys; from tfopt.evaluation.machine import *;"
        "describe_machine(); package_versions();"
        "print([m for m in sys.modules if m in ('tensorflow', 'tf_keras', 'keras')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
