"""Texts that come as words, and tags of words: one class a word, for token classification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfopt.data.checks import Array
from tfopt.data.text.batches import IGNORED
from tfopt.data.text.tokenizer import Encoded
from tfopt.errors import DataError


def are_words(row: Any) -> bool:
    """Return whether a row is a list of words and not one string."""
    return isinstance(row, list | tuple) and all(isinstance(word, str) for word in row)


def are_tags(labels: Any) -> bool:
    """Return whether labels are a list for each row, and not one a row."""
    if isinstance(labels, list | tuple) and len(labels):
        return isinstance(labels[0], list | tuple) or np.ndim(labels[0]) == 1
    return False


def word_rows(rows: Sequence[Any], what: str) -> list[list[str]]:
    """Return rows as lists of words.

    Raises:
        DataError: If a row is something else, or has no words.
    """
    for number, row in enumerate(rows):
        if not are_words(row) or not any(word.strip() for word in row):
            kind = "empty" if are_words(row) else f"{type(row).__name__}: {row!r:.80}"
            raise DataError(f"{what}: row {number} must be a list of words. Received: {kind}.")
    return [list(row) for row in rows]


def tag_numbers(
    labels: Sequence[Any], rows: Sequence[Sequence[str]], what: str
) -> tuple[list[Array], tuple[str, ...] | None]:
    """Return the tags of each row as class numbers, and their names if they are text.

    Args:
        labels: A list of class numbers or names for each row; -100 tags a word that
            neither trains nor counts.
        rows: The words.
        what: How messages name the data.

    Raises:
        DataError: If there is not one tag for each word, or tags are neither whole numbers
            nor text.
    """
    if len(labels) != len(rows):
        raise DataError(f"{what}: {len(rows)} rows of words, but {len(labels)} rows of tags.")
    for number, (tags, words) in enumerate(zip(labels, rows, strict=True)):
        if np.ndim(tags) != 1 or len(tags) != len(words):
            given = len(tags) if np.ndim(tags) == 1 else repr(tags)
            raise DataError(
                f"{what}: row {number} has {len(words)} words and {given} tags. Give one a word."
            )
    arrays = [np.asarray(tags) for tags in labels]
    kinds = {array.dtype.kind for array in arrays}
    if kinds == {"U"}:
        names = tuple(sorted({str(tag) for array in arrays for tag in array}))
        places = {name: place for place, name in enumerate(names)}
        return [np.array([places[str(tag)] for tag in array]) for array in arrays], names
    if not kinds <= {"i", "u"}:
        raise DataError(f"{what}: tags must be all whole numbers, or all text.")
    return arrays, None


def labels_of_tags(tags: Sequence[Array], encoded: Sequence[Encoded], max_tokens: int) -> Array:
    """Return the label of each token, int64 of shape ``(rows, max_tokens)``.

    The first token of a word has the word's tag; every other position is ``IGNORED``.
    """
    labels = np.full((len(tags), max_tokens), IGNORED, np.int64)
    for row, (numbers, tokens) in enumerate(zip(tags, encoded, strict=True)):
        words = tokens.words
        is_first = (words >= 0) & np.concatenate([[True], words[1:] != words[:-1]])
        labels[row, : len(words)][is_first] = numbers[words[is_first]]
    return labels
