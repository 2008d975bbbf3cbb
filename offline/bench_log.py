"""An event log of any length without any data set: random purchases of random articles, a day at a time.

A longer log has more days of the same customers at the same pace, and memory holds one day of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from offline.event_log import EventLog, import_source
from offline.sources.base import ARTICLE_SCHEMA, CUSTOMER_SCHEMA, SOURCE_EVENT_SCHEMA, Findings
from streams.events import to_micros

START = datetime(2000, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000
BASKET = 8  # articles that share a moment
SPREAD = 0.5  # of the customers' paces: e^N(0, SPREAD)


@dataclass(frozen=True)
class LogSize:
    """events = days * events_a_day."""

    customers: int
    articles: int
    days: int
    events_a_day: int


class RandomPurchases:
    """A `Source` of a `LogSize`; the ids of its articles are those of `offline.bench_shop`."""

    name = "random"
    description = "random purchases, for benchmarks"
    revision = 1
    files: tuple[Path, ...] = ()

    def __init__(self, size: LogSize, seed: int) -> None:
        self.size = size
        self._seed = seed

    @property
    def event_rows(self) -> int:
        return self.size.days * self.size.events_a_day

    def articles(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        del findings
        n = self.size.articles
        ids = pa.array(np.char.zfill(np.arange(n).astype(str), 10))
        columns = [ids if f.name == "article_id" else pa.nulls(n, f.type) for f in ARTICLE_SCHEMA]
        yield pa.RecordBatch.from_arrays(columns, schema=ARTICLE_SCHEMA)

    def customers(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        del findings
        n = self.size.customers
        ids = pa.array(np.char.add("c", np.arange(n).astype(str)))
        columns = [ids if f.name == "customer_id" else pa.nulls(n, f.type) for f in CUSTOMER_SCHEMA]
        yield pa.RecordBatch.from_arrays(columns, schema=CUSTOMER_SCHEMA)

    def events(self, findings: Findings, known_articles: pa.Array | None) -> Iterator[pa.RecordBatch]:
        """A batch a day: baskets at random moments of customers by pace, articles by popularity (Zipf)."""
        del findings, known_articles
        size, rng = self.size, np.random.default_rng(self._seed)
        pace = rng.lognormal(0.0, SPREAD, size.customers)
        weight = rng.permutation(1.0 / (np.arange(size.articles) + 30.0))
        start = to_micros(START)
        n = size.events_a_day
        baskets = -(-n // BASKET)
        for day in range(size.days):
            who = np.repeat(rng.choice(size.customers, baskets, p=pace / pace.sum()), BASKET)[:n]
            moment = np.repeat(rng.integers(0, DAY_US // 1_000_000, baskets), BASKET)[:n]
            article = rng.choice(size.articles, n, p=weight / weight.sum())
            columns = {
                "event_id": pa.array(np.char.add(f"{day}-", np.arange(n).astype(str))),
                "type": pa.repeat(pa.scalar("purchase"), n),
                "occurred_at": pa.array(start + day * DAY_US + moment * 1_000_000, pa.timestamp("us", "UTC")),
                "customer_id": pa.array(np.char.add("c", who.astype(str))),
                "article_id": pa.array(np.char.zfill(article.astype(str), 10)),
                "price": pa.array(np.round(rng.lognormal(3.0, 0.6, n), 2)),
                "quantity": pa.repeat(pa.scalar(1, pa.int32()), n),
                "sales_channel_id": pa.repeat(pa.scalar(1, pa.int8()), n),
                "row": pa.array(np.arange(day * n + 1, (day + 1) * n + 1)),
            }
            yield pa.RecordBatch.from_arrays(
                [columns[name] for name in SOURCE_EVENT_SCHEMA.names], schema=SOURCE_EVENT_SCHEMA
            )


def write_bench_log(directory: Path, size: LogSize, seed: int) -> EventLog:
    """The log in `directory`, through the import that makes real ones."""
    return import_source(RandomPurchases(size, seed), directory)
