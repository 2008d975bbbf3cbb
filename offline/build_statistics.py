"""Items and their statistics as they stood at a cut; everything from events strictly before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from offline.content.debut import debut_rates
from offline.histories import item_column
from serving.history import INTEREST
from serving.items import ATTRIBUTES, ItemTable
from serving.rhythm import NEVER, happened
from serving.statistics import ALL, ItemStatistics
from streams.distinct import distinct
from streams.encoder import MICROS_A_DAY
from streams.events import PURCHASE
from streams.histories import Histories

TOP = 1_000
# Measured on Complete Journey and the H&M week: the popular list is best with a memory of a few days (fashion) to two
# weeks (groceries), and age bands help only when they are held close to everybody's taste.
POPULAR_DAYS = 4.0
SMOOTHING = 10_000.0  # weighed acts of everybody's taste mixed into a segment's
REPEAT_PRIOR = (0.1, 5.0)  # share, buyers: an article with few buyers is taken for an ordinary one


def build_items(articles: pa.Table, histories: Histories, cut: int) -> pa.Table:
    """The bundle's items table: the attributes, and the prices as they stood at the cut."""
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "article_id": articles["article_id"],
        "title": articles["title"],
        "product_code": articles["product_code"],
    }
    columns |= {name: articles[name] for name in ATTRIBUTES}
    columns["price"] = pa.array(prices_at(articles, histories, cut), from_pandas=True)
    return pa.table(columns)


def prices_at(articles: pa.Table, histories: Histories, cut: int) -> npt.NDArray[np.float32]:
    """The price the shop asks, else the (lower) median paid a piece in 91 days before the cut, else nan; float32[n]."""
    ids = articles["article_id"].to_pylist()
    asked = np.asarray(articles["price"].cast(pa.float64()).to_numpy(), np.float64)
    before = (histories.occurred_at < cut) & (histories.occurred_at >= cut - 91 * MICROS_A_DAY)
    before &= histories.types == PURCHASE
    each = histories.prices[before] / np.maximum(histories.quantities[before], 1)
    paid = _median_by(histories.articles[before], each, len(histories.article_ids))
    place = {article: row for row, article in enumerate(histories.article_ids.tolist())}
    habit = np.array([paid[place[i]] if i in place else np.nan for i in ids])
    return np.where(np.isnan(asked), habit, asked).astype(np.float32)


