"""Which articles go together, counted from baskets and from what follows within a week."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from offline.histories import item_column
from serving.history import INTEREST
from serving.items import ItemTable
from serving.retrieval.covisitation import Neighbours
from streams.distinct import distinct
from streams.encoder import MICROS_A_DAY
from streams.histories import Histories

DAYS = 91.0  # how far back occasions count
FADE_DAYS = 60.0  # and how their weight fades: exp(-age / 60 d)
OCCASION_DAYS = 7.0  # acts of one customer within the same week make one occasion: basket and sequence in one
NEIGHBOURS = 60
LARGEST = 500  # articles: a crawler or a wholesaler, of whom pairs say nothing and cost the square
PRIOR = 3.0  # occasions: an article seen once has no certain companions


def build_neighbours(histories: Histories, items: ItemTable, cut: int) -> Neighbours:
    """Conditional weights from events strictly before `cut` (microseconds).

    w(i, j) = sum over occasions with both of fade / sqrt(size - 1), over (PRIOR + occasions with i, faded).
    A large basket says less about each of its pairs, so it counts by the root of its size.
    """
    n = len(items)
    column = item_column(histories, items)
    age = (cut - histories.occurred_at) / MICROS_A_DAY
    use = (age > 0) & (age <= DAYS) & (column >= 0) & (INTEREST[histories.types] > 0)
    if not use.any():
        return Neighbours(np.zeros(n + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    item, age, customer = column[use], age[use], histories.customer_rows[use]
    weeks = int(DAYS // OCCASION_DAYS) + 1
    _, occasion = np.unique(customer * weeks + (age // OCCASION_DAYS).astype(np.int64), return_inverse=True)
    fade = np.zeros(int(np.max(occasion)) + 1)
    np.maximum.at(fade, occasion, np.exp(-age / FADE_DAYS))
    pairs = distinct(occasion * n + item)
    baskets = sparse.csr_matrix((np.ones(len(pairs), np.float32), (pairs // n, pairs % n)), shape=(len(fade), n))
    usual = np.diff(baskets.indptr) <= LARGEST
    baskets, fade = baskets[usual], fade[usual]
    size = np.diff(baskets.indptr)
    weight = fade / np.sqrt(np.maximum(size - 1, 1))
    together = (baskets.T @ sparse.diags(weight.astype(np.float32)) @ baskets).tocsr()
    together.setdiag(0)
    together.eliminate_zeros()
    seen = np.asarray(baskets.T @ fade).ravel()
    rows = np.repeat(np.arange(n), np.diff(together.indptr))
    return _strongest(rows, together.indices, together.data / (seen[rows] + PRIOR), n)


def _strongest(
    rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int32], weights: npt.NDArray[np.float64], n: int
) -> Neighbours:
    """The NEIGHBOURS largest weights of each row, `rows` ascending; of equal ones the first article."""
    start = np.searchsorted(rows, np.arange(n + 1))
    # Of most pairs it is enough to know that others weigh more; sorting all of them took most of the time.
    heavy = np.ones(len(rows), np.bool_)
    for row in np.flatnonzero(np.diff(start) > NEIGHBOURS).tolist():
        mine = slice(start[row], start[row + 1])
        heavy[mine] = weights[mine] >= np.partition(weights[mine], -NEIGHBOURS)[-NEIGHBOURS]
    rows, columns, weights = rows[heavy], columns[heavy], weights[heavy]
    order = np.lexsort((columns, -weights, rows))
    rows, columns, weights = rows[order], columns[order], weights[order]
    start = np.searchsorted(rows, np.arange(n + 1))
    kept = np.arange(len(rows)) - start[rows] < NEIGHBOURS
    counts = np.bincount(rows[kept], minlength=n)
    return Neighbours(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        columns[kept].astype(np.int32),
        weights[kept].astype(np.float32),
    )
