"""Articles nearest to the customer's embedding; nothing for a customer without one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.index import VectorIndex
from serving.retrieval.candidates import Floats, Found, Ints
from serving.retrieval.nearest import nearest
from serving.retrieval.query import Query


class TwoTower:
    name = "two_tower"

    def __init__(self, index: VectorIndex, vectors: Floats) -> None:
        self._index = index
        self._vectors = vectors

    def retrieve(self, queries: Sequence[Query], k: int) -> list[Found]:
        return nearest(self._index, [query.vector for query in queries], k)

    def score(self, query: Query, rows: Ints) -> Floats:
        return np.asarray(self._vectors[rows] @ query.vector, np.float32)
