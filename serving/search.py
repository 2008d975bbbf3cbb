"""Searching a catalogue by words or by a photo: likeness to what was asked, mixed with the customer's taste.

    every article -> likeness between 0 and 1 -> what the rules allow -> the SHORTLIST likest -> taste -> the best k

Likeness is exact over all articles, so a narrow filter loses nothing. Taste is the place that the bundle's ranker gives
an article among the shortlist; of a customer of whom nothing is known, the place by what sells. Rules of the shop and
of the search hold as for recommendations: the pipeline's own lister makes the list.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
import numpy.typing as npt

from serving.article_texts import PARTS, unsaid
from serving.messages import Item, RecommendationRequest
from serving.newcomers import ExtendedCatalog
from serving.pipeline import Pipeline
from serving.prepared import Prepared
from serving.retrieval.candidates import UNRANKED, CandidateSet, Floats, Ints, best
from serving.runtime import Runtime
from serving.search_messages import ImageSearch, Search, SearchResults, TextSearch
from serving.searchable import Searchable, SearchUnavailable
from serving.word_index import WordIndex, weighted_words
from streams.store import StoredCustomer

logger = logging.getLogger(__name__)

SHORTLIST = 300  # as many as the ranker is used to
# Share of the best score by words from which an article says enough of them: "a" and "to" alone do not make it fit.
MIN_WORDS = 0.25
# Cosine from which an article that says too few of the words is found by its meaning. With MiniLM on H&M "quantum
# mechanics" and "car tyres" reach 0.46 and 0.49 at one or two articles, "raincoat" 0.58 at its 24th.
MIN_MEANING = 0.45
NOBODY = "nobody"

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Searcher:
    """Searches one bundle with what is laid over it. Thread-safe.

    Raises (every search):
        SearchUnavailable: the bundle lacks what it needs.
        InvalidMessage: a filter that could never work.
    """

    runtime: Runtime
    pipeline: Pipeline

    def by_text(
        self, search: TextSearch, customer: StoredCustomer | None, degraded: Sequence[str] = ()
    ) -> SearchResults:
        """Articles that say the query's words or mean the same."""
        words = self._word_scores(search.query)
        meaning = self._meaning(search.query)
        notes = [*degraded]
        likeness, fits = words, (words > 0) & (words >= MIN_WORDS * np.max(words, initial=0))
        if meaning is None:
            notes.append("words_only")
        else:
            likeness = _mixed(words, meaning, search.meaning_weight)
            fits |= meaning >= MIN_MEANING
        shown, number = self._ranked(search, likeness, fits, customer, notes, "text")
        return self._results(search, "text", shown, number, notes)

    def by_image(
        self,
        search: ImageSearch,
        content: bytes,
        customer: StoredCustomer | None,
        feed: Sequence[Item] | None = None,
        degraded: Sequence[str] = (),
    ) -> SearchResults:
        """Articles whose photos look like the one given, of the catalogue or, where it is given, of the `feed`.

        Raises:
            ImageRefused: the file is no picture.
        """
        pictures = self._searchable.pictures
        cosines = np.zeros(len(self.runtime.items), np.float32)
        cosines[: len(pictures.articles)] = pictures.articles @ pictures(content)
        seen = np.zeros(len(cosines), np.bool_)
        seen[: len(pictures.articles)] = pictures.articles.any(axis=1)
        threshold = pictures.threshold if search.threshold is None else search.threshold
        fits = seen & (cosines >= threshold)
        notes = [*degraded]
        if feed is None:
            shown, number = self._ranked(search, cosines, fits, customer, notes, "image")
        else:
            shown, number = self._resorted(search, cosines, fits, feed)
        return self._results(search, "image", shown, number, notes, scope=search.scope, threshold=round(threshold, 4))

    @property
    def _searchable(self) -> Searchable:
        if self.runtime.searchable is None:
            raise SearchUnavailable(f"bundle {self.runtime.bundle_id} carries nothing to search by")
        return self.runtime.searchable

    def _word_scores(self, query: str) -> Floats:
        """float32[n] of all rows, also of articles that came after the bundle."""
        index = self._searchable.words
        scores = np.zeros(len(self.runtime.items), np.float32)
        scores[: index.size] = index.scores(query)
        if self._later is not None:
            rows, later = self._later
            scores[rows] = later.scores(query)
        return scores

    @cached_property
    def _later(self) -> tuple[Ints, WordIndex] | None:
        """Articles that came after the bundle, by what their rows say; descriptions are not kept there."""
        catalog, index = self.runtime.catalog, self._searchable.words
        if not isinstance(catalog, ExtendedCatalog) or not len(catalog.later):
            return None
        said = [self._row_parts(row) for row in catalog.later.tolist()]
        return catalog.later, WordIndex.build([weighted_words(parts) for parts in said], like=index)

    def _row_parts(self, row: int) -> list[str]:
        items, seen = self.runtime.items, list[str]()
        known = {"title": items.titles[row], "text": None} | {name: items.label(name, row) for name in items.labels}
        return [unsaid([known[field] for field in fields], seen) for fields, _ in PARTS]

    def _meaning(self, query: str) -> Floats | None:
        """Cosines float32[n] of the articles' content to the query; None where nothing encodes it."""
        encode = self._searchable.encode_text
        if encode is None:
            return None
        (vector,) = self._searchable.space(encode([query]))
        return np.asarray(self.runtime.catalog.content @ vector, np.float32)

    def _prepared(self, search: Search, customer: StoredCustomer | None) -> Prepared:
        """The customer as the pipeline sees one."""
        request = RecommendationRequest(
            request_id=search.search_id,
            customer_id=search.customer_id or NOBODY,
            k=search.k,
            filters=search.filters,
            exclude=search.exclude,
        )
        return self.pipeline.prepared(request, customer)

    def _ranked(
        self,
        search: Search,
        likeness: Floats,
        fits: Mask,
        customer: StoredCustomer | None,
        notes: list[str],
        source: str,
    ) -> tuple[list[Item], int]:
        """The best k, and how many there were."""
        prepared = self._prepared(search, customer)
        notes += self.pipeline.lister.unchecked(prepared, notes)
        rows = np.flatnonzero(fits)
        rows = rows[self.pipeline.lister.keeps(prepared, rows)]
        short, alike = best(rows, likeness[rows], SHORTLIST)
        taste = np.zeros(len(short), np.float32)
        if search.taste_weight and len(short):
            taste = self._taste(prepared, short, notes)
        scores = _mixed(_of_best(alike), taste, search.taste_weight)
        candidates = CandidateSet((source,), short, np.arange(len(short), dtype=np.float32)[:, None])
        items, _ = self.pipeline.lister.items(prepared, candidates, scores, [], fill=False)
        return items, len(rows)

    def _resorted(
        self, search: ImageSearch, cosines: Floats, fits: Mask, feed: Sequence[Item]
    ) -> tuple[list[Item], int]:
        """What is left of a feed, and how much. Taste is its order."""
        index = self.runtime.items.index
        feed = [item for item in feed if item.article_id in index]
        rows = np.array([index[item.article_id] for item in feed], np.int64)
        taste = np.linspace(1, 0, len(rows), endpoint=False, dtype=np.float32)
        left = np.flatnonzero(fits[rows])
        scores = _mixed(_of_best(cosines[rows[left]]), taste[left], search.taste_weight)
        places, scores = best(left, scores, search.k)
        items = [
            msgspec.structs.replace(feed[place], rank=rank, score=score, source="image")
            for rank, (place, score) in enumerate(zip(places.tolist(), scores.tolist(), strict=True), start=1)
        ]
        return items, len(left)

    def _taste(self, prepared: Prepared, rows: Ints, notes: list[str]) -> Floats:
        """float32[len(rows)] between 0 and 1: the share of the rows that the customer would like less."""
        query = prepared.query
        if query.cold:
            return _places(self.runtime.catalog.statistics.segment_share[query.segment][rows])
        found = self.pipeline.retrieved(prepared)
        place = {row: n for n, row in enumerate(found.item_idx.tolist())}
        ranks = np.full((len(rows), len(found.sources)), UNRANKED, np.float32)
        for n, row in enumerate(rows.tolist()):
            if row in place:
                ranks[n] = found.ranks[place[row]]
        candidates = CandidateSet(found.sources, rows, ranks)
        try:
            return _places(self.runtime.ranker.score(self.runtime.catalog.features.build(query, candidates))[:, 0])
        except Exception:
            logger.exception("ranker failed; searching without taste")
            notes.append("ranker_failed")
            return np.zeros(len(rows), np.float32)

    def _results(
        self,
        search: Search,
        kind: str,
        items: list[Item],
        found: int,
        notes: list[str],
        scope: str | None = None,
        threshold: float | None = None,
    ) -> SearchResults:
        return SearchResults(
            search_id=search.search_id,
            kind=kind,
            bundle_id=self.runtime.bundle_id,
            items=items,
            found=found,
            customer_id=search.customer_id,
            scope=scope,
            threshold=threshold,
            degraded=notes,
        )


def _mixed(likeness: Floats, other: Floats, weight: float) -> Floats:
    """float32[n] between 0 and 1: what is less than nothing alike is not alike."""
    return np.asarray((1 - weight) * np.maximum(likeness, 0) + weight * np.maximum(other, 0), np.float32)


def _of_best(likeness: Floats) -> Floats:
    """float32[n]: of the likest, so that taste counts the same whether much is alike or little."""
    most = np.max(likeness, initial=0)
    return likeness / most if most > 0 else likeness


def _places(scores: npt.NDArray[np.floating]) -> Floats:
    """The share of the others that lie strictly below, so equal scores have equal places."""
    return (np.searchsorted(np.sort(scores), scores, "left") / max(len(scores) - 1, 1)).astype(np.float32)
