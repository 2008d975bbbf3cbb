"""What goes with it: articles that others bought together with, or soon after, what the customer acted on.

Weights are conditional: of the weighted occasions that had article i, the share that had j too. They favour what many
take along, which on Complete Journey finds more than a cosine does (recall@100 0.27 against 0.22, week of 2017-12-17).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from infra.errors import BundleError
from serving.history import History
from serving.retrieval.candidates import Floats, Found, Ints, best
from serving.retrieval.query import Query

INTEREST_DAYS = 60.0


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Compressed rows: the neighbours of article i are items[start[i]:start[i + 1]] with their weights.

    start: int64[n + 1] · items: int32[m] · weights: float32[m].
    """

    start: Ints
    items: npt.NDArray[np.int32]
    weights: Floats

    def of(self, history: History) -> tuple[Ints, Floats, Floats]:
        """Articles related to a history, ascending, with the sum and the largest of interest x weight."""
        acted, interest = history.interest(INTEREST_DAYS)
        starts, ends = self.start[acted], self.start[acted + 1]
        sizes = ends - starts
        total = int(sizes.sum())
        if not total:
            return np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.float32)
        places = np.arange(total) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(starts, sizes)
        # Buying an article ten times says little more about its companions than buying it once.
        weighted = self.weights[places] * np.repeat(np.minimum(interest, 1.0), sizes)
        items = self.items[places]
        # Sums over the articles met, not over the catalogue, of which they are a few in a thousand.
        met = np.zeros(len(self.start) - 1, np.bool_)
        met[items] = True
        related = np.flatnonzero(met)
        place = np.empty(len(met), np.int64)
        place[related] = np.arange(len(related))
        inverse = place[items]
        summed = np.bincount(inverse, weights=weighted)
        largest = np.zeros(len(related), np.float32)
        np.maximum.at(largest, inverse, weighted.astype(np.float32))
        some = summed != 0
        return related[some], summed[some].astype(np.float32), largest[some]

    def strongest(self, history: History, rows: Ints) -> Ints:
        """For each of `rows`, int64[R], the article acted on whose interest x weight it has most of; -1 where it goes
        with none."""
        acted, interest = history.interest(INTEREST_DAYS)
        starts, sizes = self.start[acted], self.start[acted + 1] - self.start[acted]
        of = np.repeat(np.arange(len(acted)), sizes)
        places = np.arange(len(of)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(starts, sizes)
        items = self.items[places]
        found = np.full(len(rows), -1, np.int64)
        for n, row in enumerate(rows.tolist()):
            mine = np.flatnonzero(items == row)
            if len(mine):
                weights = self.weights[places[mine]] * np.minimum(interest[of[mine]], 1.0)
                found[n] = acted[of[mine[np.argmax(weights)]]]
        return found

    def save(self, path: Path) -> None:
        np.savez(path, start=self.start, items=self.items, weights=self.weights)

    @classmethod
    def load(cls, path: Path, n_items: int) -> Neighbours:
        """Read with pickle off.

        Raises:
            BundleError: an array is missing, or the rows are not those of `n_items` articles.
        """
        with np.load(path, allow_pickle=False) as stored:
            missing = {"start", "items", "weights"} - set(stored.files)
            if missing:
                raise BundleError(f"{path.name} lacks {', '.join(sorted(missing))}")
            start, items, weights = stored["start"], stored["items"], stored["weights"]
        if len(start) != n_items + 1 or start[-1] != len(items) or len(items) != len(weights):
            raise BundleError(f"{path.name} holds neighbours of {len(start) - 1} items, items.parquet {n_items} rows")
        if len(items) and int(items.max()) >= n_items:
            raise BundleError(f"{path.name} names row {items.max()} of {n_items} items")
        return cls(start, items, weights)


class CoVisitation:
    name = "covisitation"

    def retrieve(self, queries: Sequence[Query], k: int) -> list[Found]:
        found = [query.related for query in queries]
        return [best(items, summed, k) for items, summed, _ in found]
