"""Articles nearest to the customer's embedding; nothing for a customer without one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.index import VectorIndex
from serving.retrieval.candidates import Floats, Ints, Query


class TwoTower:
    name = "two_tower"

    def __init__(self, index: VectorIndex) -> None:
        self._index = index

    def retrieve(self, queries: Sequence[Query], k: int) -> list[tuple[Ints, Floats]]:
        nothing = (np.empty(0, np.int64), np.empty(0, np.float32))
        if not queries:
            return []
        rows, scores = self._index.search(np.stack([query.vector for query in queries]), k)
        found = []
        for query, items, values in zip(queries, rows, scores, strict=True):
            known = items >= 0
            found.append((items[known], values[known]) if query.vector.any() else nothing)
        return found
