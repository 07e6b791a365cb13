import random
import sys

import numpy as np
import pytest

from tfopt.errors import ExportError, InputError, TfoptError
from tfopt.runtimes import open_litert, probe_litert
from tfopt.runtimes.litert import probe


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"PK\x03\x04" + b"x" * 100, "looks like a zip archive"),
        (b"\x89HDF\r\n\x1a\n" + b"x" * 100, "looks like an HDF5 file"),
        (b"hello", "not a LiteRT model"),
        (b"\x1c\x00\x00\x00TFL3", "truncated or damaged"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(range(256)), "truncated or damaged"),
    ],
)
def test_what_is_no_litert_file(tmp_path, content, message):
    path = tmp_path / "bad.tflite"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_litert(path)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(InputError, match="There is no LiteRT model"):
        open_litert(tmp_path / "none.tflite")
    with pytest.raises(InputError, match="cannot be read"):
        open_litert(tmp_path)


def test_bad_threads(file_of):
    with pytest.raises(InputError, match="threads must be at least 1. Received: 0"):
        open_litert(file_of("dense"), threads=0)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.999])
def test_truncated_files(file_of, tmp_path, share):
    content = file_of("dense").read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match="truncated or damaged"):
        open_litert(path)


@pytest.mark.parametrize("seed", range(20))
def test_flipped_bits_never_end_this_process(file_of, tmp_path, seed):
    """Either a named error, or a file that still runs and gives rows."""
    generator = random.Random(seed)
    content = bytearray(file_of("convolution", "int8").read_bytes())
    for _ in range(generator.choice([1, 4, 30])):
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    path = tmp_path / "flipped.tflite"
    path.write_bytes(content)
    message = ""
    outputs = []
    try:
        outputs = open_litert(path).predict(np.zeros((2, 8, 8, 1)))
    except TfoptError as error:
        message = str(error)
    assert len(outputs) == 2 or message
    assert "\n" not in message


def _replace_child(monkeypatch, code):
    real = probe.run_child
    monkeypatch.setattr(
        probe, "run_child", lambda _, **options: real([sys.executable, "-c", code], **options)
    )


def test_a_crash_becomes_an_error_with_the_signals_name(file_of, monkeypatch):
    _replace_child(monkeypatch, "import os; os.abort()")
    with pytest.raises(ExportError, match="crashes the LiteRT runtime .SIGABRT."):
        open_litert(file_of("dense"))


def test_a_hang_is_stopped(file_of, monkeypatch):
    _replace_child(monkeypatch, "import time; time.sleep(600)")
    found = probe_litert(file_of("dense"), time_limit_seconds=0.3)
    assert found.kind == "hung"
    assert "within 0.3 s" in found.message


def test_a_child_that_dies_with_a_message(file_of, monkeypatch):
    _replace_child(monkeypatch, "raise MemoryError('too large')")
    found = probe_litert(file_of("dense"))
    assert found.kind == "crashed"
    assert "MemoryError: too large" in found.message


def test_real_rows_can_be_tried(file_of, tmp_path):
    rows = tmp_path / "rows.npz"
    np.savez(rows, input_0=np.ones((5, 6), "float32"))
    assert probe_litert(file_of("dense"), rows=(1, 3), samples=rows).kind == "ok"
    np.savez(rows, input_0=np.ones((5, 7), "float32"))
    assert "(5, 7)" in probe_litert(file_of("dense"), rows=(5,), samples=rows).message
