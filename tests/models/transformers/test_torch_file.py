"""PyTorch files are read without running what they hold."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfopt.errors import ModelError
from tfopt.models.transformers.torch_file import read_torch_index, read_torch_tensor


def raw_pickle(*, shape: tuple[int, ...], storage: str = "FloatStorage", offset: int = 0) -> bytes:
    """Return the pickle of ``{"w": tensor}``, opcode by opcode: the names need not exist."""
    strides = tuple(np.cumprod([1, *shape[::-1]])[:-1][::-1].tolist())
    body = pickle.PROTO + b"\x02" + pickle.EMPTY_DICT + _text("w")
    body += b"ctorch._utils\n_rebuild_tensor_v2\n" + pickle.MARK
    body += pickle.MARK + _text("storage") + f"ctorch\n{storage}\n".encode()
    body += _text("0") + _text("cpu") + _number(99) + pickle.TUPLE + pickle.BINPERSID
    body += _number(offset) + _numbers(shape) + _numbers(strides) + pickle.NEWFALSE
    body += b"ccollections\nOrderedDict\n" + pickle.EMPTY_TUPLE + pickle.REDUCE
    return body + pickle.TUPLE + pickle.REDUCE + pickle.SETITEM + pickle.STOP


def _text(text: str) -> bytes:
    return pickle.BINUNICODE + len(text).to_bytes(4, "little") + text.encode()


def _number(number: int) -> bytes:
    return pickle.BININT + number.to_bytes(4, "little", signed=True)


def _numbers(numbers: tuple[int, ...]) -> bytes:
    return pickle.MARK + b"".join(map(_number, numbers)) + pickle.TUPLE


@pytest.fixture
def torch_file(tmp_path: Path) -> Callable[..., Path]:
    def write(program: bytes, values: np.ndarray | None = None, **options: Any) -> Path:
        path = tmp_path / "pytorch_model.bin"
        with zipfile.ZipFile(path, "w", **options) as archive:
            archive.writestr("archive/data.pkl", program)
            if values is not None:
                archive.writestr("archive/data/0", values.tobytes())
        return path

    return write


def test_a_file_that_pytorch_wrote(data: Path) -> None:
    path = data / "gpt2" / "pytorch_model.bin"
    found = read_torch_index(path)
    table = found["transformer.wte.weight"]
    assert table.shape == (60, 24)
    values = read_torch_tensor(path, table)
    assert values.dtype == np.float32
    assert values.std() > 0.1
    # The head is tied: PyTorch writes one storage for both names.
    np.testing.assert_array_equal(values, read_torch_tensor(path, found["lm_head.weight"]))


@pytest.mark.parametrize(
    ("storage", "dtype"), [("FloatStorage", "<f4"), ("HalfStorage", "<f2"), ("LongStorage", "<i8")]
)
def test_types_and_offsets(torch_file: Callable[..., Path], storage: str, dtype: str) -> None:
    path = torch_file(
        raw_pickle(shape=(2, 3), storage=storage, offset=1), np.arange(7, dtype=dtype)
    )
    found = read_torch_tensor(path, read_torch_index(path)["w"])
    np.testing.assert_array_equal(found, np.arange(1, 7).reshape(2, 3))
    assert found.dtype == dtype


def test_a_malicious_pickle_does_not_run(torch_file: Callable[..., Path], tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'owned'}",)

    program = pickle.dumps({"w": Malicious()})
    pickle.loads(program)  # it is a real one
    assert (tmp_path / "owned").exists()
    (tmp_path / "owned").unlink()
    with pytest.raises(ModelError, match=r"asks for (posix|nt)\.system.*it was not run"):
        read_torch_index(torch_file(program))
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "name",
    ["builtins\neval", "builtins\ngetattr", "torch\nload", "collections\nOrderedDict.fromkeys"],
)
def test_no_other_name_is_known(torch_file: Callable[..., Path], name: str) -> None:
    program = pickle.PROTO + b"\x02" + b"c" + name.encode() + b"\n" + pickle.STOP
    with pytest.raises(ModelError, match="asks for " + name.replace("\n", r"\.")):
        read_torch_index(torch_file(program))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (raw_pickle(shape=(2, 4)), r"shape \(2, 4\) reaches beyond 'archive/data/0'"),
        (raw_pickle(shape=(2,), offset=6), "reaches beyond"),
        (raw_pickle(shape=(2,), offset=-1), "broken pickle: a tensor with .* offset -1"),
        (pickle.dumps([1, 2]), "holds a list, not tensors by name"),
        (pickle.dumps({"epoch": 3}), "'epoch' is not a tensor. Save only the state_dict"),
        (b"nonsense", "broken pickle"),
    ],
)
def test_broken_files_are_named(
    torch_file: Callable[..., Path], program: bytes, message: str
) -> None:
    path = torch_file(program, np.zeros(7, np.float32))
    with pytest.raises(ModelError, match=message):
        read_torch_tensor(path, read_torch_index(path)["w"])


def test_a_file_without_numbers_or_with_compressed_ones(torch_file: Callable[..., Path]) -> None:
    path = torch_file(raw_pickle(shape=(2,)))
    with pytest.raises(ModelError, match="incomplete: it lacks 'archive/data/0'"):
        read_torch_tensor(path, read_torch_index(path)["w"])
    path = torch_file(
        raw_pickle(shape=(2,)), np.zeros(9, np.float32), compression=zipfile.ZIP_DEFLATED
    )
    with pytest.raises(ModelError, match="is compressed"):
        read_torch_tensor(path, read_torch_index(path)["w"])


def test_what_is_no_zip_of_pytorch(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(b"\x80\x02 the form before PyTorch 1.6")
    with pytest.raises(ModelError, match=r"before 1\.6 are not read: save the model again"):
        read_torch_index(path)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ModelError, match=r"no single data\.pkl"):
        read_torch_index(path)
