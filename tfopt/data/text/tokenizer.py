"""Read a tokenizer from disk, and turn text into token ids: the one door to ``tokenizers``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tfopt.data.text.tokenizer_files import (
    MERGES_FILE,
    PIECES_FILE,
    WHOLE_FILE,
    TokenizerFiles,
    find_files,
    read_object,
    read_pieces,
)
from tfopt.errors import BackendMissing, DataError

LowerCase = Literal["auto"] | bool

_ENCODED_AT_ONCE = 2048
_PADDING = ("[PAD]", "<pad>", "<|endoftext|>")
_MASK = ("[MASK]", "<mask>")
_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_BERT_NEEDS = ("[UNK]", "[CLS]", "[SEP]")
_ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_ROBERTA_NEEDS = ("<s>", "</s>")
_GPT2 = "<|endoftext|>"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one row, special tokens included, not padded.

    Attributes:
        ids: Token ids, shape ``(tokens,)``; at most as many as were asked for.
        segments: 0 for the first text and 1 for the second, same shape.
        words: Number of the word that each token is from, same shape; -1 for special tokens.
        whole: Tokens that the row had before it was cut.
    """

    ids: npt.NDArray[np.int32]
    segments: npt.NDArray[np.int32]
    words: npt.NDArray[np.int32]
    whole: int


@dataclass(frozen=True, slots=True)
class TextTokenizer:
    """A tokenizer with the ids that tfopt needs to know.

    Attributes:
        engine: The ``tokenizers.Tokenizer``.
        name: How messages name it.
        size: Every id is below it.
        padding_id: Id that fills rows up.
        unknown_id: Id of what the vocabulary lacks; None if it lacks nothing.
        mask_id: Id that hides a token in masked language models, or None.
        special_ids: Ids that stand for no text, such as ``[CLS]`` and padding.
    """

    engine: Any
    name: str
    size: int
    padding_id: int
    unknown_id: int | None
    mask_id: int | None
    special_ids: frozenset[int]

    def encode(self, rows: Sequence[Any], *, max_tokens: int) -> Iterator[Encoded]:
        """Yield the token ids of each row.

        Args:
            rows: All strings, all pairs of strings (tuples), or all lists of words.
            max_tokens: Rows of more tokens are cut; of a pair, the longer text first.

        Raises:
            DataError: If ``max_tokens`` is too few for the special tokens and one more,
                or a string is not valid Unicode.
        """
        is_words = bool(rows) and isinstance(rows[0], list)
        special = self.engine.num_special_tokens_to_add(bool(rows) and isinstance(rows[0], tuple))
        if max_tokens <= special:
            raise DataError(
                f"data.text.max_tokens is {max_tokens}, but the special tokens of {self.name} "
                f"take {special}. Set more than {special}."
            )
        for start in range(0, len(rows), _ENCODED_AT_ONCE):
            block = list(rows[start : start + _ENCODED_AT_ONCE])
            self.engine.no_truncation()
            found = self._encode(block, is_words=is_words)
            lengths = [len(entry) for entry in found]
            long = [place for place, length in enumerate(lengths) if length > max_tokens]
            self.engine.enable_truncation(max_tokens)
            cut = self._encode([block[place] for place in long], is_words=is_words)
            for place, entry in zip(long, cut, strict=True):
                found[place] = entry
            yield from map(_encoded, found, lengths)

    def _encode(self, rows: list[Any], *, is_words: bool) -> list[Any]:
        try:
            return list(self.engine.encode_batch(rows, is_pretokenized=is_words))
        except (TypeError, UnicodeError) as error:
            raise DataError(
                f"{self.name} cannot encode a text: {error}. Texts must be valid Unicode strings."
            ) from error


def load_tokenizer(name: str, *, lower_case: LowerCase = "auto") -> TextTokenizer:
    """Return a tokenizer read from disk; nothing is downloaded.

    Args:
        name: A pretrained model by name, a folder in Hugging Face layout, or a file.
        lower_case: As ``data.text.lower_case``.

    Raises:
        BackendMissing: If ``tokenizers``, or the package of the name, is not installed.
        InputError: If there is no such tokenizer, or it is damaged.
    """
    files = find_files(name, prefer_pieces=lower_case != "auto")
    if lower_case != "auto" and files.kind != PIECES_FILE:
        raise DataError(
            f"data.text.lower_case is for {PIECES_FILE}; {files.main} says itself how text is "
            "normalised. Remove the setting."
        )
    try:
        import tokenizers
    except ImportError as error:
        raise BackendMissing(
            f"Text needs the package tokenizers: {error}. Run: pip install 'tfopt[text]'"
        ) from error
    if files.kind == WHOLE_FILE:
        engine = _from_whole_file(tokenizers, files)
    elif files.kind == PIECES_FILE:
        engine = _word_pieces(tokenizers, files, lower_case=lower_case)
    else:
        engine = _byte_pairs(tokenizers, files)
    engine.no_padding()
    return _with_ids(engine, files)


