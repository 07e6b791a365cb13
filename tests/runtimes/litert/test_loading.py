import os
from pathlib import Path

import pytest

from tfopt.errors import InputError
from tfopt.runtimes.litert.loading import (
    create_interpreter,
    failure_message,
    missing_operators_message,
    quiet_start,
    read_litert,
)


def test_only_the_runtimes_info_lines_are_dropped(capfd):
    with quiet_start():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
        os.write(2, b"ERROR: something real\n")
    os.write(2, b"INFO: after\n")
    assert capfd.readouterr().err == "ERROR: something real\nINFO: after\n"


def test_standard_error_is_given_back_after_a_failure(capfd):
    def fail():
        with quiet_start():
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    os.write(2, b"still here\n")
    assert capfd.readouterr().err == "still here\n"


def test_an_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"x")

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError, match="cannot be read: .*Permission denied"):
        read_litert(path)


def test_damaged_content():
    with pytest.raises(InputError, match="m.tflite is not a valid LiteRT model"):
        create_interpreter(Path("m.tflite"), b"\x1c\x00\x00\x00TFL3" + b"\x00" * 50, 1)


def test_messages_are_one_line_and_name_what_matters():
    glued = RuntimeError("failed to delegate X node #1Node number 6 (TfLiteXNNPackDelegate) failed")
    assert "node #1; Node number 6" in failure_message(Path("m"), glued)
    assert failure_message(Path("m"), ValueError("a\nb")) == "m cannot be run by LiteRT: a"
    assert failure_message(Path("m"), ValueError("")).endswith("ValueError")
    assert len(failure_message(Path("m"), ValueError("x" * 5000))) < 400
    assert "custom operators" in missing_operators_message(Path("m"), ["Detect", "FlexErf"])
