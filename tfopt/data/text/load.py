"""Turn texts and their labels into a split of token ids, and say what was lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from tfopt.config.schema import TextSettings
from tfopt.data.checks import Array, as_label_arrays, check_lengths
from tfopt.data.text.batches import IDS, MASK, TokenSplit, token_inputs
from tfopt.data.text.tags import are_tags, are_words, labels_of_tags, tag_numbers, word_rows
from tfopt.data.text.tokenizer import Encoded, LowerCase, TextTokenizer, load_tokenizer
from tfopt.errors import DataError

_TEXT, _PAIR = "text", "text_pair"
_MOST_UNKNOWN = 0.5


@dataclass(frozen=True, slots=True)
class TextReport:
    """What tokenizing did to rows.

    Attributes:
        rows: Rows in all.
        cut: Rows that were longer than allowed.
        longest: Tokens of the longest row, before it was cut.
        tokens: Tokens kept, special ones included.
        pieces: Of these, tokens that stand for text.
        unknown: Of these, tokens that the vocabulary lacks.
        blank: Rows in which nothing is known.
    """

    rows: int = 0
    cut: int = 0
    longest: int = 0
    tokens: int = 0
    pieces: int = 0
    unknown: int = 0
    blank: int = 0

    def __add__(self, other: TextReport) -> TextReport:
        pairs = {
            field.name: (getattr(self, field.name), getattr(other, field.name))
            for field in fields(self)
        }
        joined = {name: max(p) if name == "longest" else sum(p) for name, p in pairs.items()}
        return TextReport(**joined)

    def notes(self, max_tokens: int) -> tuple[str, ...]:
        """Return one line for people, and one more if rows have nothing known."""
        unknown = self.unknown / max(1, self.pieces)
        line = (
            f"text: {self.rows} rows of {self.tokens / max(1, self.rows):.1f} tokens on average, "
            f"the longest {self.longest}; {self.cut} ({self.cut / max(1, self.rows):.2%}) cut to "
            f"{max_tokens}; {unknown:.3%} of the tokens unknown"
        )
        if not self.blank:
            return (line,)
        return (line, f"text: {self.blank} row(s) hold no token that the vocabulary knows")


def splits_of_texts(
    named: Mapping[str, tuple[str, Any]], settings: TextSettings
) -> tuple[dict[str, TokenSplit], tuple[str, ...]]:
    """Return several sets of texts as splits, with one report on all.

    Args:
        named: Name of a split to how messages name it, and its ``(texts, labels)``.
        settings: The recipe's text section.

    Returns:
        The splits by name, and notes for the user.

    Raises:
        BackendMissing: If the tokenizer, or the package for it, is not installed.
        InputError: As ``load_tokenizer`` and ``split_of_texts``.
    """
    tokenizer = load_tokenizer(settings.tokenizer, lower_case=settings.lower_case)
    report = TextReport()
    splits: dict[str, TokenSplit] = {}
    for name, (what, data) in named.items():
        splits[name], more = split_of_texts(data, tokenizer=tokenizer, settings=settings, what=what)
        report += more
    return splits, report.notes(settings.max_tokens)


def split_of_texts(
    data: Any, *, tokenizer: TextTokenizer, settings: TextSettings, what: str
) -> tuple[TokenSplit, TextReport]:
    """Return the token ids of texts, with their labels.

    Args:
        data: ``(texts, labels)``. Texts are strings; or a dict with ``text`` and, for
            pairs of sentences, ``text_pair``; or lists of words, whose labels may be lists
            of one tag a word: it becomes the label of the word's first token.
        tokenizer: The tokenizer.
        settings: The recipe's text section.
        what: How messages name the data.

    Raises:
        DataError: If texts are not strings, empty, or mostly unknown to the tokenizer;
            or labels do not fit them.
    """
    if not isinstance(data, tuple) or len(data) != 2:
        raise DataError(
            f"{what}: with data.text, give (texts, labels). Received: {type(data).__name__}"
            f"{f' of {len(data)}' if isinstance(data, tuple) else ''}."
        )
    rows = text_rows(data[0], what)
    encoded = list(tokenizer.encode(rows, max_tokens=settings.max_tokens))
    has_tags = isinstance(rows[0], list) and are_tags(data[1])
    if has_tags:
        tags, names = tag_numbers(data[1], rows, what)
        labels = labels_of_tags(tags, encoded, settings.max_tokens)
    else:
        labels, names = as_label_arrays(data[1], f"{what}: labels")
    check_lengths({f"{what}: texts": np.empty(len(rows)), f"{what}: labels": labels})
    inputs = _padded(encoded, tokenizer, settings.max_tokens, pairs=isinstance(rows[0], tuple))
    whole = np.array([row.whole for row in encoded])
    report = _report(inputs, whole, tokenizer, what)
    split = TokenSplit(
        inputs, labels, class_names=names, lengths=settings.lengths, labels_by_token=has_tags
    )
    return split, report


def tokenize(
    texts: Any, *, tokenizer: str, max_tokens: int = 64, lower_case: LowerCase = "auto"
) -> dict[str, Array]:
    """Return the inputs that a transformer reads, padded on the right to one length.

    Args:
        texts: Strings; or a dict with ``text`` and ``text_pair``; or lists of words.
        tokenizer: A pretrained model by name (``minilm-l6``), a folder in Hugging Face layout,
            or a file; see ``data.text`` in a recipe.
        max_tokens: Length of every row in tokens, special ones included; longer rows are cut.
        lower_case: See ``data.text``.

    Returns:
        ``input_ids`` and ``attention_mask``, and ``token_type_ids`` for pairs: int32 arrays
        ``(rows, max_tokens)``.

    Raises:
        BackendMissing: If the tokenizer, or the package for it, is not installed.
        DataError: If texts are not strings, one is empty, or most tokens are unknown.
        InputError: If there is no such tokenizer.
    """
    found = load_tokenizer(tokenizer, lower_case=lower_case)
    rows = text_rows(texts, "texts")
    encoded = list(found.encode(rows, max_tokens=max_tokens))
    inputs = _padded(encoded, found, max_tokens, pairs=isinstance(rows[0], tuple))
    _report(inputs, np.array([row.whole for row in encoded]), found, "texts")
    return inputs


def text_rows(value: Any, what: str) -> Sequence[Any]:
    """Return texts as a list of strings, of pairs of strings, or of lists of words.

    Raises:
        DataError: If they are of another kind, or one is empty.
    """
    if not isinstance(value, Mapping):
        if isinstance(value, list | tuple) and value and are_words(value[0]):
            return word_rows(value, what)
        return _strings(value, what)
    keys = set(value)
    if not {_TEXT} <= keys <= {_TEXT, _PAIR}:
        raise DataError(
            f"{what}: a dict of texts has {_TEXT!r} and, for pairs, {_PAIR!r}. Received: "
            f"{sorted(map(str, keys))}."
        )
    first = _strings(value[_TEXT], f"{what}: {_TEXT}")
    if _PAIR not in keys:
        return first
    second = _strings(value[_PAIR], f"{what}: {_PAIR}")
    if len(first) != len(second):
        raise DataError(f"{what}: {len(first)} texts, but {len(second)} of {_PAIR!r}.")
    return list(zip(first, second, strict=True))


def _strings(value: Any, what: str) -> list[str]:
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        raise DataError(
            f"{what}: with data.text, inputs are lists of strings, one a row. Received: "
            f"{type(value).__name__}."
        )
    texts = list(value.tolist() if isinstance(value, np.ndarray) else value)
    if not texts:
        raise DataError(f"{what}: there are no texts.")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(
                f"{what}: row {row} is not a string but {type(text).__name__}. With data.text, "
                "inputs are strings; remove data.text if they are numbers."
            )
    empty = [row for row, text in enumerate(texts) if not text.strip()]
    if empty:
        raise DataError(
            f"{what}: the text of row {empty[0]} is empty ({len(empty)} such rows). Remove them."
        )
    return texts


def _padded(
    encoded: Sequence[Encoded], tokenizer: TextTokenizer, max_tokens: int, *, pairs: bool
) -> dict[str, Array]:
    lengths = np.array([len(row.ids) for row in encoded])
    return token_inputs(
        _stacked((row.ids for row in encoded), len(encoded), max_tokens),
        lengths,
        _stacked((row.segments for row in encoded), len(encoded), max_tokens) if pairs else None,
        padding_id=tokenizer.padding_id,
    )


def _stacked(rows: Iterator[Array], count: int, max_tokens: int) -> Array:
    stacked = np.zeros((count, max_tokens), np.int32)
    for place, row in enumerate(rows):
        stacked[place, : len(row)] = row
    return stacked


def _report(
    inputs: Mapping[str, Array], whole: Array, tokenizer: TextTokenizer, what: str
) -> TextReport:
    """Return what was lost, or raise if nothing is left."""
    ids, tokens = inputs[IDS], inputs[MASK].sum(axis=1)
    special = sorted(tokenizer.special_ids - {tokenizer.unknown_id})
    pieces = np.count_nonzero(~np.isin(ids, special), axis=1)
    unknown = np.count_nonzero(ids == tokenizer.unknown_id, axis=1)
    nothing = np.flatnonzero(pieces == 0)
    if nothing.size:
        raise DataError(
            f"{what}: the text of row {nothing[0]} has no token at all ({nothing.size} such rows): "
            "it holds only what the tokenizer removes. Remove these rows."
        )
    if unknown.sum() > _MOST_UNKNOWN * pieces.sum():
        raise DataError(
            f"{what}: {unknown.sum() / pieces.sum():.0%} of the tokens are unknown to "
            f"{tokenizer.name}, so it is not the tokenizer of such texts. Choose another."
        )
    return TextReport(
        rows=len(ids),
        cut=int(np.count_nonzero(whole > ids.shape[1])),
        longest=int(whole.max()),
        tokens=int(tokens.sum()),
        pieces=int(pieces.sum()),
        unknown=int(unknown.sum()),
        blank=int(np.count_nonzero(unknown == pieces)),
    )
