"""Check that texts are read with the vocabulary that a pretrained model was trained with."""

from __future__ import annotations

from pathlib import Path

from tfopt.config.schema import TextSettings
from tfopt.data.text.tokenizer import load_tokenizer
from tfopt.data.text.tokenizer_files import find_files
from tfopt.errors import DataError

_LEAST_SHARED = 0.5


def require_same_vocabulary(settings: TextSettings, checkpoint: str) -> None:
    """Raise if most token ids mean something else to the pretrained model.

    A vocabulary may have been extended, so a few ids may differ. A checkpoint without a
    tokenizer tells nothing.

    Args:
        settings: The recipe's text section.
        checkpoint: Folder of the pretrained model.

    Raises:
        DataError: Naming both tokenizers, and an id with what it means to each.
    """
    try:
        theirs = find_files(checkpoint, prefer_pieces=False).main
    except DataError:
        return
    mine = find_files(settings.tokenizer, prefer_pieces=settings.lower_case != "auto").main
    if mine.resolve() == theirs.resolve():
        return
    given, meant = (_pieces(path) for path in (mine, theirs))
    other = sorted(number for number in given if given[number] != meant.get(number))
    if len(other) > (1 - _LEAST_SHARED) * len(given):
        first = next((number for number in other if number in meant), other[0])
        raise DataError(
            f"data.text.tokenizer {str(mine)!r} is not that of the pretrained model in "
            f"{checkpoint!r}: {len(other)} of its {len(given)} ids mean something else there, such "
            f"as {first}, which is {given[first]!r} here and {meant.get(first)!r} there. Set "
            f"data.text.tokenizer: {checkpoint}"
        )


def _pieces(path: Path) -> dict[int, str]:
    vocabulary = load_tokenizer(str(path)).engine.get_vocab(with_added_tokens=True)
    return {number: piece for piece, number in vocabulary.items()}
