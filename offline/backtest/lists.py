"""The lists of a sealed step as rows of the log's articles, all contenders over the same customers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import DataError
from offline.backtest.known import Articles, Mask
from offline.metrics import Floats, Ints
from offline.truth import Truth


@dataclass(frozen=True, eq=False)
class Lists:
    """customers: sorted ids, who were asked · shown: contender -> int64[n, k] rows of the articles, best first, -1
    where a list has ended · ms: contender -> float64[n], nan where it was not measured."""

    customers: list[str]
    shown: Mapping[str, Ints]
    ms: Mapping[str, Floats]

    @classmethod
    def of(cls, predictions: pa.Table, names: Sequence[str], articles: Articles, where: str) -> Lists:
        """Read a step's PREDICTIONS.

        Raises:
            DataError: a contender has no list for a customer that another has one for, or two; or a list names an
                article that the log does not know.
        """
        customers = sorted(set(predictions["customer_id"].to_pylist()))
        shown, ms = {}, {}
        for name in names:
            mine = predictions.filter(pc.equal(predictions["contender"], name)).sort_by("customer_id")
            if mine["customer_id"].to_pylist() != customers:
                raise DataError(
                    f"{name} has {mine.num_rows} lists for {len(customers)} customers; each contender needs one list "
                    "for each customer: remove the ledger and run the backtest again",
                    file=where,
                )
            lists = mine["article_ids"].combine_chunks()
            ends = np.cumsum(pc.list_value_length(lists).to_numpy())
            shown[name] = _padded(articles.rows(lists.flatten(), where), ends)
            ms[name] = mine["ms"].cast(pa.float64()).to_numpy()
        return cls(customers, shown, ms)

    def check(self, known: Mask, articles: Articles, cut: datetime) -> None:
        """That nobody shows what nobody could know.

        Raises:
            DataError: an article is shown that was not known strictly before the cut.
        """
        for name, rows in self.shown.items():
            ahead = rows[(rows >= 0) & ~known[rows]]
            if len(ahead):
                raise DataError(
                    f"{name} shows article {articles.ids[int(ahead[0])]!r} at {cut.isoformat()}, when nobody had heard "
                    "of it: its bundle knows the future, so nothing that it scores means anything"
                )

    def bought(self, purchases: pa.Table, known: Mask, articles: Articles) -> Bought:
        """What there was to find, of `reveal.PURCHASES`."""
        row = {customer: n for n, customer in enumerate(self.customers)}
        who = np.array([row.get(customer, -1) for customer in purchases["customer_id"].to_pylist()], np.int64)
        what = articles.rows(purchases["article_id"], "the log's events")
        asked, possible = who >= 0, known[what]
        keys = who * len(articles) + what
        use = np.flatnonzero(asked & possible)
        use = use[np.argsort(keys[use])]
        truth, rows = Truth(self.customers, len(articles), keys[use]).of_purchases(np.ones(len(use), np.bool_))
        return Bought(
            truth,
            rows,
            purchases["channel"].take(pa.array(use)).to_pylist(),
            len(pc.unique(purchases["customer_id"].filter(pa.array(~asked)))),
            int((asked & ~possible).sum()),
        )


@dataclass(frozen=True, eq=False)
class Bought:
    """truth: of the asked customers and the articles known at the cut; who bought none of these is not in it · rows: of
    its customers in the lists, int64[m] · channels: of its purchases, in the order of its keys, None where unknown ·
    not_asked: customers who bought and were not asked · unknown: purchases of articles not known at the cut."""

    truth: Truth
    rows: Ints
    channels: Sequence[int | None]
    not_asked: int
    unknown: int


def _padded(rows: Ints, ends: Ints) -> Ints:
    """Lists that lie one after the other, each up to its end, as one matrix filled up with -1."""
    lengths = np.diff(ends, prepend=0)
    padded = np.full((len(ends), max(int(lengths.max(initial=0)), 1)), -1, np.int64)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = rows
    return padded
