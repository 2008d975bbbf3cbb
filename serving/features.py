"""Rank features: the one point-in-time function that live requests, batch and ranking training share.

One row a candidate. Nothing here reads a clock, a store or a label; everything comes from the customer's history before
`as_of`, the bundle's statistics at its cut, and retrieval. Counts and days enter as log1p, so that the network sees
habits of a week and of a year on one scale; a value that does not exist is NEVER (days, trips) or 0 (counts), and days
beyond NEVER read as just below it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from serving.history import History
from serving.items import ItemTable
from serving.retrieval.candidates import UNRANKED, CandidateSet, Floats, Ints
from serving.retrieval.collaborative import Factors
from serving.retrieval.query import Query
from serving.retrieval.repurchase import due_lift, faded
from serving.rhythm import LATELY, NEVER, Doubles, Trips, customer_rhythm, due, happened, interval, trips_of
from serving.statistics import ItemStatistics
from streams.distinct import distinct
from streams.events import CART, VIEW

LOOKED_AT = 16  # newest acts whose closest content counts


class FeatureBuilder:
    """Features over one bundle's items.

    Args:
        vectors: float32[n, d] unit article vectors of the two-tower. content: float32[n, c] unit content vectors.
    """

    def __init__(
        self, items: ItemTable, statistics: ItemStatistics, vectors: Floats, factors: Factors, content: Floats
    ) -> None:
        self._vectors = vectors
        self._factors = factors.items
        self._content = content
        self._segment_share = statistics.segment_share
        self._log_price = np.log1p(np.nan_to_num(items.prices, nan=0.0)).astype(np.float64)
        self._groups = {name: items.codes[name].astype(np.int64) + 1 for name in ("subcategory", "category", "brand")}
        self._groups["product"] = items.products + 1
        self._sizes = {name: int(np.max(codes, initial=0)) + 1 for name, codes in self._groups.items()}
        self._item = _item_columns(items, statistics)
        self._interval = np.nan_to_num(happened(statistics.interval), nan=NEVER)

    def build(self, query: Query, candidates: CandidateSet) -> Floats:
        """float32[C, F] in the order of FEATURES, finite everywhere."""
        blocks = (self._of_articles(query, candidates.item_idx), self._of_retrieval(query, candidates))
        return np.concatenate(blocks, dtype=np.float32).T

    def _of_articles(self, query: Query, rows: Ints) -> Floats:
        """All but RETRIEVAL, float32[., C]: a column depends on its article alone, not on who found it or what else is
        there."""
        history = query.history
        trips = trips_of(history)
        at = _Lookup(history.items, rows)
        blocks = (
            self._own(history, trips, at, rows),
            self._group(history, trips, at, rows),
            self._item[:, rows],
            self._lift(query.segment, rows)[None],
            np.repeat(np.array(customer_rhythm(history, trips))[:, None], len(rows), axis=1),
        )
        return np.concatenate(blocks, dtype=np.float32)

    def _lift(self, segment: int, rows: Ints) -> Floats:
        share = self._segment_share
        return np.asarray(np.log((share[segment, rows] + 1e-6) / (share[0, rows] + 1e-6)))

    def _own(self, history: History, trips: Trips, at: _Lookup, rows: Ints) -> Doubles:
        """What the customer did with exactly these articles, float64[len(OWN), C]."""
        inverse = history.place

        def summed(weights: Doubles) -> Doubles:
            return at(_sums(inverse, weights, len(history.items)), 0.0)

        count = at(history.count, 0.0)
        last, first = at(happened(history.last_age), NEVER), at(happened(history.first_age), NEVER)
        rhythm = trips.rhythm(inverse, len(history.items))
        on_trips, since = at(rhythm.trips, 0.0), at(rhythm.newest, NEVER)
        lately = [
            at(count, 0.0) / max(min(last, len(trips)), 1) for last, count in zip(LATELY, rhythm.lately, strict=True)
        ]
        trip_interval = interval(at(rhythm.oldest, NEVER), since, on_trips)
        own_interval = interval(at(history.first_age, NEVER), at(history.last_age, NEVER), on_trips)
        item_interval = self._interval[rows]
        return np.stack(
            [
                at.known.astype(np.float64),
                np.log1p(count),
                *(np.log1p(summed((history.ages < days).astype(np.float64))) for days in (7, 30, 90)),
                at(history.decayed, 0.0),
                summed(np.exp(-history.ages / 14)),
                summed(faded(history.ages)) * at(due_lift(history), 1.0),
                np.log1p(last),
                np.log1p(first),
                count / max(len(history), 1),
                np.log1p(on_trips),
                on_trips / max(len(trips), 1),
                *lately,
                np.log1p(since),
                np.log1p(trip_interval),
                due(since, trip_interval),
                np.log1p(own_interval),
                due(last, own_interval),
                np.log1p(item_interval),
                due(last, item_interval),
                self._price_to_paid(history, at, rows),
                *_looked_at(history, rows),
            ]
        )

    def _price_to_paid(self, history: History, at: _Lookup, rows: Ints) -> Doubles:
        """log of the price now over the price last paid for the same article; 0 where either is unknown."""
        paid = np.full(len(history.items), np.nan)
        # In time order, so the newest stays.
        paid[history.place] = history.prices
        before = at(np.log1p(np.maximum(paid, 0)), np.nan)
        now = np.where(self._log_price[rows] > 0, self._log_price[rows], np.nan)
        return np.nan_to_num(now - before, nan=0.0)

    def _group(self, history: History, trips: Trips, at: _Lookup, rows: Ints) -> Doubles:
        """What the customer bought of the candidates' groups, float64[len(GROUP), C]."""
        total = max(len(history), 1)
        past = {name: codes[history.item_idx] for name, codes in self._groups.items()}
        mine = {name: codes[rows] for name, codes in self._groups.items()}

        # Group 0 is "missing", which is nothing that two articles have in common.
        def counted(name: str, weights: Doubles) -> Doubles:
            return np.where(mine[name] > 0, _sums(past[name], weights, self._sizes[name])[mine[name]], 0.0)

        def last(name: str) -> Doubles:
            ages = np.full(self._sizes[name], NEVER)
            np.minimum.at(ages, past[name], happened(history.ages))
            return np.where(mine[name] > 0, ages[mine[name]], NEVER)

        count, once = at(history.count, 0.0), np.ones(len(history))
        subcategories = counted("subcategory", once)
        rhythm = trips.rhythm(past["subcategory"], self._sizes["subcategory"])
        sub = mine["subcategory"]
        sub_trips = np.where(sub > 0, rhythm.trips[sub], 0.0)
        sub_since = np.where(sub > 0, rhythm.newest[sub], NEVER)
        sub_interval = interval(rhythm.oldest[sub], sub_since, sub_trips)
        # Variants of the article, not the article itself; without a product code there are none.
        other = np.where(mine["product"] > 0, counted("product", once) - count, 0.0)
        priced = history.prices[~np.isnan(history.prices)]
        price = self._log_price[rows]
        habit = float(np.log1p(np.maximum(priced, 0)).mean()) if len(priced) else np.nan
        return np.stack(
            [
                np.log1p(subcategories),
                counted("subcategory", np.exp(-history.ages / 60)),
                np.log1p(last("subcategory")),
                count / np.maximum(subcategories, 1),
                sub_trips / max(len(trips), 1),
                due(sub_since, sub_interval),
                counted("category", once) / total,
                np.log1p(last("category")),
                counted("brand", once) / total,
                np.log1p(other),
                np.log1p(last("product")),
                np.nan_to_num(np.where(price > 0, price - habit, 0.0), nan=0.0),
            ]
        )

    def _of_retrieval(self, query: Query, candidates: CandidateSet) -> Doubles:
        rows = candidates.item_idx
        items, summed, largest = query.related
        related = _Lookup(items, rows)
        recent = distinct(query.history.acts[-LOOKED_AT:])
        content = self._content[rows]
        nearest = (content @ self._content[recent].T).max(axis=1) if len(recent) else np.zeros(len(rows))
        return np.stack(
            [
                self._vectors[rows] @ query.vector,
                self._factors[rows] @ query.factors,
                content @ query.taste,
                nearest,
                related(summed, 0.0),
                related(largest, 0.0),
                *np.log1p(candidates.ranks.T),
                (candidates.ranks < UNRANKED).sum(axis=1),
            ]
        )


