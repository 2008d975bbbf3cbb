"""Rank features: the one point-in-time function that live requests, batch and ranking training share.

One row a candidate. Nothing here reads a clock, a store or a label; everything comes from the customer's history before
`as_of`, the bundle's statistics at its cut, and retrieval. Counts and days enter as log1p, so that the network sees
habits of a week and of a year on one scale; a value that does not exist is NEVER (days) or 0 (counts).
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from serving.history import History
from serving.items import ItemTable
from serving.retrieval.candidates import UNRANKED, CandidateSet, Floats, Query
from serving.statistics import ItemStatistics

NEVER = 1_000.0  # days; farther than any history reaches
SOURCES = ("repurchase", "popular", "two_tower")

FEATURES = (
    # customer x article
    "bought",
    "bought_count",
    "bought_count_30d",
    "bought_count_90d",
    "bought_decayed",
    "bought_decayed_14d",
    "bought_last_days",
    "bought_first_days",
    "bought_share",
    "bought_trips",
    "trip_share",
    "own_interval_days",
    "own_due",
    "item_interval_days",
    "item_due",
    "bought_last_trip",
    # customer x group of articles
    "subcategory_count",
    "subcategory_decayed",
    "subcategory_last_days",
    "subcategory_bought_share",
    "category_share",
    "category_last_days",
    "brand_share",
    "price_to_habit",
    # article
    "sold_7d",
    "sold_28d",
    "sold_91d",
    "sold_trend",
    "buyers_91d",
    "repeat_rate",
    "last_sold_days",
    "segment_lift",
    "price",
    # customer
    "trips",
    "trips_30d",
    "last_trip_days",
    "trip_interval_days",
    "trip_due",
    "basket_size",
    "explored",
    # retrieval
    "two_tower_cosine",
    "repurchase_rank",
    "popular_rank",
    "two_tower_rank",
    "found_by",
)


def feature_hash() -> str:
    """Identity of the feature contract: a bundle trained on other features or another order is refused."""
    return hashlib.sha256("\n".join(FEATURES).encode()).hexdigest()[:16]


class FeatureBuilder:
    """Features over one bundle's items. `vectors`: float32[n, d] unit article vectors."""

    def __init__(self, items: ItemTable, statistics: ItemStatistics, vectors: Floats) -> None:
        self._vectors = vectors
        self._statistics = statistics
        self._log_price = np.log1p(np.nan_to_num(items.prices, nan=0.0))
        self._groups = {name: items.codes[name] for name in ("subcategory", "category", "brand")}
        self._sizes = {name: len(items.labels[name]) + 1 for name in self._groups}
        s = statistics
        per_week = s.sold_28d / 4
        self._item = np.stack(
            [
                np.log1p(s.sold_7d),
                np.log1p(s.sold_28d),
                np.log1p(s.sold_91d),
                np.log((s.sold_7d + 1) / (per_week + 1)),
                np.log1p(s.buyers_91d),
                s.repeat_rate,
                np.log1p(s.last_sold),
            ]
        ).astype(np.float32)
        self._interval = np.nan_to_num(s.interval, nan=NEVER).astype(np.float64)

    def build(self, query: Query, candidates: CandidateSet) -> Floats:
        """float32[C, F] in the order of FEATURES, finite everywhere."""
        history, rows = query.history, candidates.item_idx
        out = np.empty((len(FEATURES), len(rows)), np.float32)
        out[0:16] = self._own(history, rows)
        out[16:24] = self._group(history, rows)
        out[24:31] = self._item[:, rows]
        share = self._statistics.segment_share
        out[31] = np.log((share[query.segment, rows] + 1e-6) / (share[0, rows] + 1e-6))
        out[32] = self._log_price[rows]
        out[33:40] = np.array(_trips(history), np.float32)[:, None]
        out[40] = self._vectors[rows] @ query.vector
        out[41:44] = np.log1p(candidates.ranks.T)
        out[44] = (candidates.ranks < UNRANKED).sum(axis=1)
        return out.T

    def _own(self, history: History, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Features of the customer's own purchases of exactly these articles, float64[16, C]."""
        place, known = _lookup(history.items, rows)
        n = len(history.items)

        def by_item(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            sums = np.bincount(_inverse(history), weights=weights, minlength=n).astype(np.float64)
            return _gather(sums, place, known, 0.0)

        count = _gather(history.count, place, known, 0.0)
        decayed = _gather(history.decayed, place, known, 0.0)
        last = _gather(history.last_age, place, known, NEVER)
        first = _gather(history.first_age, place, known, NEVER)
        days, trips_by_item, trips = _trip_counts(history)
        on_trips = _gather(trips_by_item, place, known, 0.0)
        own_interval = np.where(on_trips > 1, (first - last) / np.maximum(on_trips - 1, 1), NEVER)
        item_interval = self._interval[rows]
        return np.stack(
            [
                known.astype(np.float64),
                np.log1p(count),
                np.log1p(by_item((history.ages < 30).astype(np.float64))),
                np.log1p(by_item((history.ages < 90).astype(np.float64))),
                decayed,
                by_item(np.exp(-history.ages / 14)),
                np.log1p(last),
                np.log1p(first),
                count / max(len(history), 1),
                np.log1p(on_trips),
                on_trips / max(trips, 1),
                np.log1p(own_interval),
                _due(last, own_interval),
                np.log1p(item_interval),
                _due(last, item_interval),
                (known & (last <= (days[0] + 1e-9 if len(days) else -1.0))).astype(np.float64),
            ]
        )

    def _group(self, history: History, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Features of purchases in the candidate's subcategory, category and brand, float64[8, C]."""
        total = max(len(history), 1)
        decay = np.exp(-history.ages / 60)
        counts, lasts = {}, {}
        for name, codes in self._groups.items():
            past = codes[history.item_idx] + 1  # 0 = missing
            counts[name] = np.bincount(past, minlength=self._sizes[name]).astype(np.float64)
            last = np.full(self._sizes[name], NEVER)
            np.minimum.at(last, past, history.ages)
            lasts[name] = last
        sub = self._groups["subcategory"][rows] + 1
        category = self._groups["category"][rows] + 1
        brand = self._groups["brand"][rows] + 1
        past_sub = self._groups["subcategory"][history.item_idx] + 1
        sub_decayed = np.bincount(past_sub, weights=decay, minlength=self._sizes["subcategory"])
        place, known = _lookup(history.items, rows)
        count = _gather(history.count, place, known, 0.0)
        priced = history.prices[~np.isnan(history.prices)]
        habit = float(np.log1p(np.maximum(priced, 0)).mean()) if len(priced) else 0.0
        return np.stack(
            [
                np.log1p(counts["subcategory"][sub]),
                sub_decayed[sub],
                np.log1p(lasts["subcategory"][sub]),
                count / np.maximum(counts["subcategory"][sub], 1),
                counts["category"][category] / total,
                np.log1p(lasts["category"][category]),
                counts["brand"][brand] / total,
                self._log_price[rows] - habit,
            ]
        )


def _lookup(
    items: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Place of each row among the sorted items, and whether it stands there."""
    if not len(items):
        return np.zeros(len(rows), np.int64), np.zeros(len(rows), np.bool_)
    place = np.minimum(np.searchsorted(items, rows), len(items) - 1)
    return place, items[place] == rows


def _gather(
    values: npt.NDArray[np.float64],
    place: npt.NDArray[np.int64],
    known: npt.NDArray[np.bool_],
    otherwise: float,
) -> npt.NDArray[np.float64]:
    if not len(values):
        return np.full(len(place), otherwise)
    return np.where(known, values[place], otherwise)


def _inverse(history: History) -> npt.NDArray[np.int64]:
    return np.searchsorted(history.items, history.item_idx)


def _due(last: npt.NDArray[np.float64], interval: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """log of days since the last purchase over the usual interval, in [-4, 4]; 0 = due today. -4 where never bought."""
    ratio = np.log((last + 0.5) / (interval + 0.5))
    return np.where(last >= NEVER, -4.0, np.clip(ratio, -4.0, 4.0))


def _trip_counts(history: History) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], int]:
    """Trips are distinct purchase times. (ages of trips ascending, trips by article, number of trips)."""
    days = np.unique(history.ages)
    if not len(days):
        return days, np.empty(0), 0
    trip = np.searchsorted(days, history.ages)
    pairs = np.unique(_inverse(history) * len(days) + trip)
    return days, np.bincount(pairs // len(days), minlength=len(history.items)).astype(np.float64), len(days)


def _trips(history: History) -> tuple[float, ...]:
    """The customer's rhythm: seven numbers, equal for all candidates."""
    days, _, trips = _trip_counts(history)
    if not trips:
        return (0.0, 0.0, float(np.log1p(NEVER)), float(np.log1p(NEVER)), -4.0, 0.0, 0.0)
    interval = (days[-1] - days[0]) / (trips - 1) if trips > 1 else NEVER
    due = _due(np.array([days[0]]), np.array([interval]))[0]
    return (
        float(np.log1p(trips)),
        float(np.log1p((days < 30).sum())),
        float(np.log1p(days[0])),
        float(np.log1p(interval)),
        float(due),
        float(np.log1p(len(history) / trips)),
        len(history.items) / len(history),
    )
