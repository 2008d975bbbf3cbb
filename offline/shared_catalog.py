"""What all contenders of an evaluation have in common is computed once: queries, what each source finds, and features.

Every contender still answers through the real pipeline; only its catalogue remembers the customers of the last few
chunks. So the figures are those of contenders that share nothing, to the last digit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np

from serving.features import FeatureBuilder
from serving.retrieval.candidates import CandidateSet, Floats, Found, Ints
from serving.retrieval.query import Query
from serving.retrieval.source import ScoringSource, Source
from serving.runtime import Catalog
from streams.bundle_contract import FEATURES, RETRIEVAL
from streams.state import CustomerState

REMEMBERED = 256  # customers, whose features take some 90 kB each

OF_ARTICLES = len(FEATURES) - len(RETRIEVAL)


class RememberedSource:
    """Asked for the same customer to the same depth, it answers as before."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._known: WeakKeyDictionary[Query, dict[int, Found]] = WeakKeyDictionary()

    @property
    def name(self) -> str:
        return self._source.name

    def retrieve(self, queries: Sequence[Query], k: int) -> list[Found]:
        missing = [query for query in queries if k not in self._known.setdefault(query, {})]
        for query, found in zip(missing, self._source.retrieve(missing, k), strict=True):
            self._known[query][k] = found
        return [self._known[query][k] for query in queries]


class RememberedScoring(RememberedSource):
    """The same for a source that scores any article."""

    def __init__(self, source: ScoringSource) -> None:
        super().__init__(source)
        self.score = source.score


class SharedFeatures(FeatureBuilder):
    """The first candidates of a query, those of `full`, are computed whole. Whoever ranks some of them again takes the
    columns that depend on the article alone from there, and the whole matrix where the candidates are the same."""

    def build(self, query: Query, candidates: CandidateSet) -> Floats:
        known = self._built.get(query)
        if known is not None and _same(known[0], candidates):
            return known[1]
        features = super().build(query, candidates)
        self._built.setdefault(query, (candidates, features))
        return features

    def _of_articles(self, query: Query, rows: Ints) -> Floats:
        known = self._built.get(query)
        if known is not None:
            whole = known[0].item_idx
            order = np.argsort(whole)
            place = order[np.minimum(np.searchsorted(whole, rows, sorter=order), len(whole) - 1)]
            if (whole[place] == rows).all():
                return known[1].T[:OF_ARTICLES, place]
        return super()._of_articles(query, rows)

    @cached_property
    def _built(self) -> WeakKeyDictionary[Query, tuple[CandidateSet, Floats]]:
        return WeakKeyDictionary()


class SharedCatalog(Catalog):
    """A catalogue that remembers the customers it was asked about last.

    A state is known by its object, and stands for the vector too: whoever asks again gives the same.
    """

    @classmethod
    def of(cls, catalog: Catalog) -> Catalog:
        return cls(**{field.name: getattr(catalog, field.name) for field in fields(catalog)})

    @cached_property
    def features(self) -> FeatureBuilder:
        return SharedFeatures(self.items, self.statistics, self.vectors, self.factors, self.content)

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        return tuple(s if isinstance(s, RememberedSource) else RememberedSource(s) for s in super().sources)

    @cached_property
    def scoring(self) -> tuple[ScoringSource, ...]:
        return tuple(RememberedScoring(source) for source in super().scoring)

    def query(self, state: CustomerState | None, vector: Floats, segment: str | None, as_of: int) -> Query:
        key = (id(state), segment, as_of)
        if key in self._queries:
            self._queries.move_to_end(key)
            return self._queries[key][1]
        query = super().query(state, vector, segment, as_of)
        self._queries[key] = state, query  # the state is held, so that its id stays its own
        if len(self._queries) > REMEMBERED:
            self._queries.popitem(last=False)
        return query

    @cached_property
    def _queries(self) -> OrderedDict[tuple[int, str | None, int], tuple[CustomerState | None, Query]]:
        return OrderedDict()


def _same(one: CandidateSet, other: CandidateSet) -> bool:
    return np.array_equal(one.item_idx, other.item_idx) and np.array_equal(one.ranks, other.ranks)