class _Lookup:
    """Values kept by sorted article, for the candidates."""

    def __init__(self, items: Ints, rows: Ints) -> None:
        if len(items):
            self._place = np.minimum(np.searchsorted(items, rows), len(items) - 1)
            self.known = items[self._place] == rows
        else:
            self._place = np.zeros(len(rows), np.int64)
            self.known = np.zeros(len(rows), np.bool_)

    def __call__(self, values: npt.NDArray[np.floating], otherwise: float) -> Doubles:
        if not len(values):
            return np.full(len(self._place), otherwise)
        return np.where(self.known, values[self._place], otherwise)


def _sums(group: Ints, weights: Doubles, n: int) -> Doubles:
    return np.bincount(group, weights=weights, minlength=n).astype(np.float64, copy=False)


def _item_columns(items: ItemTable, s: ItemStatistics) -> Floats:
    """All of ITEM but the segment's lift, float32[len(ITEM) - 1, n]."""
    now, usual = np.log1p(s.price_7d), np.log1p(items.prices)
    return np.stack(
        [
            np.log1p(s.sold_1d),
            np.log1p(s.sold_3d),
            np.log1p(s.sold_7d),
            np.log1p(s.sold_28d),
            np.log1p(s.sold_91d),
            np.log((s.sold_7d + 1) / (s.sold_28d / 4 + 1)),
            np.log((s.sold_1d + 1) / (s.sold_3d / 3 + 1)),
            np.log1p(s.buyers_91d),
            s.repeat_rate,
            np.log1p(s.last_sold),
            np.log1p(s.first_sold),
            np.log1p(s.debut),
            np.nan_to_num(usual, nan=0.0),
            np.nan_to_num(now - usual, nan=0.0),
        ]
    ).astype(np.float32)


def _looked_at(history: History, rows: Ints) -> list[Doubles]:
    """Views and carts of the candidates: decayed count of views, days since the last view and the last cart."""
    columns = []
    for kind in (VIEW, CART):
        mine = history.act_types == kind
        if not mine.any():
            columns += [np.zeros(len(rows))] * (kind == VIEW) + [np.full(len(rows), np.log1p(NEVER))]
            continue
        items, inverse = np.unique(history.acts[mine], return_inverse=True)
        at = _Lookup(items, rows)
        last = np.full(len(items), NEVER)
        np.minimum.at(last, inverse, happened(history.act_ages[mine]))
        if kind == VIEW:
            decayed = _sums(inverse, np.exp(-history.act_ages[mine] / 14), len(items))
            columns.append(at(decayed, 0.0))
        columns.append(np.log1p(at(last, NEVER)))
    return columns
