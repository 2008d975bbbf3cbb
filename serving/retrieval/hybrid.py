"""The classic blend, kept as a baseline: a weighted sum of scores, each brought to 0..1 among all candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from serving.retrieval.candidates import NOTHING, Floats, Found, best
from serving.retrieval.query import Query
from serving.retrieval.source import ScoringSource
from streams.distinct import distinct


class Hybrid:
    """`parts` by name and the weight of each; the weights come from the bundle."""

    name = "hybrid"

    def __init__(self, parts: Sequence[ScoringSource], weights: Mapping[str, float]) -> None:
        self._parts = [(part, weights[part.name]) for part in parts]

    def retrieve(self, queries: Sequence[Query], k: int) -> list[Found]:
        found = zip(*(part.retrieve(queries, k) for part, _ in self._parts), strict=True)
        return [self._blend(query, lists, k) for query, lists in zip(queries, found, strict=True)]

    def _blend(self, query: Query, lists: Sequence[Found], k: int) -> Found:
        rows = distinct(np.concatenate([items for items, _ in lists]))
        if query.cold or not len(rows):
            return NOTHING
        total = np.zeros(len(rows), np.float32)
        for (part, weight), (items, _) in zip(self._parts, lists, strict=True):
            # A part that found nothing has no say.
            if len(items):
                total += weight * _to_unit(part.score(query, rows))
        return best(rows, total, k)


def _to_unit(scores: Floats) -> Floats:
    low, high = float(np.min(scores)), float(np.max(scores))
    return np.asarray((scores - low) / max(high - low, 1e-12), np.float32)
