"""The synthetic fashion world as a data set: purchases to the second, and views.

`--path` is a directory that `modiste offline data synthesize` wrote; without it a small world is made once, under
data_dir. The same directory read as `hm` gives the purchases alone, by days, as from Kaggle's files. Articles and
customers are read as H&M's are; what is particular to it:

- Times are to the second, and views come as events of type `view`, of quantity 1 and without a price.
- Event ids are type-time-customer-article, and the log numbers the repeats.
- Impressions, propensities and the best answer are not events: read them from the directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from infra.settings import load_settings
from offline.sources.base import SOURCE_EVENT_SCHEMA, Findings
from offline.sources.hm import HM
from offline.sources.tables import RawBatch, find_table, read_batches, row_count
from offline.world.files import read_world, write_world
from offline.world.settings import WorldSize

DEFAULT_SIZE = WorldSize()


class Synthetic:
    """The data set as a `Source`. `path` is a written world; None for the default one, made where it is missing."""

    name = "synthetic"
    description = "a synthetic fashion world with seasons, launches, views and a known best answer"
    revision = 1

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            path = load_settings().data_dir / "synthetic-world"
            if not path.exists() or read_world(path).size != DEFAULT_SIZE:
                write_world(DEFAULT_SIZE, path)
        read_world(path)
        self._directory = path
        self._tables = HM(path)

    @property
    def files(self) -> tuple[Path, ...]:
        articles, customers, transactions = self._tables.files
        return articles, customers, self._views, transactions

    @property
    def _views(self) -> Path:
        return find_table(self._directory, "views")

    @property
    def event_rows(self) -> int | None:
        counts = [row_count(path) for path in self.files[2:]]
        return None if None in counts else sum(count or 0 for count in counts)

    def articles(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        return self._tables.articles(findings)

    def customers(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        return self._tables.customers(findings)

    def events(self, findings: Findings, known_articles: pa.Array | None) -> Iterator[pa.RecordBatch]:
        for path, kind, optional in (
            (self._views, "view", ()),
            (self.files[-1], "purchase", ("price", "sales_channel_id")),
        ):
            for first, batch in read_batches(path, ("occurred_at", "customer_id", "article_id", *optional)):
                raw = RawBatch(batch, first, path.name, findings)
                moment = raw.moment("occurred_at")
                customer, article = raw.ids("customer_id"), raw.ids("article_id")
                raw.known("article_id", article, known_articles, "the article table")
                second = pc.strftime(pc.floor_temporal(moment, unit="second"), "%Y%m%dT%H%M%S")
                finished = {
                    "event_id": pc.binary_join_element_wise(kind, second, customer, article, "-"),
                    "type": pa.repeat(kind, len(raw.rows)),
                    "occurred_at": moment,
                    "customer_id": customer,
                    "article_id": article,
                    "quantity": pa.repeat(pa.scalar(1, pa.int32()), len(raw.rows)),
                    "row": pa.array(raw.rows),
                }
                if optional:
                    finished["price"] = raw.price("price")
                    finished["sales_channel_id"] = raw.whole("sales_channel_id", "channels", 0, 127, required=False)
                yield raw.finish(finished, SOURCE_EVENT_SCHEMA)
