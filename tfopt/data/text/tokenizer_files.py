"""Find the files of a tokenizer and read what tfopt itself reads of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfopt.errors import DataError
from tfopt.models.pretrained import PACKAGED, checkpoint_folder

WHOLE_FILE, PIECES_FILE = "tokenizer.json", "vocab.txt"
VOCABULARY_FILE, MERGES_FILE = "vocab.json", "merges.txt"

_SETTINGS_FILE, _SPECIAL_FILE = "tokenizer_config.json", "special_tokens_map.json"
_KINDS = f"{WHOLE_FILE}, {PIECES_FILE}, or {VOCABULARY_FILE} beside {MERGES_FILE}"


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """The files of one tokenizer.

    Attributes:
        main: ``tokenizer.json``, ``vocab.txt`` or ``vocab.json``, under whatever name.
        kind: Which of these three names it goes by.
        settings: What ``tokenizer_config.json`` and ``special_tokens_map.json`` say.
    """

    main: Path
    kind: str
    settings: Mapping[str, Any]

    def special_token(self, role: str) -> str | None:
        """Return the token of a role such as ``pad_token``, if the settings name one."""
        token = self.settings.get(role)
        content = token.get("content") if isinstance(token, dict) else token
        return content if isinstance(content, str) else None


def find_files(name: str, *, prefer_pieces: bool) -> TokenizerFiles:
    """Return the files of a tokenizer.

    Args:
        name: A pretrained model by name, a folder, or a file.
        prefer_pieces: Take ``vocab.txt`` where there is ``tokenizer.json`` too.

    Raises:
        BackendMissing: If the package of a known name is not installed.
        DataError: If there is no such file or folder, or the folder has no tokenizer.
    """
    path = Path(name)
    if name not in PACKAGED and path.is_file():
        folder, kind = path.parent, _kind_of(path)
    else:
        folder = checkpoint_folder(name)
        order = [WHOLE_FILE, PIECES_FILE, VOCABULARY_FILE]
        order = order[1:] if prefer_pieces and (folder / PIECES_FILE).is_file() else order
        kind = next((entry for entry in order if (folder / entry).is_file()), "")
        if not kind:
            raise DataError(
                f"data.text.tokenizer: {str(folder)!r} holds no tokenizer. Put {_KINDS} there."
            )
        path = folder / kind
    settings = {**_optional(folder / _SPECIAL_FILE), **_optional(folder / _SETTINGS_FILE)}
    return TokenizerFiles(path, kind, settings)


def read_pieces(path: Path) -> dict[str, int]:
    """Return the pieces of a ``vocab.txt`` with their ids: one a line, from 0.

    Raises:
        DataError: If the file is empty, not UTF-8, or a piece stands in it twice.
    """
    lines = _text(path).removesuffix("\n").split("\n")
    pieces = {line.rstrip("\r"): number for number, line in enumerate(lines)}
    if len(pieces) < len(lines):
        seen: set[str] = set()
        twice = next(line for line in lines if line in seen or seen.add(line))  # type: ignore[func-returns-value]  # None means new
        raise DataError(f"{path}: the piece {twice!r} stands there twice, so ids are not certain.")
    return pieces


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        DataError: If the file is missing, not UTF-8, or holds something else.
    """
    try:
        found = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON: {error}. Take a fresh copy.") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} must hold a JSON object. Received: {type(found).__name__}.")
    return found


def _kind_of(path: Path) -> str:
    if path.name == MERGES_FILE:
        raise DataError(
            f"data.text.tokenizer: give {path.with_name(VOCABULARY_FILE)}; {MERGES_FILE} beside it "
            "is found."
        )
    kinds = {".txt": PIECES_FILE, ".json": VOCABULARY_FILE}
    kind = WHOLE_FILE if path.name == WHOLE_FILE else kinds.get(path.suffix, "")
    if kind == VOCABULARY_FILE and "model" in read_object(path):
        return WHOLE_FILE
    if not kind:
        raise DataError(f"data.text.tokenizer: {str(path)!r} is no tokenizer. Give {_KINDS}.")
    return kind


def _optional(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8: {error}.") from error
    if not text.strip():
        raise DataError(f"{path} is empty. Take a fresh copy.")
    return text
