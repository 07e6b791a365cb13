from pathlib import Path

import pytest

from tfopt.data.sources.paths import existing, existing_file
from tfopt.errors import DataError


def test_found(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("x")
    assert existing(tmp_path, what="it") == tmp_path
    assert existing_file(file, what="it") == file


def test_not_found(tmp_path):
    (tmp_path / "data.csv").write_text("x")
    (tmp_path / "empty").touch()
    for path, message in (
        (tmp_path / "dta.csv", "Did you mean 'data.csv'"),
        (tmp_path / "no" / "a.csv", "folder .* does not exist"),
        (None, "it is not set"),
        (tmp_path, "is a folder"),
        (tmp_path / "empty", "0 bytes"),
    ):
        with pytest.raises(DataError, match=message):
            existing_file(path, what="it")


def test_relative_paths_say_where_was_looked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=str(tmp_path)):
        existing(Path("a.csv"), what="it")
