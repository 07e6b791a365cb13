import numpy as np
import pytest

from tfopt.config.schema import Data
from tfopt.data.load import load_data


def csv_file(path, text, **settings):
    path.write_text(text, encoding="utf-8")
    return Data(source="csv", path=path, **{"label": "kind", **settings})


def test_csv_columns(tmp_path):
    text = "\ufeffa, b,kind\n" + "".join(f"{n},{n / 2}, {'xy'[n % 2]}\n" for n in range(20)) + "\n"
    data = load_data(csv_file(tmp_path / "t.csv", text), seed=0)
    assert data.class_names == ("x", "y")
    assert data.input_shape == (2,)
    assert np.array_equal(data.train.inputs[:, 0] / 2, data.train.inputs[:, 1])
    assert np.array_equal(data.train.labels, data.train.inputs[:, 0] % 2)
    data = load_data(csv_file(tmp_path / "t.csv", text, features=("b",)), seed=0)
    assert data.input_shape == (1,)
    data = load_data(csv_file(tmp_path / "t.csv", text, features=("a",), label="b"), seed=0)
    assert data.classes is None
    data = load_data(csv_file(tmp_path / "t.csv", text, features=("b",), label="a"), seed=0)
    assert data.classes == 20


CSV = {
    "label": ("a,b\n1,2\n", "no column 'kind'.* Columns: a, b"),
    "near": ("a,kinds\n1,2\n", "Did you mean 'kinds'"),
    "cell": ("a,kind\n1,x\nhello,y\n", "line 3, column 'a': the cell is 'hello', not a number"),
    "empty cell": ("a,kind\n1,x\n,y\n", "line 3, column 'a': the cell is empty"),
    "nan": ("a,kind\n1,x\nnan,y\n", "line 3, column 'a': the cell is 'nan'"),
    "huge": ("a,kind\n1e300,x\n1,y\n", "line 2, column 'a': the cell is '1e300'"),
    "label empty": ("a,kind\n1,x\n2,\n", "line 3, column 'kind': the label is empty"),
    "ragged": ("a,kind\n1,x\n1,2,3\n", "line 3: 3 cells, but the header names 2"),
    "semicolons": ("a;kind\n1;x\n", "separated by semicolons"),
    "twice": ("a,a,kind\n1,2,x\n", "two columns named 'a'"),
    "no rows": ("a,kind\n", "no rows"),
    "only label": ("kind\nx\n", "no column besides the label"),
    "quoted line break": ('a,kind\n1,"x\ny"\nz,x\n', "line 4, column 'a'"),
    "empty": ("", r"empty \(0 bytes\)"),
}


@pytest.mark.parametrize("name", CSV)
def test_csv_mistakes(tmp_path, name, refused):
    text, message = CSV[name]
    refused(csv_file(tmp_path / "t.csv", text), message)


def test_csv_features_and_encoding(tmp_path, refused):
    settings = csv_file(tmp_path / "t.csv", "a,kind\n1,x\n", features=("kind",))
    refused(settings, "contains the label")
    refused(csv_file(tmp_path / "t.csv", "a,kind\n1,x\n", features=("A",)), "no column 'A'")
    settings.path.write_bytes("a,kind\n1,\xe9\n".encode("latin-1"))
    refused(settings, "cannot be read as CSV")