def build_statistics(histories: Histories, items: ItemTable, segments: dict[str, str], cut: int) -> ItemStatistics:
    """Count what was sold, and for popularity what was looked at too, strictly before `cut` (microseconds)."""
    n = len(items)
    column = item_column(histories, items)
    use = (histories.occurred_at < cut) & (histories.types == PURCHASE) & (column >= 0)
    item = column[use]
    age = (cut - histories.occurred_at[use]) / MICROS_A_DAY
    customer = histories.customer_rows[use]

    def sold(days: float) -> npt.NDArray[np.float32]:
        return np.bincount(item[age <= days], minlength=n).astype(np.float32)

    first, last = np.zeros(n), np.full(n, NEVER)
    np.minimum.at(last, item, happened(age))
    np.maximum.at(first, item, happened(age))
    recent = age <= 91
    pairs = distinct(customer[recent] * n + item[recent])
    buyers = np.bincount(pairs % n, minlength=n).astype(np.float32)
    names = [ALL, *sorted(set(segments.values()))]
    of_customer = _segment_of(histories, names, segments)
    of_buyer = of_customer[pairs // n]
    segment_buyers = [np.bincount(pairs[of_buyer == row] % n, minlength=n) for row in range(1, len(names))]
    repeat_rate, interval = _repeats(customer, item, age, n)
    share, top = _segments(histories, len(names), of_customer, column, cut, n)
    return ItemStatistics(
        segments=names,
        sold_1d=sold(1),
        sold_3d=sold(3),
        sold_7d=sold(7),
        sold_28d=sold(28),
        sold_91d=sold(91),
        buyers_91d=buyers,
        repeat_rate=repeat_rate,
        interval=interval,
        first_sold=np.where(last < NEVER, first, NEVER).astype(np.float32),
        last_sold=last.astype(np.float32),
        price_7d=_mean_paid(histories, column, use, cut - 7 * MICROS_A_DAY, n),
        debut=debut_rates(items, histories, cut),
        segment_share=share,
        segment_buyers=np.stack([buyers, *segment_buyers]).astype(np.float32),
        top=top,
    )


def _mean_paid(
    histories: Histories, column: npt.NDArray[np.int64], use: npt.NDArray[np.bool_], start: float, n: int
) -> npt.NDArray[np.float32]:
    """Mean price a piece of the lines in `use` since `start`, nan where an article has none; float32[n]."""
    lately = use & (histories.occurred_at >= start) & ~np.isnan(histories.prices)
    each = histories.prices[lately] / np.maximum(histories.quantities[lately], 1)
    lines = np.bincount(column[lately], minlength=n)
    total = np.bincount(column[lately], weights=each, minlength=n)
    return np.where(lines > 0, total / np.maximum(lines, 1), np.nan).astype(np.float32)


def _repeats(
    customer: npt.NDArray[np.int64], item: npt.NDArray[np.int64], age: npt.NDArray[np.float64], n: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Share of an article's buyers who bought it on another occasion, and the mean days between occasions."""
    order = np.lexsort((-age, item, customer))
    pair = (customer * n + item)[order]
    age = age[order]
    article = item[order]
    same = pair[1:] == pair[:-1]
    gap = age[:-1] - age[1:]
    again = same & (gap > 0)
    repeated_pairs = distinct(pair[1:][again])
    buyers = np.bincount(distinct(pair) % n, minlength=n)
    repeaters = np.bincount(repeated_pairs % n, minlength=n)
    prior, weight = REPEAT_PRIOR
    rate = (repeaters + prior * weight) / (buyers + weight)
    total = np.bincount(article[1:][again], weights=gap[again], minlength=n)
    times = np.bincount(article[1:][again], minlength=n)
    interval = np.where(times > 0, total / np.maximum(times, 1), np.nan)
    return rate.astype(np.float32), interval.astype(np.float32)


def _segment_of(histories: Histories, names: list[str], segments: dict[str, str]) -> npt.NDArray[np.int64]:
    """Row in `names` of each customer's segment, 0 where it is unknown."""
    code = {name: row for row, name in enumerate(names)}
    return np.array([code.get(segments.get(c, ALL), 0) for c in histories.customers], np.int64)


def _segments(
    histories: Histories,
    segments: int,
    of_customer: npt.NDArray[np.int64],
    column: npt.NDArray[np.int64],
    cut: int,
    n: int,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Popularity in each of so many segments: of all acts, each weighed by what its type says of interest."""
    use = (histories.occurred_at < cut) & (column >= 0)
    item, age = column[use], (cut - histories.occurred_at[use]) / MICROS_A_DAY
    interest = INTEREST[histories.types[use]]
    segment = of_customer[histories.customer_rows[use]] if len(item) else item
    month = age <= 28
    recent = np.bincount(item, weights=interest * np.exp(-age / POPULAR_DAYS), minlength=n).astype(np.float64)
    everybody = np.bincount(item[month], weights=interest[month], minlength=n).astype(np.float64)
    base = everybody / max(everybody.sum(), 1e-12)
    share = np.zeros((segments, n), np.float32)
    top = np.zeros((segments, min(TOP, n)), np.int64)
    for row in range(segments):
        mine = month if row == 0 else month & (segment == row)
        counts = np.bincount(item[mine], weights=interest[mine], minlength=n)
        share[row] = (counts + SMOOTHING * base) / (counts.sum() + SMOOTHING)
        score = recent * share[row] / np.maximum(share[0], 1e-12)
        top[row] = np.argsort(-score, kind="stable")[: top.shape[1]]
    return share, top


def _median_by(group: npt.NDArray[np.int32], values: npt.NDArray[np.floating[Any]], n: int) -> npt.NDArray[np.float64]:
    """Median of the finite values of each group, nan where there are none; float64[n]."""
    finite = ~np.isnan(values)
    group, values = group[finite], values[finite]
    order = np.lexsort((values, group))
    group, values = group[order], values[order]
    starts = np.searchsorted(group, np.arange(n))
    ends = np.searchsorted(group, np.arange(n), side="right")
    out = np.full(n, np.nan)
    some = ends > starts
    out[some] = values[(starts[some] + ends[some] - 1) // 2]
    return out
