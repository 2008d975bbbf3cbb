"""Which articles say a word, and how much: an inverted index scored by BM25 (Robertson, Zaragoza 2009).

Parts weigh as in BM25F: a word of the head or the colour counts HEAD times, one of the description once. What a word
adds to an article is computed when the index is built, so a search is a few slices and sums. Written here because it
has to be a checked file of a bundle, cover every row and take new articles beside it; bm25s and tantivy own their
files, and the arithmetic is forty lines.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from infra.errors import BundleError
from serving.article_texts import PARTS

Floats = npt.NDArray[np.float32]
Words = Counter[str]

HEAD = 3  # times that a word of title, kind, brand or colour counts, to one of the description
K1, B = 1.2, 0.75  # the usual ones: how soon repetition stops to help, how much long texts are held back
MAX_QUERY_WORDS = 32
MIN_PREFIX, MAX_COMPLETIONS = 3, 64
_WORD = re.compile(r"[^\W_]+")


@lru_cache(maxsize=65_536)  # a catalogue says the same words over and over
def stem(word: str) -> str:
    """The word without its plural: Harman's S-stemmer (1991), and -es after a hiss."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us")):
        return word
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1]


def words_of(text: str) -> list[str]:
    """Letters and digits in runs, folded to lower case and singular."""
    return [stem(word) for word in _WORD.findall(text.casefold())]


def weighted_words(parts: Sequence[str]) -> Words:
    """Words of an article by its parts (article_texts.PARTS) and how often they count."""
    counted: Words = Counter()
    for (fields, _), part in zip(PARTS, parts, strict=True):
        for word in words_of(part):
            counted[word] += 1 if fields == ("text",) else HEAD
    return counted


@dataclass(frozen=True, eq=False)
class WordIndex:
    """vocabulary: ascending · start: int64[v + 1], word w has the postings start[w]:start[w + 1] · rows: int32[p]
    articles, ascending within a word · impacts: float32[p], between 0 and K1 + 1, to be weighed by idf: float32[v] ·
    size: number of rows · mean_length: of the articles, in counted words.
    """

    vocabulary: list[str]
    start: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int32]
    impacts: Floats
    idf: Floats
    size: int
    mean_length: float

    @classmethod
    def build(cls, articles: Iterable[Words], like: WordIndex | None = None) -> WordIndex:
        """Index one row an article, in order.

        Args:
            like: an index whose mean length and word weights count here too, so that scores of both compare.
        """
        numbers: dict[str, int] = {}
        said, counts, sizes = array("q"), array("f"), array("q")
        for words in articles:
            said.extend(numbers.setdefault(word, len(numbers)) for word in words)
            counts.extend(words.values())
            sizes.append(len(words))
        tf = np.array(counts, np.float32)
        rows = np.repeat(np.arange(len(sizes), dtype=np.int32), np.array(sizes, np.int64))
        lengths = np.bincount(rows, tf, len(sizes))
        mean = like.mean_length if like else float(lengths.mean()) if len(lengths) else 0.0
        vocabulary = sorted(numbers)
        place = np.empty(len(numbers), np.int64)
        place[[numbers[word] for word in vocabulary]] = np.arange(len(numbers))
        word = place[np.array(said, np.int64)]
        impacts = tf * (K1 + 1) / (tf + K1 * (1 - B + B * lengths[rows] / max(mean, 1e-9)))
        order = np.argsort(word, kind="stable")
        found = np.bincount(word, minlength=len(vocabulary))
        idf = _idf(found, len(sizes))
        if like is not None:
            rare = _idf(np.zeros(1), like.size)[0]
            idf = np.array([_known_idf(like, w, rare) for w in vocabulary], np.float32)
        start = np.concatenate([[0], np.cumsum(found)]).astype(np.int64)
        return cls(vocabulary, start, rows[order], impacts[order].astype(np.float32), idf, len(sizes), mean)

    def scores(self, query: str) -> Floats:
        """float32[size] between 0 and 1: BM25 over what an article would have that says nothing but the query's words.

        Words that no article says count for nothing, but one that begins longer ones stands for these ("cardig").
        """
        out = np.zeros(self.size, np.float32)
        most = 0.0
        for word in list(dict.fromkeys(words_of(query)))[:MAX_QUERY_WORDS]:
            rows, impacts, weight = self._postings(word)
            out[rows] += weight * impacts
            most += weight * (K1 + 1)
        return out / np.float32(most) if most else out

    def _postings(self, word: str) -> tuple[npt.NDArray[np.int32], Floats, float]:
        number = self._number.get(word)
        if number is not None:
            part = slice(self.start[number], self.start[number + 1])
            return self.rows[part], self.impacts[part], float(self.idf[number])
        first = bisect_left(self.vocabulary, word)
        last = bisect_left(self.vocabulary, word + "\U0010ffff")
        if len(word) < MIN_PREFIX or not 0 < last - first <= MAX_COMPLETIONS:
            return self.rows[:0], self.impacts[:0], 0.0
        part = slice(self.start[first], self.start[last])
        best = np.zeros(self.size, np.float32)
        np.maximum.at(best, self.rows[part], self.impacts[part])
        rows = np.flatnonzero(best).astype(np.int32)
        return rows, best[rows], float(_idf(np.array([len(rows)]), self.size)[0])

    @cached_property
    def _number(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.vocabulary)}

    def save(self, path: Path) -> None:
        np.savez(
            path,
            vocabulary=np.frombuffer("\n".join(self.vocabulary).encode(), np.uint8),
            start=self.start,
            rows=self.rows,
            impacts=self.impacts.astype(np.float16),
            idf=self.idf,
            mean_length=np.array(self.mean_length),
        )

    @classmethod
    def load(cls, path: Path, n_items: int) -> WordIndex:
        """Read with pickle off.

        Raises:
            BundleError: an array is missing, or they do not belong together or to `n_items` articles.
        """
        with np.load(path, allow_pickle=False) as stored:
            missing = {"vocabulary", "start", "rows", "impacts", "idf", "mean_length"} - set(stored.files)
            if missing:
                raise BundleError(f"{path.name} lacks {', '.join(sorted(missing))}")
            text = stored["vocabulary"].tobytes().decode()
            start, rows, idf = stored["start"], stored["rows"], np.asarray(stored["idf"], np.float32)
            impacts, mean = np.asarray(stored["impacts"], np.float32), float(stored["mean_length"])
        words = text.split("\n") if text else []
        whole = (
            len(start) == len(words) + 1 == len(idf) + 1
            and len(rows) == len(impacts) == int(start[-1])
            and bool((np.diff(start) >= 0).all())
            and (not len(rows) or 0 <= int(rows.min()) <= int(rows.max()) < n_items)
        )
        if not whole:
            raise BundleError(
                f"{path.name}: {len(words)} words, {len(rows)} postings, {len(impacts)} impacts, {len(start)} starts "
                f"do not belong together or to {n_items} articles"
            )
        return cls(words, start.astype(np.int64), rows.astype(np.int32), impacts, idf, n_items, mean)


def _idf(found: npt.NDArray[np.integer] | npt.NDArray[np.floating], size: int) -> Floats:
    """How rare words are that so many of `size` articles say; above 0."""
    return np.log1p((size - found + 0.5) / (found + 0.5)).astype(np.float32)


def _known_idf(index: WordIndex, word: str, otherwise: float) -> float:
    number = index._number.get(word)
    return otherwise if number is None else float(index.idf[number])
