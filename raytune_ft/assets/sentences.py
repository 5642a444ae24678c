"""Converts the ICWSM-14 sentences to prompt and completion, labelled as in the paper."""

from __future__ import annotations

import html
import json
import random
import tarfile
from dataclasses import dataclass
from pathlib import Path

SPLIT_SEED = 2014
TEST_FRACTION = 0.2
LABEL_THRESHOLD = 0.05  # Hutto and Gilbert 2014, for the mean rating scaled from -4..4 to -1..1
_ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"


@dataclass(frozen=True)
class _Corpus:
    name: str
    member: str
    word: str
    """The word for a sentence in the prompt."""


_CORPORA = (
    _Corpus("tweets", "tweets_GroundTruth.txt", "Tweet"),
    _Corpus("movies", "movieReviewSnippets_GroundTruth.txt", "Review"),
    _Corpus("products", "amazonReviewSnippets_GroundTruth.txt", "Review"),
    _Corpus("news", "nytEditorialSnippets_GroundTruth.txt", "News"),
)


def write_sentences(sdist: Path, target: Path) -> None:
    """Writes `<corpus>.train.jsonl` and `<corpus>.test.jsonl` of each corpus in `sdist` to `target`.

    Rows are {"prompt": "Review: ...\\nSentiment:", "completion": " positive" | " negative" | " neutral"}.
    """
    target.mkdir(parents=True)
    with tarfile.open(sdist) as outer:
        inner = outer.extractfile(_ARCHIVE)
        assert inner is not None  # the sdist's sha256 is pinned
        with tarfile.open(fileobj=inner) as archive:
            for corpus in _CORPORA:
                stream = archive.extractfile(f"hutto_ICWSM_2014/{corpus.member}")
                assert stream is not None
                rows = to_rows(stream.read().decode("utf-8"), corpus.word)
                train, test = split(rows)
                _write_jsonl(target / f"{corpus.name}.train.jsonl", train)
                _write_jsonl(target / f"{corpus.name}.test.jsonl", test)


def label(mean_rating: float) -> str:
    """Returns the paper's class for a mean rating in -4..4: positive, negative or neutral."""
    scaled = mean_rating / 4
    return "positive" if scaled > LABEL_THRESHOLD else "negative" if scaled < -LABEL_THRESHOLD else "neutral"


def to_rows(text: str, word: str) -> list[dict[str, str]]:
    """Returns the rows of a ground-truth file (`id<TAB>mean rating<TAB>sentence`), without repeats, in file order."""
    rows: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        _, rating, raw = line.split("\t")
        sentence = " ".join(html.unescape(html.unescape(raw)).split())  # some are escaped twice
        row = {"prompt": f"{word}: {sentence}\nSentiment:", "completion": f" {label(float(rating))}"}
        rows.setdefault(sentence.casefold(), row)
    return list(rows.values())


def split(rows: list[dict[str, str]]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Splits the rows into train and test, shuffled with a fixed seed."""
    shuffled = random.Random(SPLIT_SEED).sample(rows, len(rows))
    held_out = round(len(rows) * TEST_FRACTION)
    return shuffled[held_out:], shuffled[:held_out]


def _write_jsonl(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
