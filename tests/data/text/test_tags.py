from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tfopt.config.schema import Data, TextSettings
from tfopt.data.load import load_data

PIECES = "[PAD] [UNK] [CLS] [SEP] a cat ##s run".split()
ROWS = "[['a', 'cats'], ['Cats', 'run', 'a', 'cats', 'run']] * 5"
NAMES = "[['d', 'n'], ['n', 'v', 'd', 'n', 'v']] * 5"
X = -100


@pytest.fixture
def words(tmp_path: Path) -> TextSettings:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    return TextSettings(tokenizer=str(tmp_path / "vocab.txt"), max_tokens=7, buckets=(5,))


def body(rows: str, tags: str) -> str:
    return f"def load():\n    return {{'train': ({rows}, {tags}), 'evaluation': ({rows}, {tags})}}"


@pytest.mark.parametrize("tags", [NAMES, "[np.array([0, 1]), [1, 2, 0, 1, 2]] * 5"])
def test_a_tag_goes_to_the_first_token_of_its_word(
    words: TextSettings, own: Callable[[str], str], tags: str
) -> None:
    data = load_data(Data(source=own(body(ROWS, tags)), text=words), seed=0)
    assert data.train.inputs["input_ids"][:2].tolist() == [
        [2, 4, 5, 6, 3, 0, 0],
        [2, 5, 6, 7, 4, 5, 3],  # cut: the last words have no tokens left
    ]
    assert data.train.labels[:2].tolist() == [[X, 0, 1, X, X, X, X], [X, 1, X, 2, 0, 1, X]]
    assert data.classes == 3
    assert data.class_names == (("d", "n", "v") if tags == NAMES else None)
    assert data.train.label_spec.shape.as_list() == [None]


def test_names_that_are_missing_from_a_split_keep_their_numbers(
    words: TextSettings, own: Callable[[str], str]
) -> None:
    code = f"def load():\n    return ({ROWS}, {NAMES}), ([['run', 'a']], [['v', 'd']])"
    data = load_data(Data(source=own(code), text=words), seed=0)
    assert data.evaluation.labels.tolist() == [[X, 2, 0, X, X, X, X]]


def test_one_label_a_row_of_words(words: TextSettings, own: Callable[[str], str]) -> None:
    data = load_data(Data(source=own(body(ROWS, "['p', 'q'] * 5")), text=words), seed=0)
    assert np.array_equal(data.train.labels, [0, 1] * 5)


MISTAKES = {
    "count": (ROWS, "[['d', 'n'], ['n']] * 5", "row 1 has 5 words and 1 tags"),
    "rows": (ROWS, "[['d', 'n']]", "10 rows of words, but 1 rows of tags"),
    "kinds": (ROWS, "[['d', 'n'], [1, 2, 0, 1, 2]] * 5", "all whole numbers, or all text"),
    "floats": (ROWS, "[[0.5, 1.0], [1.0] * 5] * 5", "all whole numbers, or all text"),
    "no list": (ROWS, "[['d', 'n'], 'nvdnv'] * 5", "row 1 has 5 words and 'nvdnv' tags"),
    "a string": ("[['a'], 'a cat']", "[[0], [0]]", "row 1 must be a list of words. Received: str"),
    "no words": ("[['a'], ['']]", "[[0], [0]]", "row 1 must be a list of words. Received: empty"),
    "ignored": (ROWS, "[[-100] * 2, [-100] * 5] * 5", "classes must be whole numbers from 0"),
    "negative": (ROWS, "[[-1] * 2, [0] * 5] * 5", "classes must be whole numbers from 0"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(
    words: TextSettings, name: str, own: Callable[[str], str], refused: Callable[[Data, str], None]
) -> None:
    rows, tags, message = MISTAKES[name]
    refused(Data(source=own(body(rows, tags)), text=words), message)
