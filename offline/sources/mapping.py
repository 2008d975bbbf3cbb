"""Any shop's own log: CSV or Parquet files whose columns a small TOML names (`mapping.example.toml`).

What is particular to it:

- Without an articles file the articles are those that occur in good events, with nothing but their ids, each known
  from its first event on; the events are then read twice. What an articles file says was always known.
- Event ids are type-microseconds-customer-article unless a column has them, and the log numbers the repeats. A
  column's ids must be unique over all files; checking that holds 16 bytes an event.
- Values of the type column that the TOML does not explain are errors; explained ones may be left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import ConfigurationError, DataError
from offline.sources.base import (
    ARTICLE_SCHEMA,
    CUSTOMER_SCHEMA,
    EXAMPLES,
    SOURCE_EVENT_SCHEMA,
    CollectAll,
    Findings,
)
from offline.sources.first_met import bare_articles, first_met
from offline.sources.hm import age_bands
from offline.sources.mapping_spec import FILE_NAME, EventColumns, ShopMapping, TableColumns, load_mapping
from offline.sources.tables import MAX_QUANTITY, RawBatch, UniqueIds, read_batches, row_count
from streams.events import EVENT_TYPES, id_key

# An event id has at most 128, and the log may add a number.
_LONGEST_EVENT_ID = 118


class Mapping:
    """The data set as a `Source`. `path` is the TOML, or a directory with `mapping.toml`."""

    name = "mapping"
    description = "a shop's own CSV or Parquet files, explained by a TOML given by --path"
    revision = 2

    def __init__(self, path: Path | None) -> None:
        if path is None:
            raise ConfigurationError(
                f"mapping needs --path, a TOML that names files and columns (or a directory with {FILE_NAME}); "
                "offline/sources/mapping.example.toml explains every key"
            )
        self.mapping: ShopMapping = load_mapping(path)

    @property
    def files(self) -> tuple[Path, ...]:
        tables = (self.mapping.articles, self.mapping.customers)
        names = [table.file for table in tables if table is not None]
        return (self.mapping.path, *(self._file(name) for name in (*names, *self.mapping.events.file)))

    @property
    def event_rows(self) -> int | None:
        counts = [row_count(self._file(name)) for name in self.mapping.events.file]
        return None if None in counts else sum(count or 0 for count in counts)

    def _file(self, name: str) -> Path:
        path = self.mapping.directory / name
        if not path.is_file():
            raise DataError(f"no such file, though {self.mapping.path.name} names it", file=str(path))
        return path

    def articles(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        spec = self.mapping.articles
        if spec is None:
            yield self._occurring()
            return
        yield from self._table(spec, "article_id", ARTICLE_SCHEMA, findings)

    def customers(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        if self.mapping.customers is not None:
            yield from self._table(self.mapping.customers, "customer_id", CUSTOMER_SCHEMA, findings)

    def _table(self, spec: TableColumns, key: str, schema: pa.Schema, findings: Findings) -> Iterator[pa.RecordBatch]:
        theirs = [spec.id, *(name for names in spec.columns.values() for name in names)]
        if spec.age is not None:
            theirs.append(spec.age)
        path = self._file(spec.file)
        unique = UniqueIds(key, path.name, findings)
        for first, batch in read_batches(path, list(dict.fromkeys(theirs)), separator=spec.separator):
            raw = RawBatch(batch, first, path.name, findings)
            finished = {key: raw.ids(spec.id)}
            for ours, names in spec.columns.items():
                parts = [raw.price(names[0]) if ours == "price" else raw.text(part) for part in names]
                finished[ours] = _joined(parts) if len(parts) > 1 else parts[0]
            if spec.age is not None:
                finished["age_band"] = age_bands(raw.whole(spec.age, "ids_valid", 0, 150, required=False))
            yield unique.add(raw, raw.finish(finished, schema))
        unique.check()

    def _occurring(self) -> pa.RecordBatch:
        # What is wrong is told when the events are read for themselves.
        return bare_articles(first_met(self.events(CollectAll(), None)))

    def events(self, findings: Findings, known_articles: pa.Array | None) -> Iterator[pa.RecordBatch]:
        spec = self.mapping.events
        optional = (spec.type_column, spec.event_id, spec.price, spec.quantity, spec.channel)
        columns = dict.fromkeys([spec.customer, spec.article, spec.time, *filter(None, optional)])
        ids = _GivenIds(spec.event_id, findings) if spec.event_id is not None else None
        before = 0
        for name in spec.file:
            path = self._file(name)
            rows = 0
            for first, batch in read_batches(path, list(columns), separator=spec.separator):
                raw = RawBatch(batch, first, path.name, findings)
                rows += len(raw.rows)
                finished = self._event_columns(raw, spec, known_articles)
                finished["row"] = pa.array(raw.rows + before)
                done = raw.finish(finished, SOURCE_EVENT_SCHEMA)
                if ids is not None:
                    ids.add(raw, done)
                yield done
            before += rows
        if ids is not None:
            ids.check()

    def _event_columns(self, raw: RawBatch, spec: EventColumns, known_articles: pa.Array | None) -> dict[str, pa.Array]:
        kind = _types(raw, spec)
        moment = raw.moment_as(spec.time, spec.time_format)
        customer, article = raw.ids(spec.customer), raw.ids(spec.article)
        articles = self.mapping.articles
        if articles is not None and articles.unknown == "ignore" and known_articles is not None:
            unknown = pc.and_(pc.is_valid(article), pc.invert(pc.is_in(article, value_set=known_articles)))
            raw.drop(unknown, "events of articles that are not in the article table left out")
        raw.known(spec.article, article, known_articles, "the article table")
        finished = {"type": kind, "occurred_at": moment, "customer_id": customer, "article_id": article}
        pieces = pa.repeat(pa.scalar(1, pa.int64()), len(raw.rows))
        if spec.quantity is not None:
            given = raw.whole(spec.quantity, "quantities", 1, MAX_QUANTITY, required=False)
            pieces = pc.fill_null(given, 1)
        finished["quantity"] = pieces
        if spec.price is not None:
            price = raw.price(spec.price)
            finished["price"] = pc.multiply(price, pieces.cast(pa.float64())) if spec.price_of == "piece" else price
        if spec.channel is not None:
            finished["sales_channel_id"] = raw.whole(spec.channel, "channels", 0, 127, required=False)
        if spec.event_id is not None:
            finished["event_id"] = raw.ids(spec.event_id)
        else:
            micros = moment.cast(pa.int64()).cast(pa.string())
            made = pc.binary_join_element_wise(kind, micros, customer, article, "-")
            too_long = pc.fill_null(pc.greater(pc.utf8_length(made), _LONGEST_EVENT_ID), False)
            raw.fail("ids_valid", spec.customer, too_long, customer, "too long to make an event id of; name event_id")
            finished["event_id"] = made
        return finished


def _types(raw: RawBatch, spec: EventColumns) -> pa.Array:
    if spec.type_column is None:
        return pa.repeat(spec.type, len(raw.rows))
    given = raw.text(spec.type_column)
    meanings = spec.types or {name: name for name in EVENT_TYPES}
    at = pc.index_in(given, value_set=pa.array(list(meanings), pa.string()))
    allowed = f"what that means is not said in [events.types], which knows {', '.join(meanings)}"
    raw.fail("types", spec.type_column, pc.is_null(at), given, allowed)
    kinds = pa.array(list(meanings.values()), pa.string()).take(at)
    for value in [value for value, meaning in meanings.items() if meaning == "ignore"]:
        raw.drop(pc.equal(given, value), f"events of type {value} left out")
    return kinds


def _joined(parts: list[pa.Array]) -> pa.Array:
    joined = pc.binary_join_element_wise(*parts, " · ", null_handling="skip")
    return pc.if_else(pc.equal(joined, ""), pa.scalar(None, pa.string()), joined)


class _GivenIds:
    """Tells event ids that come a second time, by the digest that customer state tells duplicates by."""

    def __init__(self, column: str, findings: Findings) -> None:
        self._column = column
        self._findings = findings
        self._keys: list[npt.NDArray[np.uint64]] = []
        self._rows: list[npt.NDArray[np.int64]] = []
        self._files: list[str] = []

    def add(self, raw: RawBatch, done: pa.RecordBatch) -> None:
        ids = done.column("event_id").to_pylist()
        self._keys.append(np.fromiter(map(id_key, ids), np.uint64, len(ids)))
        self._rows.append(raw.rows[raw.good])
        self._files.append(raw.file)

    def check(self) -> None:
        """Report the rows whose id stands in an earlier one, in the file where that happens first."""
        keys = np.concatenate([np.empty(0, np.uint64), *self._keys])
        order = np.argsort(keys, kind="stable")
        again = np.zeros(len(keys), bool)
        again[order[1:]] = keys[order[1:]] == keys[order[:-1]]
        start = 0
        for rows, file in zip(self._rows, self._files, strict=True):
            wrong = rows[again[start : start + len(rows)]]
            start += len(rows)
            if len(wrong):
                reason = "the event id of an earlier row; leave event_id out and ids are made"
                shown = [f"row {row}" for row in wrong[:EXAMPLES].tolist()]
                self._findings.add("ids_unique", reason, file=file, column=self._column, rows=wrong, values=shown)
