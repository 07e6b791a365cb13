"""Texts read with another vocabulary than that of the pretrained model are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfopt.config.schema import TextSettings
from tfopt.data.text.vocabulary import require_same_vocabulary
from tfopt.errors import DataError

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [f"word{number}" for number in range(12)]


def folder_of(path: Path, words: list[str]) -> str:
    path.mkdir()
    (path / "vocab.txt").write_text("\n".join([*SPECIAL, *words]) + "\n")
    return str(path)


def test_another_vocabulary_is_named(tmp_path: Path) -> None:
    checkpoint = folder_of(tmp_path / "model", WORDS)
    other = folder_of(tmp_path / "other", WORDS[::-1])
    message = "12 of its 17 ids mean something else there, such as 5, which is 'word11' here and"
    with pytest.raises(DataError, match=message):
        require_same_vocabulary(TextSettings(tokenizer=other), checkpoint)


@pytest.mark.parametrize("words", [WORDS, [*WORDS, "more"], ["new", *WORDS[1:]]])
def test_the_same_and_extended_vocabularies_pass(words: list[str], tmp_path: Path) -> None:
    checkpoint = folder_of(tmp_path / "model", WORDS)
    require_same_vocabulary(TextSettings(tokenizer=folder_of(tmp_path / "own", words)), checkpoint)
    require_same_vocabulary(TextSettings(tokenizer=checkpoint), checkpoint)


def test_a_checkpoint_without_a_tokenizer_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    own = folder_of(tmp_path / "own", WORDS)
    require_same_vocabulary(TextSettings(tokenizer=own), str(tmp_path / "model"))
