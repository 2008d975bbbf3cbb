"""Articles that look and read like what the customer acted on: the source that reaches what nobody has bought yet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.history import History
from serving.index import VectorIndex
from serving.retrieval.candidates import Floats, Found, Ints
from serving.retrieval.nearest import nearest
from serving.retrieval.query import Query

INTEREST_DAYS = 30.0


def taste_of(history: History, vectors: Floats) -> Floats:
    """Unit mean of the content vectors acted on, weighted by interest; zero where none has one. float32[d]."""
    acted, interest = history.interest(INTEREST_DAYS)
    mean = interest.astype(np.float32) @ vectors[acted]
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)


class Content:
    """vectors: float32[n, d] unit rows, zero where an article has neither text nor picture."""

    name = "content"

    def __init__(self, vectors: Floats) -> None:
        self._vectors = vectors
        self._index = VectorIndex.build(vectors)

    def retrieve(self, queries: Sequence[Query], k: int) -> list[Found]:
        return nearest(self._index, [query.taste for query in queries], k)

    def score(self, query: Query, rows: Ints) -> Floats:
        return np.asarray(self._vectors[rows] @ query.taste, np.float32)
