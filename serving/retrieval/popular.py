"""What met most interest in the days before the cut, by the taste of the customer's segment where it is known.

Purchases, carts and views count by what each says of interest (serving/history.py); where only purchases are known,
this is what sold most.
"""

from __future__ import annotations

from collections.abc import Sequence

from serving.retrieval.candidates import Found
from serving.retrieval.query import Query
from serving.statistics import ItemStatistics


class Popular:
    name = "popular"

    def __init__(self, statistics: ItemStatistics) -> None:
        self._statistics = statistics

    def retrieve(self, queries: Sequence[Query], k: int) -> list[Found]:
        statistics = self._statistics
        found = []
        for query in queries:
            rows = statistics.top[query.segment, :k]
            found.append((rows, statistics.segment_share[query.segment, rows]))
        return found
