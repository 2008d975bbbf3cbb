"""What the log had told of customers and articles before a moment that only moves forward.

One pass over the log serves all steps of a backtest. What is held grows with customers and articles and with what is
bought in RECENT, not with the length of the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import DataError
from offline.event_log import EventLog
from offline.metrics import Floats, Ints
from streams.distinct import distinct
from streams.events import to_micros

Mask = npt.NDArray[np.bool_]

RECENT = timedelta(days=60)
POPULAR = 0.01  # of the known articles
ALWAYS = -(2**63)


@dataclass(frozen=True, eq=False)
class Articles:
    """All articles of a log, rows in the order of their ids.

    category: int64[n] into `categories`, -1 where unknown · known_from: int64[n] microseconds, ALWAYS where no time is
    told; known at a cut is what was known strictly before it.
    """

    ids: list[str]
    index: dict[str, int]
    category: Ints
    categories: list[str]
    known_from: Ints

    @classmethod
    def of(cls, log: EventLog) -> Articles:
        table = log.articles()
        ids: list[str] = table["article_id"].to_pylist()
        names = table["category"].combine_chunks().dictionary_encode()
        category = pc.fill_null(names.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
        since = pc.fill_null(table["known_from"].cast(pa.int64()), ALWAYS).to_numpy()
        return cls(ids, {name: row for row, name in enumerate(ids)}, category, names.dictionary.to_pylist(), since)

    def __len__(self) -> int:
        return len(self.ids)

    def known(self, cut: datetime) -> Mask:
        """bool[n]: of which articles anything was known strictly before the cut."""
        return self.known_from < to_micros(cut)

    def rows(self, ids: pa.Array | pa.ChunkedArray, where: str) -> Ints:
        """Row of each id.

        Raises:
            DataError: an id that the log does not know.
        """
        coded = (ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids).dictionary_encode()
        names = coded.dictionary.to_pylist()
        unknown = sorted({name for name in names if name not in self.index})
        if unknown:
            raise DataError(f"article {unknown[0]!r} is not in the log's articles", file=where, column="article_id")
        place = np.array([self.index[name] for name in names], np.int64)
        return place[coded.indices.to_numpy()] if len(place) else np.empty(0, np.int64)


class Known:
    """Purchases strictly before a cut, which `advance` moves; before the first `advance` nothing is known.

    articles: bool[n_articles], which are known · ever_bought: bool[n_articles], which anybody had bought.
    """

    def __init__(self, log: EventLog, articles: Articles) -> None:
        self._log, self._articles = log, articles
        self._row: dict[str, int] = {}
        self._window: deque[tuple[Ints, Ints, Ints]] = deque()  # times, customers, articles of some purchases
        self._cut: datetime | None = None
        self.ever_bought = np.zeros(len(articles), np.bool_)
        self.articles = np.zeros(len(articles), np.bool_)

    def advance(self, cut: datetime) -> None:
        """Take in what happened before `cut`.

        Raises:
            ValueError: the cut lies before the last one.
        """
        if self._cut is not None and cut < self._cut:
            raise ValueError(f"cut {cut} lies before {self._cut}; what is known does not become unknown")
        for batch in self._log.scan(self._cut, cut):
            bought = batch.filter(pc.equal(batch["type"], "purchase"))
            coded = bought["customer_id"].dictionary_encode()
            names = coded.dictionary.to_pylist()
            place = np.array([self._row.setdefault(name, len(self._row)) for name in names], np.int64)
            if not len(place):
                continue
            articles = self._articles.rows(bought["article_id"], str(self._log.path))
            times = bought["occurred_at"].cast(pa.int64()).to_numpy()
            self.ever_bought[articles] = True
            self._window.append((times, place[coded.indices.to_numpy()], articles))
        self._cut = cut
        self.articles = self._articles.known(cut)
        start = to_micros(cut - RECENT)
        while self._window and self._window[0][0][-1] < start:
            self._window.popleft()

    def segments(self, customers: Sequence[str]) -> dict[str, Mask]:
        """Masks bool[n] by name; everyone is in exactly one.

        new: bought nothing before the cut · lapsed: nothing in RECENT before it · frequent: of all customers who bought
        in RECENT, judged or not, the third with the most purchases, or fewer where the third would part equals · other.
        """
        bought = np.bincount(self._recent()[0], minlength=len(self._row))
        row = np.array([self._row.get(customer, -1) for customer in customers], np.int64)
        count = np.where(row >= 0, np.append(bought, 0)[row], 0)
        new, lapsed = row < 0, (row >= 0) & (count == 0)
        frequent = count >= _third(bought[bought > 0])
        return {"new": new, "lapsed": lapsed, "frequent": frequent, "other": ~(new | lapsed | frequent)}

    def share(self) -> Floats:
        """Of the customers who bought in RECENT, the share who bought each article, float64[n_articles], counted as if
        one more had bought everything: so nothing is infinitely surprising."""
        customers, articles = self._recent()
        pairs = distinct(customers * len(self._articles) + articles)
        buyers = np.bincount(pairs % len(self._articles), minlength=len(self._articles))
        return np.asarray((buyers + 1) / (len(distinct(customers)) + 1))

    def popular(self) -> Mask:
        """bool[n_articles]: the POPULAR share of the known articles that was bought most in RECENT; of equals the first
        by id, and never one that nobody bought."""
        counts = np.bincount(self._recent()[1], minlength=len(self._articles))
        many = max(1, round(POPULAR * int(self.articles.sum())))
        mask = np.zeros(len(counts), np.bool_)
        mask[np.argsort(-counts, kind="stable")[:many]] = True
        return mask & (counts > 0)

    def _recent(self) -> tuple[Ints, Ints]:
        """Customers and articles of the purchases in RECENT before the cut."""
        if self._cut is None or not self._window:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        times, customers, articles = (np.concatenate(part) for part in zip(*self._window, strict=True))
        use = times >= to_micros(self._cut - RECENT)
        return customers[use], articles[use]


def _third(counts: Ints) -> int:
    """The least number that at most a third of the counts reach."""
    if not len(counts):
        return 1
    ordered = np.sort(counts)[::-1]
    return int(ordered[len(ordered) // 3]) + 1
