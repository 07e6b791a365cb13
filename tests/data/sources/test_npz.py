import zipfile

import numpy as np

from tfopt.config.schema import Data
from tfopt.data.load import load_data

X, Y = np.arange(60, dtype=np.float64).reshape(20, 3), np.arange(20) % 2


def npz(path, **arrays):
    np.savez(path, **arrays)
    return Data(source="npz", path=path)


def test_npz_pairs(tmp_path):
    data = load_data(npz(tmp_path / "d.npz", x=X, y=Y, other=X), seed=0)
    assert (data.train.examples, data.evaluation.examples, data.classes) == (16, 4, 2)
    arrays = {"x_train": X, "y_train": Y, "x_test": X[:5], "y_test": Y[:5]}
    data = load_data(npz(tmp_path / "d.npz", **arrays, x_val=X[:3], y_val=Y[:3]), seed=0)
    assert (data.train.examples, data.evaluation.examples, data.validation.examples) == (20, 5, 3)
    names = np.where(Y == 1, "yes", "no")
    data = load_data(npz(tmp_path / "d.npz", x=X.astype(np.uint8), y=names), seed=0)
    assert data.class_names == ("no", "yes")
    assert data.train.inputs.dtype == np.uint8


def test_npz_mistakes(tmp_path, refused):
    path = tmp_path / "d.npz"
    refused(Data(source="npz", path=path), "there is no .*d.npz")
    refused(Data(source="npz", path=tmp_path / "no" / "d.npz"), "folder .*no' does not exist")
    refused(Data(source="npz", path=tmp_path), "is a folder. Give a file")
    refused(npz(path, X=X, y=Y), "no array 'x'. It has: X, y")
    refused(npz(path, x_train=X, y_train=Y, x_test=X), "no array 'y_test'")
    refused(npz(path, x=X, y=np.array([1, "a", None] * 6 + [0, 0], object)), "does not unpickle")
    refused(npz(path, x=X, y=Y[:4]), "d.npz .*inputs 20, .*labels 4")
    refused(npz(path, x=np.where(X == 7, np.nan, X), y=Y), "1 of 60 entries .* first in row 2")
    near = tmp_path / "data.npz"
    npz(near, x=X, y=Y)
    refused(Data(source="npz", path=tmp_path / "dat.npz"), "Did you mean 'data.npz'")


def test_npz_damage(tmp_path, refused):
    path = tmp_path / "d.npz"
    settings = npz(path, x=X, y=Y)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(settings, "damaged")
    middle = bytearray(whole)
    start = whole.index(b"\x93NUMPY") + 200
    middle[start : start + 8] = b"\xff" * 8
    path.write_bytes(bytes(middle))
    refused(settings, "the array 'x' is damaged: Bad CRC-32")
    path.write_bytes(b"hello")
    refused(settings, "not an .npz file")
    path.write_bytes(b"")
    refused(settings, r"empty \(0 bytes\)")
    with path.open("wb") as file:
        np.save(file, X)
    refused(settings, r"single array \(.npy\)")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.txt", "hello")
    refused(settings, "no array 'x'")
