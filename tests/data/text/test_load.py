"""Texts of every source become token ids, and what is lost is counted or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfopt.config.schema import Data, TextSettings
from tfopt.data.load import load_data
from tfopt.data.text.load import TextReport
from tfopt.errors import DataError

PIECES = "[PAD] [UNK] [CLS] [SEP] a good bad day ##s".split()
A, GOOD, BAD, DAY, PLURAL = range(4, 9)


@pytest.fixture
def words(tmp_path: Path) -> TextSettings:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    return TextSettings(tokenizer=str(tmp_path / "vocab.txt"), max_tokens=6)


def csv_data(folder: Path, text: str, words: TextSettings, *columns: str) -> Data:
    (folder / "t.csv").write_text(text)
    settings = words.model_copy(update={"columns": columns})
    return Data(source="csv", path=folder / "t.csv", label="mood", text=settings)


ROWS = "".join(
    f"{'a good day' if n % 2 else 'a bad bad days'},day,{'pn'[n % 2]}\n" for n in range(20)
)


def test_a_column_of_text(tmp_path: Path, words: TextSettings) -> None:
    data = load_data(csv_data(tmp_path, "say,more,mood\n" + ROWS, words, "say"), seed=0)
    assert data.input_shape == {"input_ids": (6,), "attention_mask": (6,)}  # no bucket is shorter
    assert data.class_names == ("n", "p")
    assert sorted(map(tuple, np.unique(data.train.inputs["input_ids"], axis=0).tolist())) == [
        (2, A, GOOD, DAY, 3, 0),
        (2, A, BAD, BAD, DAY, 3),
    ]
    assert np.array_equal(data.train.labels == 1, data.train.inputs["input_ids"][:, 2] == BAD)
    assert data.notes == (
        "text: 20 rows of 5.5 tokens on average, the longest 7; 10 (50.00%) cut to 6; 0.000% of "
        "the tokens unknown",
    )


def test_two_columns_are_a_pair(tmp_path: Path, words: TextSettings) -> None:
    data = load_data(csv_data(tmp_path, "say,more,mood\n" + ROWS, words, "say", "more"), seed=0)
    assert sorted(data.input_shape) == ["attention_mask", "input_ids", "token_type_ids"]
    assert set(map(tuple, data.train.inputs["token_type_ids"].tolist())) == {(0, 0, 0, 0, 1, 1)}
    assert data.train.inputs["token_type_ids"].dtype == np.int32


CSV = {
    "empty": ("say,mood\na,p\n ,n\n", ("say",), "line 3, column 'say': the text is empty"),
    "column": ("say,mood\na,p\n", ("saying",), "no column 'saying'.*Did you mean 'say'"),
    "label": ("say,mood\na,p\n", ("mood",), "text.columns contains the label"),
    "unknown": ("say,mood\nx y z a,p\n", ("say",), "75% of the tokens are unknown to"),
    "removed": ("say,mood\na,p\n\x07,n\n", ("say",), "text of row 1 has no token at all"),
}


@pytest.mark.parametrize("name", CSV)
def test_csv_mistakes(
    tmp_path: Path, words: TextSettings, name: str, refused: Callable[[Data, str], None]
) -> None:
    text, columns, message = CSV[name]
    refused(csv_data(tmp_path, text, words, *columns), message)


def test_a_row_without_known_words_is_counted(tmp_path: Path, words: TextSettings) -> None:
    settings = csv_data(tmp_path, "say,more,mood\n" + ROWS + "xyz,a,p\n", words, "say")
    assert load_data(settings, seed=0).notes[1:] == (
        "text: 1 row(s) hold no token that the vocabulary knows",
    )


@pytest.mark.parametrize("source", ["npz", "own"])
def test_strings_of_other_sources(
    tmp_path: Path, words: TextSettings, source: str, own: Callable[[str], str]
) -> None:
    texts, labels = ["a good day", "bad days"] * 10, [1, 0] * 10
    if source == "npz":
        np.savez(tmp_path / "t.npz", x_train=texts, y_train=labels, x_test=texts, y_test=labels)
        settings = Data(source="npz", path=tmp_path / "t.npz", text=words)
    else:
        body = f"def load():\n    rows = ({texts}, {labels})\n    return rows, rows"
        settings = Data(source=own(body), text=words)
    data = load_data(settings, seed=0)
    assert data.evaluation.inputs["input_ids"][:2].tolist() == [
        [2, A, GOOD, DAY, 3, 0],
        [2, BAD, DAY, PLURAL, 3, 0],
    ]
    assert (data.classes, data.train.examples) == (2, 20)
    assert data.notes[0].startswith("text: 40 rows of ")


OWN = {
    "numbers": ("np.zeros((3, 4)), [0, 1, 0]", "row 0 is not a string but list"),
    "one string": ("'a good day', [0]", "inputs are lists of strings"),
    "empty": ("['a', ' '], [0, 1]", "the text of row 1 is empty"),
    "keys": ("{'text': ['a'], 'pair': ['a']}, [0]", "a dict of texts has 'text'.*'pair'"),
    "pairs": ("{'text': ['a'], 'text_pair': ['a', 'a']}, [0]", "1 texts, but 2 of 'text_pair'"),
    "lengths": ("['a', 'a'], [0]", "numbers of rows differ"),
    "no labels": ("(['a', 'a'],)", r"give \(texts, labels\). Received: tuple of 1"),
    "none": ("[], []", "there are no texts"),
}


@pytest.mark.parametrize("name", OWN)
def test_what_is_not_text(
    words: TextSettings, name: str, own: Callable[[str], str], refused: Callable[[Data, str], None]
) -> None:
    returned, message = OWN[name]
    body = f"def load():\n    return {{'train': ({returned})}}"
    refused(Data(source=own(body), text=words), message)


def test_reports_add_up() -> None:
    first = TextReport(rows=2, cut=1, longest=9, tokens=10, pieces=6, unknown=3)
    both = first + TextReport(rows=2, longest=4, tokens=6, pieces=2)
    assert (both.rows, both.longest, both.pieces) == (4, 9, 8)
    assert both.notes(5) == (
        "text: 4 rows of 4.0 tokens on average, the longest 9; 1 (25.00%) cut to 5; 37.500% of the "
        "tokens unknown",
    )


def test_labels_are_needed(words: TextSettings, own: Callable[[str], Any]) -> None:
    with pytest.raises(DataError, match="give .texts, labels."):
        load_data(Data(source=own("def load():\n    return ['a', 'a']"), text=words), seed=0)
