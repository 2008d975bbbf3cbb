"""The files of Kaggle's "H&M Personalized Fashion Recommendations": articles, customers, transactions_train.

Each is read as CSV or Parquet, mixed as they come. What is particular to it:

- Article ids have 10 digits with leading zeros in the article table, and often lost the zeros among the
  transactions (numbers, or strings of numbers). Both are padded to 10.
- Times have the resolution of a day: `t_dat` becomes 00:00 UTC.
- One row is one piece. Rows that are alike are pieces bought together, so each stays an event of its own: the
  event id is date-customer-article, and the log numbers the repeats.
- Prices are as published, scaled by H&M to no currency.
- Many buyers have no customer row.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import ConfigurationError
from offline.sources.base import ARTICLE_SCHEMA, CUSTOMER_SCHEMA, SOURCE_EVENT_SCHEMA, Findings
from offline.sources.tables import RawBatch, UniqueIds, find_table, read_batches, row_count

ID_DIGITS = 10
# H&M's have 64; the event id adds a date, the article and a running number, and must stay within 128.
_LONGEST_CUSTOMER_ID = 100
# Upper ends of the age bands; the last is open.
_AGE_BANDS = ((24, "16-24"), (34, "25-34"), (44, "35-44"), (54, "45-54"), (64, "55-64"))
_OLDEST_BAND = "65+"


class HM:
    """The data set as a `Source`. `path` is the directory that holds the three files."""

    name = "hm"
    description = "H&M Personalized Fashion Recommendations: the Kaggle files, given by --path"
    revision = 1

    def __init__(self, path: Path | None) -> None:
        if path is None:
            raise ConfigurationError(
                "the source hm needs --path DIR, the directory with articles, customers and "
                "transactions_train (.csv or .parquet)"
            )
        self._directory = path

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(map(self._file, ("articles", "customers", "transactions_train")))

    @property
    def event_rows(self) -> int | None:
        return row_count(self._file("transactions_train"))

    def _file(self, stem: str) -> Path:
        return find_table(self._directory, stem)

    def articles(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        file = self._file("articles")
        unique = UniqueIds("article_id", file.name, findings)
        named = {
            "product_code": "product_code",
            "title": "prod_name",
            "department": "department_name",
            "category": "product_group_name",
            "subcategory": "product_type_name",
            "colour": "colour_group_name",
            "text": "detail_desc",
        }
        for first, batch in read_batches(file, ("article_id", *named.values())):
            raw = RawBatch(batch, first, file.name, findings)
            finished = {ours: raw.text(theirs) for ours, theirs in named.items()}
            finished["article_id"] = _article_ids(raw)
            yield unique.add(raw, raw.finish(finished, ARTICLE_SCHEMA))
        unique.check()

    def customers(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        file = self._file("customers")
        unique = UniqueIds("customer_id", file.name, findings)
        optional = ("club_member_status", "fashion_news_frequency")
        for first, batch in read_batches(file, ("customer_id", "age"), optional):
            raw = RawBatch(batch, first, file.name, findings)
            finished = {
                "customer_id": raw.ids("customer_id", _LONGEST_CUSTOMER_ID),
                "age_band": age_bands(raw.whole("age", "ids_valid", 0, 150, required=False)),
                "membership": raw.text("club_member_status"),
                "news_frequency": raw.text("fashion_news_frequency"),
            }
            yield unique.add(raw, raw.finish(finished, CUSTOMER_SCHEMA))
        unique.check()

    def events(self, findings: Findings, known_articles: pa.Array | None) -> Iterator[pa.RecordBatch]:
        file = self._file("transactions_train")
        columns = ("t_dat", "customer_id", "article_id", "price")
        for first, batch in read_batches(file, columns, ("sales_channel_id",)):
            raw = RawBatch(batch, first, file.name, findings)
            moment = pc.floor_temporal(raw.moment("t_dat"), unit="day")
            customer, article = raw.ids("customer_id", _LONGEST_CUSTOMER_ID), _article_ids(raw)
            raw.known("article_id", article, known_articles, "the article table")
            finished = {
                "event_id": pc.binary_join_element_wise(pc.strftime(moment, "%Y%m%d"), customer, article, "-"),
                "type": pa.repeat("purchase", len(raw.rows)),
                "occurred_at": moment,
                "customer_id": customer,
                "article_id": article,
                "price": raw.price("price"),
                "quantity": pa.repeat(pa.scalar(1, pa.int32()), len(raw.rows)),
                "row": pa.array(raw.rows),
            }
            if "sales_channel_id" in batch.schema.names:
                finished["sales_channel_id"] = raw.whole("sales_channel_id", "channels", 0, 127, required=False)
            yield raw.finish(finished, SOURCE_EVENT_SCHEMA)


def _article_ids(raw: RawBatch) -> pa.Array:
    """The article ids with 10 digits; other forms are reported."""
    ids = raw.ids("article_id")
    odd = pc.fill_null(pc.invert(pc.match_substring_regex(ids, r"^[0-9]{1,10}$")), False)
    raw.fail("ids_valid", "article_id", odd, ids, f"an H&M article id has at most {ID_DIGITS} digits")
    return pc.utf8_lpad(ids, ID_DIGITS, "0")


def age_bands(ages: pa.Array) -> pa.Array:
    """Strings such as `25-34` of int64 ages in years; null stays null."""
    bands = pa.array([band for _, band in _AGE_BANDS] + [_OLDEST_BAND])
    index = pc.multiply(ages, 0)
    for limit, _ in _AGE_BANDS:
        index = pc.add(index, pc.cast(pc.greater(ages, limit), pa.int64()))
    return bands.take(index)
