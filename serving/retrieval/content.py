"""Articles that look and read like what the customer acted on: the source that reaches what nobody has bought yet.

Near neighbours among all articles have mostly been sold, and those never sold are mostly gone for good. So two places
of three are kept for never-sold articles, by likeness and by how likely their kind is to find its first buyer.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from itertools import chain, zip_longest

import numpy as np

from serving.history import History
from serving.index import VectorIndex
from serving.retrieval.candidates import Floats, Found, Ints, best
from serving.retrieval.nearest import nearest
from serving.retrieval.query import Query

INTEREST_DAYS = 60.0
NEW = 5_000  # never-sold articles, the likeliest, among which likeness decides
# Weight of the cosine beside the log of the relative chance: the best of 0, 1, 2 on H&M, cut of 19 September.
LIKENESS = 2.0


def taste_of(history: History, vectors: Floats) -> Floats:
    """Unit mean of the content vectors acted on, weighted by interest; zero where none has one. float32[d]."""
    acted, interest = history.interest(INTEREST_DAYS)
    mean = interest.astype(np.float32) @ vectors[acted]
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)


class Content:
    """vectors: float32[n, d] unit rows, zero where an article has neither text nor picture · debut: float32[n] relative
    chance of a first purchase, 0 for articles sold before."""

    name = "content"

    def __init__(self, vectors: Floats, debut: Floats) -> None:
        self._vectors = vectors
        self._index = VectorIndex.build(vectors)
        likeliest, _ = best(np.arange(len(debut)), debut, NEW)
        self._new = likeliest[debut[likeliest] > 0]
        self._new_vectors = vectors[self._new]
        self._log_debut = np.log(debut[self._new])
        self._later = np.empty(0, np.int64)

    def extended(self, vectors: Floats, debut: Floats, later: Ints) -> Content:
        """The same over more articles: `later` are the rows beyond the index that count, searched beside it."""
        extended = copy(self)
        extended._vectors, extended._later = vectors, later
        extended._new = np.concatenate([self._new, later[debut[later] > 0]])
        extended._new_vectors = vectors[extended._new]
        extended._log_debut = np.log(debut[extended._new])
        return extended

    def retrieve(self, queries: Sequence[Query], k: int) -> list[Found]:
        """Scores are cosines; the order is that of the two lists in turn. A customer without a taste gets the likeliest
        of the new articles."""
        near = nearest(self._index, [query.taste for query in queries], k)
        if len(self._later):
            near = [self._beside(query, found, k) for query, found in zip(queries, near, strict=True)]
        return [self._interleaved(query, found, k) for query, found in zip(queries, near, strict=True)]

    def score(self, query: Query, rows: Ints) -> Floats:
        return np.asarray(self._vectors[rows] @ query.taste, np.float32)

    def _beside(self, query: Query, found: Found, k: int) -> Found:
        """The k nearest of what the index found and of the later articles; none for a customer without a taste."""
        if not query.taste.any():
            return found
        rows = np.concatenate([found[0], self._later])
        return best(rows, np.concatenate([found[1], self.score(query, self._later)]), k)

    def _interleaved(self, query: Query, near: Found, k: int) -> Found:
        new, _ = best(self._new, self._log_debut + LIKENESS * (self._new_vectors @ query.taste), -(-2 * k // 3))
        turns = chain.from_iterable(zip_longest(new[::2].tolist(), near[0].tolist(), new[1::2].tolist()))
        rows = np.array(list(dict.fromkeys(row for row in turns if row is not None))[:k], np.int64)
        return rows, self.score(query, rows)