def _from_whole_file(tokenizers: Any, files: TokenizerFiles) -> Any:
    read_object(files.main)
    try:
        return tokenizers.Tokenizer.from_file(str(files.main))
    except Exception as error:  # the package raises bare Exceptions
        raise DataError(f"{files.main} is no tokenizer: {error}.") from error


def _word_pieces(tokenizers: Any, files: TokenizerFiles, *, lower_case: LowerCase) -> Any:
    """Return BERT's tokenizer, as its authors normalise and split text."""
    pieces = read_pieces(files.main)
    _require(pieces, _BERT_NEEDS, files)
    lower = _is_lower_case(pieces, files) if lower_case == "auto" else lower_case
    settings = files.settings
    engine = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(pieces, unk_token="[UNK]", max_input_chars_per_word=100)
    )
    engine.normalizer = tokenizers.normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars") is not False,
        strip_accents=settings.get("strip_accents"),
        lowercase=lower,
    )
    engine.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    engine.post_processor = tokenizers.processors.BertProcessing(
        ("[SEP]", pieces["[SEP]"]), ("[CLS]", pieces["[CLS]"])
    )
    engine.add_special_tokens([token for token in _BERT if token in pieces])
    return engine


def _is_lower_case(pieces: Mapping[str, int], files: TokenizerFiles) -> bool:
    told = files.settings.get("do_lower_case")
    if isinstance(told, bool):
        return told
    return not any(piece != piece.lower() for piece in pieces if not piece.startswith("["))


def _byte_pairs(tokenizers: Any, files: TokenizerFiles) -> Any:
    """Return the tokenizer of GPT-2, or of RoBERTa where its special tokens are there."""
    vocabulary = read_object(files.main)
    merges = files.main.with_name(MERGES_FILE)
    if not merges.is_file():
        raise DataError(f"{files.main} needs {MERGES_FILE} beside it. Put it there.")
    is_roberta = all(token in vocabulary for token in _ROBERTA_NEEDS)
    if not is_roberta:
        _require(vocabulary, (_GPT2,), files)
    try:
        model = tokenizers.models.BPE.from_file(str(files.main), str(merges))
    except Exception as error:  # the package raises bare Exceptions
        raise DataError(f"{files.main} and {MERGES_FILE} are no tokenizer: {error}.") from error
    engine = tokenizers.Tokenizer(model)
    prefix = files.settings.get("add_prefix_space") is True
    engine.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    if is_roberta:
        ends = [(token, vocabulary[token]) for token in ("</s>", "<s>")]
        engine.post_processor = tokenizers.processors.RobertaProcessing(
            *ends, trim_offsets=True, add_prefix_space=prefix
        )
    # The mask takes the space before it with it, as where RoBERTa was trained.
    special = [
        tokenizers.AddedToken(token, lstrip=token == "<mask>", normalized=False)
        for token in (_ROBERTA if is_roberta else (_GPT2,))
        if token in vocabulary
    ]
    engine.add_special_tokens(special)
    return engine


def _require(vocabulary: Mapping[str, int], tokens: Sequence[str], files: TokenizerFiles) -> None:
    missing = [token for token in tokens if token not in vocabulary]
    if missing:
        raise DataError(
            f"{files.main} lacks {', '.join(missing)}, so it is not a vocabulary of that kind."
        )


def _with_ids(engine: Any, files: TokenizerFiles) -> TextTokenizer:
    def find(role: str, usual: Sequence[str]) -> int | None:
        named = files.special_token(role)
        candidates = [named] if named is not None else []
        found = [engine.token_to_id(token) for token in (*candidates, *usual)]
        return next((number for number in found if number is not None), None)

    padding = find("pad_token", _PADDING)
    ids = engine.get_vocab(with_added_tokens=True).values()
    if padding is None:
        # Padded positions are masked, so any id that the embedding has will do.
        padding = 0
    unknown = getattr(engine.model, "unk_token", None)  # byte-level vocabularies lack nothing
    marked = {n for n, token in engine.get_added_tokens_decoder().items() if token.special}
    return TextTokenizer(
        engine=engine,
        name=str(files.main),
        size=max(ids) + 1,
        padding_id=padding,
        unknown_id=engine.token_to_id(unknown) if isinstance(unknown, str) else None,
        mask_id=find("mask_token", _MASK),
        special_ids=frozenset(marked | {padding}),
    )


def _encoded(found: Any, whole: int) -> Encoded:
    words = [-1 if word is None else word for word in found.word_ids]
    ids, segments, places = (
        np.array(values, np.int32) for values in (found.ids, found.type_ids, words)
    )
    return Encoded(ids, segments, places, whole)
