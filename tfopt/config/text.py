"""The ``data.text`` section: how text becomes token ids."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field, model_validator

from tfopt.config.base import Section

_FIRST_BUCKET = 16


class TextSettings(Section):
    """How text becomes token ids.

    Attributes:
        tokenizer: A pretrained model by name (``minilm-l6``), a folder in Hugging Face
            layout, or a file: ``tokenizer.json``, ``vocab.txt`` (WordPiece), or
            ``vocab.json`` beside ``merges.txt`` (byte-level BPE).
        max_tokens: Longest row in tokens, special ones included; longer rows are cut,
            and counted. Evaluation, calibration and exported files have this length.
        padding: ``bucket`` trains on batches of rows of similar length, cut to the
            shortest bucket that holds them; ``max`` pads every row to ``max_tokens``.
        buckets: Lengths of training batches in tokens, rising; ``max_tokens`` is always
            the last. By default 16, 24, 32, 48, 64, 96 and so on.
        columns: Columns of ``csv`` that hold text; two are a pair of sentences.
        lower_case: Whether ``vocab.txt`` is of lower-case pieces; ``auto`` reads
            ``tokenizer_config.json``, or else looks for capitals in the vocabulary.
    """

    tokenizer: str = Field(min_length=1)
    max_tokens: int = Field(64, ge=3, le=32_768)
    padding: Literal["bucket", "max"] = "bucket"
    buckets: tuple[int, ...] | None = None
    columns: tuple[str, ...] | None = Field(None, min_length=1, max_length=2)
    lower_case: Literal["auto"] | bool = "auto"

    @property
    def lengths(self) -> tuple[int, ...]:
        """Return the lengths that training batches may have, rising to ``max_tokens``.

        Example:
            >>> Text(tokenizer="minilm-l6", max_tokens=40).lengths
            (16, 24, 32, 40)
        """
        if self.padding == "max":
            return (self.max_tokens,)
        steps = self.buckets or tuple(
            _FIRST_BUCKET * 2**n * s // 2 for n in range(11) for s in (2, 3)
        )
        return (*(step for step in steps if step < self.max_tokens), self.max_tokens)

    @model_validator(mode="after")
    def _buckets_fit(self) -> TextSettings:
        if self.buckets is None:
            return self
        if self.padding == "max":
            raise ValueError("padding 'max' has no buckets; remove them, or set padding: bucket")
        rising = all(first < second for first, second in pairwise((0, *self.buckets)))
        if not rising or max(self.buckets, default=0) > self.max_tokens:
            raise ValueError(
                f"buckets must rise from at least 1 to at most max_tokens ({self.max_tokens}); "
                f"received {list(self.buckets)}"
            )
        return self
