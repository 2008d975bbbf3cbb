"""The same product in another colour or size: articles that share a product_code with what the customer acted on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.items import ItemTable
from serving.retrieval.candidates import NOTHING, Found, Ints, best
from serving.retrieval.query import Query
from serving.statistics import ItemStatistics
from streams.distinct import among_ascending

# A customer comes back for another colour within days, not months.
INTEREST_DAYS = 14.0


class Variants:
    """Score: interest in the product, times the article's share of the product's recent sales (plus one)."""

    name = "variants"

    def __init__(self, items: ItemTable, statistics: ItemStatistics) -> None:
        self._product = items.products
        self._members, self._start = members(items.products)
        self._sold = statistics.sold_28d.astype(np.float64) + 1.0

    def retrieve(self, queries: Sequence[Query], k: int) -> list[Found]:
        return [self._one(query, k) for query in queries]

    def _one(self, query: Query, k: int) -> Found:
        acted, interest = query.history.interest(INTEREST_DAYS)
        named = self._product[acted] >= 0
        if not named.any():
            return NOTHING
        products, inverse = np.unique(self._product[acted[named]], return_inverse=True)
        wanted = np.bincount(inverse, weights=interest[named])
        starts, ends = self._start[products], self._start[products + 1]
        sizes = ends - starts
        of = np.repeat(np.arange(len(products)), sizes)
        rows = self._members[np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes) + starts[of]]
        share = self._sold[rows] / np.bincount(of, weights=self._sold[rows])[of]
        other = ~among_ascending(rows, acted)
        return best(rows[other], (wanted[of] * share)[other], k)


def members(products: Ints) -> tuple[Ints, Ints]:
    """Articles grouped by product: (rows int64[named articles], start int64[products + 1])."""
    named = np.flatnonzero(products >= 0)
    rows = named[np.argsort(products[named], kind="stable")]
    n = int(np.max(products, initial=-1)) + 1
    return rows, np.searchsorted(products[rows], np.arange(n + 1))
