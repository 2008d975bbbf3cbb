"""Named checks over an event log: that it is what its manifest says, and what training relies on."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.errors import DataError
from offline.article_file import versions
from offline.day_files import hash_table
from offline.event_log import EventLog, fingerprint
from offline.sources.base import ARTICLE_SCHEMA, CUSTOMER_SCHEMA, EVENT_SCHEMA, EXAMPLES, CollectAll, Source
from offline.sources.tables import MAX_QUANTITY
from offline.validate import Validation, validate_source, verdicts
from streams.events import EVENT_TYPES, id_key

LOG_CHECKS = {
    "columns": "every file is readable and has the columns of its table",
    "ids_present": "no id is empty",
    "ids_unique": "no event, article or customer appears twice",
    "types": f"event types are {', '.join(EVENT_TYPES)}",
    "dates": "events lie on the day their file is named after",
    "prices": "prices are finite numbers >= 0",
    "quantities": f"quantities are whole numbers from 1 to {MAX_QUANTITY}",
    "known_articles": "every article of an event is in the article table",
    "sorted": "events are in (occurred_at, event_id) order",
    "counts": "rows are as many as the manifest says",
    "content": "values are those the manifest's hash was made of",
    "source": "the log was made of the source's files as they are now, and has as many rows",
}


def validate_log(path: Path, source: Source | None = None) -> Validation:
    """Check the event log in the directory `path`, and that it was made of `source` where one is given.

    Memory: one day of events, 8 bytes for each event of the log, and the ids of articles (each version) and customers.

    Raises:
        DataError: there is no event log.
    """
    log = EventLog(path)
    checker = _LogChecker(log)
    checker.run(source)
    skipped = () if source is not None else ("source",)
    checks = {name: text for name, text in LOG_CHECKS.items() if name not in skipped}
    return Validation(str(path), verdicts(checks, checker.findings), checker.counts, log.manifest.notes)


class _LogChecker:
    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.findings = CollectAll()
        self.counts = {"articles": 0, "customers": 0, "events": 0, "days": 0}
        self._digest = hashlib.sha256()

    def run(self, source: Source | None) -> None:
        known = self._check_articles(self.log.path / "articles.parquet")
        self._check_customers(self._read(self.log.path / "customers.parquet", CUSTOMER_SCHEMA))
        keys = [np.empty(0, np.uint64)]
        for path in self.log.days:
            table = self._read(path, EVENT_SCHEMA)
            if table is not None:
                keys.append(self._check_day(path, table, known))
        self._check_keys(np.concatenate(keys))
        self._check_manifest()
        if source is not None:
            self._check_source(source)

    def _check_source(self, source: Source) -> None:
        manifest = self.log.manifest
        if (manifest.source, manifest.source_files) != (source.name, fingerprint(source)):
            self._file_error("source", "manifest.json", "the source's files changed since; import again")
        for name, rows in validate_source(source).counts.items():
            if rows != manifest.counts.get(name):
                reason = f"{manifest.counts.get(name)} {name}, the source has {rows} good ones; import again"
                self._file_error("source", "manifest.json", reason)

    def _read(self, path: Path, schema: pa.Schema) -> pa.Table | None:
        try:
            table = pq.ParquetFile(path).read(use_threads=False)
        except (pa.ArrowException, OSError) as error:
            self._file_error("columns", path.name, f"not a whole Parquet file: {error}")
            return None
        if not table.schema.equals(schema):
            self._file_error("columns", path.name, f"has {table.schema}, expected {schema}")
            return None
        return table

    def _check_articles(self, path: Path) -> pa.Array | None:
        """The ids of all articles, None where they cannot be read."""
        ids, since = [pa.array([], pa.string())], [pa.array([], pa.int64())]
        try:
            for table in versions(path):
                if not table.schema.equals(ARTICLE_SCHEMA):
                    self._file_error("columns", path.name, f"has {table.schema}, expected {ARTICLE_SCHEMA}")
                    return None
                hash_table(self._digest, table)
                ids.append(table["article_id"].combine_chunks())
                since.append(table["known_from"].combine_chunks().cast(pa.int64()))
        except DataError as error:
            self._file_error("columns", path.name, error.reason)
            return None
        everything = pa.concat_arrays(ids)
        known: pa.Array = pc.unique(everything)
        self.counts["articles"] = len(known)
        # An article may be there again with what was known of it later.
        versioned = pc.binary_join_element_wise(
            everything, pc.fill_null(pa.concat_arrays(since).cast(pa.string()), ""), "@", null_handling="replace"
        )
        self._check_ids(path.name, "article_id", everything, versioned)
        return known

    def _check_customers(self, table: pa.Table | None) -> None:
        if table is None:
            return
        hash_table(self._digest, table)
        self.counts["customers"] = table.num_rows
        ids = table["customer_id"].combine_chunks()
        self._check_ids("customers.parquet", "customer_id", ids, ids)

    def _check_ids(self, file: str, column: str, ids: pa.Array, unique: pa.Array) -> None:
        """No id is empty, and no two rows are equal in `unique`."""
        self._fail("ids_present", file, column, _empty(ids), values=ids, reason="an id is needed here")
        if pc.count_distinct(unique).as_py() != len(unique):
            order = np.argsort(np.asarray(unique.to_numpy(zero_copy_only=False), str), kind="stable")
            arranged = unique.take(pa.array(order))
            again = np.zeros(len(ids), bool)
            again[order[1:]] = pc.equal(arranged[1:], arranged[:-1]).to_numpy(zero_copy_only=False)
            mask = pa.array(again)
            self._fail("ids_unique", file, column, mask, values=ids, reason="seen in an earlier row")

    def _check_day(self, path: Path, table: pa.Table, known: pa.Array | None) -> npt.NDArray[np.uint64]:
        hash_table(self._digest, table)
        self.counts["events"] += table.num_rows
        self.counts["days"] += 1
        columns = {name: table[name].combine_chunks() for name in table.column_names}

        def fail(check: str, column: str, mask: pa.Array, reason: str) -> None:
            self._fail(check, path.name, column, mask, values=columns[column], reason=reason)

        for column in ("event_id", "customer_id", "article_id"):
            fail("ids_present", column, _empty(columns[column]), "an id is needed here")
        fail("types", "type", _not(pc.is_in(columns["type"], value_set=pa.array(EVENT_TYPES))), "unknown type")
        start = datetime.fromisoformat(path.stem).replace(tzinfo=UTC)
        kind = EVENT_SCHEMA.field("occurred_at").type
        times = columns["occurred_at"]
        inside = pc.and_(
            pc.greater_equal(times, pa.scalar(start, kind)),
            pc.less(times, pa.scalar(start + timedelta(days=1), kind)),
        )
        fail("dates", "occurred_at", _not(inside), "not on the day of this file")
        prices = columns["price"]
        sane = pc.and_(pc.is_finite(prices), pc.greater_equal(prices, 0.0))
        fail("prices", "price", pc.and_(pc.is_valid(prices), _not(sane)), "a price is a finite number >= 0")
        quantities = columns["quantity"]
        sane = pc.and_(pc.greater_equal(quantities, 1), pc.less_equal(quantities, MAX_QUANTITY))
        fail("quantities", "quantity", _not(sane), f"a whole number from 1 to {MAX_QUANTITY} is needed")
        if known is not None:
            unknown = _not(pc.is_in(columns["article_id"], value_set=known))
            fail("known_articles", "article_id", unknown, "no such article in articles.parquet")
        fail(
            "sorted",
            "event_id",
            pa.array(_out_of_order(times, columns["event_id"])),
            "before the row above it",
        )
        ids = columns["event_id"].to_pylist()
        return np.fromiter((id_key(name or "") for name in ids), np.uint64, len(ids))

    def _check_keys(self, keys: npt.NDArray[np.uint64]) -> None:
        """Across all days, by the very digest that customer state tells duplicates by."""
        values, seen = np.unique(keys, return_counts=True)
        if len(values) == len(keys):
            return
        twice = set(values[seen > 1].tolist())
        met: set[int] = set()
        for path in self.log.days:
            ids = pq.ParquetFile(path).read(["event_id"])["event_id"].combine_chunks()
            again = np.zeros(len(ids), bool)
            for row, name in enumerate(ids.to_pylist()):
                key = id_key(name or "")
                if key in twice:
                    again[row] = key in met
                    met.add(key)
            self._fail(
                "ids_unique",
                path.name,
                "event_id",
                pa.array(again),
                values=ids,
                reason="seen in an earlier row",
            )

    def _check_manifest(self) -> None:
        for name, found in self.counts.items():
            stated = self.log.manifest.counts.get(name)
            if stated != found:
                self._file_error("counts", "manifest.json", f"{stated} {name}, found {found}")
        if self._digest.hexdigest() != self.log.content_hash:
            self._file_error("content", "manifest.json", "the values are not those that were imported")

    def _fail(self, check: str, file: str, column: str, mask: pa.Array, *, values: pa.Array, reason: str) -> None:
        at = np.flatnonzero(np.asarray(mask.to_numpy(zero_copy_only=False), bool))
        if len(at):
            shown = values.take(pa.array(at[:EXAMPLES])).to_pylist()
            self.findings.add(check, reason, file=file, column=column, rows=at.astype(np.int64) + 1, values=shown)

    def _file_error(self, check: str, file: str, reason: str) -> None:
        self.findings.add_error(check, DataError(reason, file=file))


def _not(mask: pa.Array) -> pa.Array:
    return pc.invert(pc.fill_null(mask, False))


def _empty(ids: pa.Array) -> pa.Array:
    return pc.fill_null(pc.equal(pc.utf8_length(ids), 0), True)


def _out_of_order(times: pa.Array, ids: pa.Array) -> npt.NDArray[np.bool_]:
    wrong = np.zeros(len(ids), bool)
    if len(ids) > 1:
        micros = times.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        smaller = pc.fill_null(pc.less(ids[1:], ids[:-1]), False).to_numpy(zero_copy_only=False)
        wrong[1:] = (micros[1:] < micros[:-1]) | ((micros[1:] == micros[:-1]) & smaller)
    return wrong
