"""Tokenizers built from vocabularies agree with the library's own files; damage is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tfopt.data.text.tokenizer import load_tokenizer
from tfopt.errors import BackendMissing, DataError, InputError
from tfopt.models.pretrained import checkpoint_folder

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "day", "##s", "!", "e"]
SENTENCES = [
    "Hello, World! #self-driving cars aren't 100% safe...",
    "Café naïve façade 東京 is in Japan \U0001f600",
    "unbelievablyness  of\tbeing [SEP] [MASK] $9.99 @you http://t.co/xY",
    "x" * 120,
]


def vocabulary(folder: Path, pieces: list[str] = PIECES, **settings: object) -> Path:
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder / "vocab.txt"


def byte_pairs(folder: Path, *special: str) -> Path:
    letters = ["a", "b", "\u0120", "ab", "\u0120ab"]
    table = {token: number for number, token in enumerate([*special, *letters])}
    (folder / "vocab.json").write_text(json.dumps(table), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\na b\n\u0120 ab\n", encoding="utf-8")
    return folder / "vocab.json"


def ids(
    path: Path | str, *rows: object, max_tokens: int = 64, **options: object
) -> list[list[int]]:
    tokenizer = load_tokenizer(str(path), **options)  # type: ignore[arg-type]  # a test's options
    return [row.ids.tolist() for row in tokenizer.encode(rows, max_tokens=max_tokens)]


def test_minilm_from_its_vocabulary_is_minilm_from_its_own_file() -> None:
    folder = checkpoint_folder("minilm-l6")
    whole, pieces = load_tokenizer("minilm-l6"), load_tokenizer(str(folder / "vocab.txt"))
    assert whole.name.endswith("tokenizer.json")
    for rows in (SENTENCES, [(text, "and why not?") for text in SENTENCES]):
        pairs = zip(
            whole.encode(rows, max_tokens=20), pieces.encode(rows, max_tokens=20), strict=True
        )
        for first, second in pairs:
            assert first.ids.tolist() == second.ids.tolist()
            assert first.segments.tolist() == second.segments.tolist()
            assert first.whole == second.whole >= len(first.ids)
    for tokenizer in (whole, pieces):
        assert (tokenizer.size, tokenizer.padding_id) == (30522, 0)
        assert (tokenizer.unknown_id, tokenizer.mask_id) == (100, 103)
        assert tokenizer.special_ids == {0, 100, 101, 102, 103}


def test_pieces_by_hand(tmp_path: Path) -> None:
    path = vocabulary(tmp_path)
    assert ids(path, "A GOOD days!", "fine é") == [[2, 5, 6, 7, 8, 9, 3], [2, 1, 10, 3]]
    assert ids(path, "a good days!", max_tokens=4) == [[2, 5, 6, 3]]
    (row,) = load_tokenizer(str(path)).encode([("a good", "day")], max_tokens=9)
    assert row.segments.tolist() == [0, 0, 0, 0, 1, 1]
    (row,) = load_tokenizer(str(path)).encode([["good", "days"]], max_tokens=9)
    assert row.words.tolist() == [-1, 0, 1, 1, -1]


def test_capitals(tmp_path: Path) -> None:
    path = vocabulary(tmp_path, [*PIECES, "Good"])
    assert ids(path, "Good") == [[2, 11, 3]]  # a vocabulary with capitals keeps them
    assert ids(path, "Good", lower_case=True) == [[2, 6, 3]]
    vocabulary(tmp_path, [*PIECES, "Good"], do_lower_case=True)
    assert ids(path, "Good") == ids(tmp_path, "Good") == [[2, 6, 3]]
    assert ids(path, "Good", lower_case=False) == [[2, 11, 3]]


def test_byte_pairs_of_gpt2_and_roberta(tmp_path: Path) -> None:
    path = byte_pairs(tmp_path, "<|endoftext|>")
    assert ids(path, "ab ab", "ba<|endoftext|>") == [[4, 5], [2, 1, 0]]
    tokenizer = load_tokenizer(str(tmp_path))
    assert (tokenizer.padding_id, tokenizer.unknown_id, tokenizer.mask_id) == (0, None, None)
    path = byte_pairs(tmp_path, "<s>", "<pad>", "</s>", "<unk>", "<mask>")
    assert ids(path, "ab ab", "a <mask>") == [[0, 8, 9, 2], [0, 5, 4, 2]]
    tokenizer = load_tokenizer(str(tmp_path))
    assert (tokenizer.padding_id, tokenizer.mask_id) == (1, 4)
    assert ids(path, ("ab", "ab")) == [[0, 8, 2, 2, 8, 2]]


MISTAKES = {
    "nothing there": ({}, "", "holds no tokenizer. Put tokenizer.json, vocab.txt"),
    "empty": ({"vocab.txt": ""}, "", "vocab.txt is empty"),
    "no special": ({"vocab.txt": "a\nb\n"}, "", r"lacks \[UNK\], \[CLS\], \[SEP\]"),
    "twice": ({"vocab.txt": "[UNK]\n[CLS]\n[SEP]\na\na\n"}, "", "the piece 'a' stands there twice"),
    "not json": ({"tokenizer.json": "{"}, "", "tokenizer.json is not JSON"),
    "no object": ({"tokenizer.json": "[]"}, "", "must hold a JSON object"),
    "no tokenizer": ({"tokenizer.json": "{}"}, "", "tokenizer.json is no tokenizer"),
    "no merges": ({"vocab.json": "{}"}, "", "needs merges.txt beside it"),
    "merges": ({"merges.txt": "x"}, "merges.txt", r"give .*vocab.json; merges.txt beside it"),
    "bytes": (
        {"vocab.json": "{}", "merges.txt": "#version: 0.2\n"}, "", r"lacks <\|endoftext\|>",
    ),
    "bad merges": (
        {"vocab.json": '{"<|endoftext|>": 0}', "merges.txt": "a b\n"}, "", "are no tokenizer",
    ),
    "other": ({"model.bin": "x"}, "model.bin", "is no tokenizer. Give"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_damaged_tokenizers(tmp_path: Path, name: str) -> None:
    files, asked, message = MISTAKES[name]
    for file, content in files.items():
        (tmp_path / file).write_text(content)
    with pytest.raises(DataError, match=message):
        load_tokenizer(str(tmp_path / asked))


def test_mistakes_of_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pretrained model 'minilm-l7'.*Did you mean"):
        load_tokenizer("minilm-l7")
    byte_pairs(tmp_path, "<|endoftext|>")
    with pytest.raises(DataError, match="lower_case is for vocab.txt"):
        load_tokenizer(str(tmp_path), lower_case=False)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot be read as UTF-8"):
        load_tokenizer(str(tmp_path / "vocab.txt"))
    path = vocabulary(tmp_path)
    with pytest.raises(DataError, match="special tokens of .* take 3. Set more than 3"):
        ids(path, ("a", "a"), max_tokens=3)
    with pytest.raises(DataError, match="must be valid Unicode"):
        ids(path, "a \ud800")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(BackendMissing, match=r"pip install 'tfopt\[text\]'"):
        load_tokenizer(str(vocabulary(tmp_path)))
