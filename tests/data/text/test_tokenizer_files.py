from __future__ import annotations

import json
from pathlib import Path

from tfopt.data.text.tokenizer_files import find_files, read_pieces


def test_the_file_with_everything_comes_first(tmp_path: Path) -> None:
    for name in ("vocab.txt", "vocab.json", "tokenizer.json"):
        (tmp_path / name).write_text('{"model": {}}')
    assert find_files(str(tmp_path), prefer_pieces=False).kind == "tokenizer.json"
    assert find_files(str(tmp_path), prefer_pieces=True).kind == "vocab.txt"
    (tmp_path / "mine.json").write_text('{"model": {}}')
    assert find_files(str(tmp_path / "mine.json"), prefer_pieces=False).kind == "tokenizer.json"
    (tmp_path / "mine.json").write_text('{"a": 0}')
    assert find_files(str(tmp_path / "mine.json"), prefer_pieces=False).kind == "vocab.json"


def test_special_tokens_are_read_in_both_forms(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("a")
    special = {"pad_token": {"content": "<p>", "special": True}, "mask_token": "<m>"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))
    files = find_files(str(tmp_path), prefer_pieces=False)
    assert files.special_token("pad_token") == "<p>"
    assert files.special_token("mask_token") == "<m>"
    assert files.special_token("unk_token") is None


def test_pieces_keep_their_line_numbers(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes("a\r\n\u2028\r\nb".encode())
    assert read_pieces(tmp_path / "vocab.txt") == {"a": 0, "\u2028": 1, "b": 2}
