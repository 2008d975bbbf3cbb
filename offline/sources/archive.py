"""The archive of live topics as a data set: what happened since, on top of what an older event log holds.

`--path` is the archive's directory (default: `archive` below data_dir). Its segments are compacted first, so a late
event stands in its day and a repeated one stands once. What is particular to it:

- Articles are those of the base, then what the topic `articles` says of them (the last message counts, and always held:
  a bundle must offer what the shop sells now), then whatever was met that neither names: such an article has an id and
  nothing else, and is known from its first event on.
- `--base` is an event log whose articles, customers and events come before the archive's; or a folder with
  articles.csv or articles.parquet in the event log's columns, a catalogue without a history. An event of the base that
  the archive holds too is read once.
- In a replay (clock.origin) the base is read up to the moment at which the replay began: what follows in it is what
  the live topics are about to tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import ConfigurationError, DataError
from infra.settings import load_settings
from offline.sources.base import ARTICLE_FACTS, ARTICLE_SCHEMA, CUSTOMER_SCHEMA, SOURCE_EVENT_SCHEMA, Findings
from offline.sources.first_met import first_met
from offline.sources.tables import RawBatch, find_table, read_batches
from streams.archive import TopicArchive, read_rows
from streams.archive_compaction import compact
from streams.topics import ARTICLES, TRANSACTIONS

_TEXT = tuple(name for name in ARTICLE_FACTS if name != "price")
_FIRST = pa.scalar(datetime(1990, 1, 1, tzinfo=UTC), pa.timestamp("us", "UTC"))
_EVENT_FIELDS = tuple(name for name in SOURCE_EVENT_SCHEMA.names if name != "row")


class ArticleMessage(msgspec.Struct, frozen=True):
    """What the adapter reads of a message on `articles`; attributes are named as the event log's columns."""

    price: float | None = None
    text: str | None = None
    attributes: dict[str, Any] = {}


class Archive:
    """The archive as a `Source`."""

    name = "archive"
    description = "what the archiver wrote from the live topics, on top of a base event log"
    revision = 2

    def __init__(self, path: Path | None = None, base: Path | None = None) -> None:
        settings = load_settings()
        self._path = path or settings.data_dir / "archive"
        self._base = None if base is None else _Base(base, settings.clock.origin)
        self._events = TopicArchive(self._path, TRANSACTIONS)
        self._messages = TopicArchive(self._path, ARTICLES)
        if not self._events.path.is_dir():
            raise ConfigurationError(
                f"no archive of {TRANSACTIONS} in {self._path}; `modiste streams archiver` writes one while events flow"
            )
        for archive in (self._events, self._messages):
            compact(archive)
        self._event_files = self._events.day_files()
        self._message_files = self._messages.day_files()

    @property
    def files(self) -> tuple[Path, ...]:
        base = () if self._base is None else self._base.files
        return (*base, *self._message_files, *self._event_files)

    @property
    def event_rows(self) -> int | None:
        return None

    def articles(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        known: dict[str, list[dict[str, Any]]] = {}  # the versions of each article
        if self._base is not None:
            for batch in self._base.articles(findings):
                for row in batch.to_pylist():
                    known.setdefault(row["article_id"], []).append(row)
        for path in self._message_files:
            for key, value in zip(*(read_rows(path)[name].to_pylist() for name in ("key", "value")), strict=True):
                article_id = (key or b"").decode(errors="replace")
                try:
                    message = msgspec.json.decode(value or b"", type=ArticleMessage)
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    # Also a removal: what was bought keeps what is known of it.
                    findings.notes["article messages that tell nothing"] += 1
                    continue
                if 0 < len(article_id) <= 128:
                    known[article_id] = [_told(known.get(article_id, [{}])[-1], article_id, message)]
        for row in first_met(batch for path in self._event_files for batch in read_rows(path).to_batches()).to_pylist():
            known.setdefault(row["article_id"], [row])
        rows = [row for versions in known.values() for row in versions]
        yield from pa.Table.from_pylist(rows, ARTICLE_SCHEMA).to_batches()

    def customers(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        del findings
        if self._base is not None:
            yield from self._base.customers()

    def events(self, findings: Findings, known_articles: pa.Array | None) -> Iterator[pa.RecordBatch]:
        del known_articles  # every article of an event is in the table
        row = 0
        for batch in self._without_repeats(findings):
            yield batch.append_column(SOURCE_EVENT_SCHEMA.field("row"), pa.array(range(row, row + batch.num_rows)))
            row += batch.num_rows

    def _without_repeats(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        if self._base is not None:
            archived = [_names(read_rows(path)) for path in self._event_files]
            here = pa.concat_arrays(archived) if archived else pa.array([], pa.string())
            for batch in self._base.events():
                again = pc.is_in(_names(pa.Table.from_batches([batch])), value_set=here)
                findings.notes["events of the base that the archive holds too"] += pc.sum(again).as_py() or 0
                yield batch.filter(pc.invert(again)).select(_EVENT_FIELDS)
        for path in self._event_files:
            table = read_rows(path).select(_EVENT_FIELDS)
            old = pc.less(table["occurred_at"], _FIRST)
            findings.notes["events before 1990"] += pc.sum(old).as_py() or 0
            yield from table.filter(pc.invert(old)).combine_chunks().to_batches()


class _Base:
    """What came before the archive: an event log, or a catalogue alone."""

    def __init__(self, path: Path, until: datetime | None) -> None:
        # The event log imports its sources, so it is looked up when one of them reads another log.
        from offline.event_log import EventLog

        self._until = until
        self._log = EventLog(path) if (path / "manifest.json").is_file() else None
        self._table = None if self._log is not None else find_table(path, "articles")

    @property
    def files(self) -> tuple[Path, ...]:
        return (self._log.path / "manifest.json",) if self._log is not None else (self._articles_file,)

    @property
    def _articles_file(self) -> Path:
        if self._table is None:
            raise DataError("no catalogue")
        return self._table

    def articles(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        if self._log is not None:
            for part in self._log.article_versions():
                yield from part.to_batches()
            return
        file = self._articles_file
        for first, batch in read_batches(file, ("article_id",), (*_TEXT, "price")):
            raw = RawBatch(batch, first, file.name, findings)
            columns = {name: raw.text(name) for name in _TEXT} | {"article_id": raw.ids("article_id")}
            if "price" in batch.schema.names:
                columns["price"] = raw.price("price")
            yield raw.finish(columns, ARTICLE_SCHEMA)

    def customers(self) -> Iterator[pa.RecordBatch]:
        if self._log is not None:
            yield from self._log.customers().cast(CUSTOMER_SCHEMA).to_batches()

    def events(self) -> Iterator[pa.RecordBatch]:
        if self._log is not None:
            yield from self._log.scan(until=self._until)


def _names(table: pa.Table) -> pa.Array:
    """A customer's event in one string."""
    joined = pc.binary_join_element_wise(table["customer_id"], table["event_id"], "\x1f")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def _told(before: dict[str, Any], article_id: str, message: ArticleMessage) -> dict[str, Any]:
    """An article after a message: what it does not say stays."""
    said = {name: str(message.attributes[name]) for name in _TEXT if message.attributes.get(name) is not None}
    if message.text:
        said["text"] = message.text
    price = {"price": message.price} if message.price is not None and message.price >= 0 else {}
    return {**before, "article_id": article_id, "known_from": None, **said, **price}
